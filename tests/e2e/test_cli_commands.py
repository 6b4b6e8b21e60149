"""Every command as a user types it: real processes against the sandbox, on every database."""

from __future__ import annotations

import json
import os
import pty
import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, text

from tests.support.canary import LOGIN
from tests.support.operator import Fault, Settings, World, running
from tests.support.processes import REPOSITORY, Daemon, cdrsync, daemon, environment, until

if TYPE_CHECKING:
    from tests.conftest import Database
    from tests.support.servers import Servers


@pytest.fixture
def world() -> World:
    """An operator with some calls of the last days."""
    made = World(Settings(), logins=[LOGIN], seed=11)
    made.add_history(calls=400, days=4)
    return made


@pytest.fixture
def env(api: str, file: Path) -> dict[str, str]:
    """The environment of a command with a SQLite database of its own."""
    return environment(api, f"sqlite:///{file}")


def answer(*args: str, env: dict[str, str], code: int = 0) -> dict[str, Any]:
    """Run a command with --json; check its code and the frame of its answer."""
    run = cdrsync(*args, "--json", env=env)
    assert (run.returncode, run.stderr if run.returncode not in (0, code) else "") == (code, "")
    document: dict[str, Any] = json.loads(run.stdout)
    assert document["version"] == 1
    return document


def test_sync_brings_everything_and_then_nothing(api: str, world: World, database: Database) -> None:
    """Every call once, on each database; the second run asks and finds nothing new. The example of the README."""
    env = environment(api, database.url)
    (account,) = answer("sync", env=env)["accounts"]
    assert (account["name"], account["inserted"], account["updated"], account["rejected"], account["error"]) == (
        "default",
        400,
        0,
        0,
        None,
    )
    assert account["high_water_uid"] == max(call.uid for call in world.records())
    engine = create_engine(database.url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*), count(DISTINCT uid) FROM cdr")).one() == (400, 400)
        assert connection.execute(text("SELECT origin, outcome, inserted FROM sync_run")).all() == [("sync", "ok", 400)]
    engine.dispose()
    before = world.counters()["documents"]
    (account,) = answer("sync", env=env)["accounts"]
    assert (account["inserted"], account["updated"]) == (0, 0)
    assert account["high_water_uid"] == max(call.uid for call in world.records())  # where it was
    assert world.counters()["documents"] - before == 1
    assert answer("audit", env=env)["accounts"][0]["proven"] is True
    assert answer("rejects", "list", env=env)["rejects"] == []
    (standing,) = answer("status", env=env)["accounts"]
    assert (standing["calls"], standing["changes"], {audit["verdict"] for audit in standing["audits"]}) == (
        400,
        0,
        {"complete"},
    )


def test_sync_says_in_one_line_what_it_did(env: dict[str, str]) -> None:
    """For people."""
    run = cdrsync("sync", env=env)
    assert run.stdout.startswith("default: 400 new, 0 changed, ")
    assert run.stderr == ""


def test_sync_does_every_account_although_one_fails(world: World, tmp_path: Path) -> None:
    """The exit code is that of the failure; the other account is held."""
    config = tmp_path / "cdrsync.toml"
    config.write_text(
        f'[accounts.bad]\nusername = "x"\n[accounts.good]\nusername = "{LOGIN.username}"\n', encoding="utf-8"
    )
    with running(world) as url:
        env = environment(url, f"sqlite:///{tmp_path / 'calls.db'}", config=str(config))
        del env["CDRSYNC_USERNAME"]
        bad, good = answer("sync", env=env, code=77)["accounts"]
    assert (bad["name"], bad["error"]["kind"], bad["error"]["exit_code"]) == ("bad", "LoginRefused", 77)
    assert set(bad) == set(good)
    assert [bad[key] for key in good if key not in ("name", "error")] == [None] * (len(good) - 2)
    assert (good["name"], good["inserted"]) == ("good", 400)


def test_sync_shows_progress_on_a_terminal(env: dict[str, str]) -> None:
    """A bar on standard error, nothing of it on standard output."""
    terminal, end = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "cdrsync", "sync"],
        env={**env, "TERM": "xterm", "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=end,
    ) as run:
        os.close(end)
        shown = b""
        while True:
            try:
                piece = os.read(terminal, 4096)
            except OSError:  # Linux says EIO where the last writer has gone
                break
            shown += piece
        out = run.stdout.read() if run.stdout else b""
    os.close(terminal)
    assert run.returncode == 0
    assert b"calls" in shown
    assert out.startswith(b"default: 400 new")


@pytest.mark.waits
@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"CDRSYNC_API_URL": "http://127.0.0.1:9/api/"}, 69, "127.0.0.1"),
        ({"CDRSYNC_DATABASE_URL": "postgresql+psycopg://u@127.0.0.1:9/x"}, 69, "database"),
        ({"CDRSYNC_DATABASE_URL": "sqlite:////nonexistent/x.db"}, 69, "database"),
        ({"CDRSYNC_VKEY": "another"}, 77, "allow-list"),
        ({"CDRSYNC_USERNAME": ""}, 78, "set CDRSYNC_USERNAME"),
    ],
)
def test_what_stands_in_the_way_is_one_line_and_a_code(
    change: dict[str, str], code: int, words: str, env: dict[str, str]
) -> None:
    """69 unreachable, 77 refused, 78 configuration; never a traceback."""
    run = cdrsync("sync", env={**env, **change})
    assert run.returncode == code
    assert words in run.stderr
    assert len([line for line in run.stderr.splitlines() if line.startswith("error: ")]) == 1
    assert "Traceback" not in run.stderr


def test_backfill_reads_the_days_asked_for(api: str, world: World, tmp_path: Path) -> None:
    """And says how many; a second time nothing is doubled."""
    env = environment(api, f"sqlite:///{tmp_path / 'calls.db'}")
    days = sorted({call.calldate for call in world.records()})
    some = {call.uid for call in world.records() if days[0] <= call.calldate <= days[1]}
    found = answer("backfill", "--since", days[0], "--until", days[1], env=env)
    assert (found["since"], found["until"]) == (days[0], days[1])
    with closing(sqlite3.connect(tmp_path / "calls.db")) as connection:
        held = {uid for (uid,) in connection.execute("SELECT uid FROM cdr")}
    assert some <= held
    again = answer("backfill", "--since", days[0], "--until", days[1], env=env)["accounts"][0]
    assert (again["inserted"], again["updated"], again["unchanged"] >= len(some)) == (0, 0, True)


def test_fetch_stores_and_prints_one_record(env: dict[str, str], world: World) -> None:
    """By uid and by ref; exit 1 where the operator has none."""
    call = world.records()[7]
    found = answer("fetch", "--uid", str(call.uid), env=env)
    assert (found["record"]["uid"], found["record"]["user_cost"], found["stored"]) == (
        call.uid,
        str(call.user_cost),
        "inserted",
    )
    assert answer("fetch", "--ref", str(call.ref), env=env)["stored"] == "unchanged"
    assert answer("fetch", "--uid", "5", env=env, code=1)["record"] is None


def test_totals_are_printed_as_sent_and_kept(env: dict[str, str], world: World) -> None:
    """GetTotals, in the operator's own words."""
    assert cdrsync("sync", env=env).returncode == 0
    (account,) = answer("totals", "--period", "all", env=env)["accounts"]
    expected = world.totals("all")
    assert (account["answered"], account["missed"], account["voicemail"]) == (
        expected.answered,
        expected.missed,
        expected.voicemail,
    )
    assert set(account["texts"]) >= {"AnsweredTotal", "MinsTotal", "ChargeTotal"}
    path = env["CDRSYNC_DATABASE_URL"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT period, answered FROM operator_totals").fetchall() == [
            ("all", expected.answered)
        ]


def test_totals_are_kept_of_an_account_that_was_never_synced(env: dict[str, str]) -> None:
    """The account's row is made first; the sync afterwards begins as ever."""
    assert cdrsync("totals", env=env).returncode == 0
    path = env["CDRSYNC_DATABASE_URL"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT period FROM operator_totals").fetchall() == [("day",)]
    assert answer("sync", env=env)["accounts"][0]["inserted"] == 400


def test_audit_proves_and_finds_and_heals(env: dict[str, str]) -> None:
    """Exit 0 when equal; 1 naming the day when a row was deleted behind its back; 0 again once healed."""
    assert cdrsync("sync", env=env).returncode == 0
    (account,) = answer("audit", env=env)["accounts"]
    assert (account["clean"], account["proven"], account["gaps"]) == (True, True, [])
    path = env["CDRSYNC_DATABASE_URL"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as connection:
        uid, day = connection.execute("SELECT uid, call_date FROM cdr ORDER BY uid LIMIT 1 OFFSET 5").fetchone()
        connection.execute("DELETE FROM cdr WHERE uid = ?", (uid,))
        connection.commit()
    run = cdrsync("audit", env=env)
    assert run.returncode == 1
    assert f"gap: {day}" in run.stdout
    (account,) = answer("audit", "--heal", env=env)["accounts"]
    assert (account["clean"], account["healed"], account["records_healed"]) == (True, [day], 1)


def test_status_tells_where_everything_stands(env: dict[str, str], file: Path, world: World) -> None:
    """Before the first sync, and after it."""
    file.unlink()
    run = cdrsync("status", env=env)
    assert (run.returncode, run.stderr.split(".")[0].startswith("error: there is no database at")) == (69, True)
    assert cdrsync("sync", env=env).returncode == 0
    (account,) = answer("status", env=env)["accounts"]
    assert (account["calls"], account["rejects_open"], account["gaps"]) == (400, 0, [])
    assert account["tails"] == [{"stream": "tail", "high_water_uid": max(call.uid for call in world.records())}]
    assert 0 <= account["lag_seconds"] < timedelta(minutes=5).total_seconds()
    shown = cdrsync("status", env=env).stdout
    assert "calls held       400" in shown
    assert "late up to 2h: every 10m" in shown
    (run,) = account["runs"]
    assert (run["origin"], run["outcome"], run["inserted"], run["message"]) == ("sync", "ok", 400, None)
    assert "last runs        sync " in shown
    assert "ok (400 new, 0 changed, 0 rejected)" in shown


def test_a_refused_login_shows_in_status(env: dict[str, str]) -> None:
    """Kind, words, since when and what to do; gone once the operator was read."""
    assert cdrsync("sync", env={**env, "CDRSYNC_VKEY": "another"}).returncode == 77
    (account,) = answer("status", env=env)["accounts"]
    failure = account["failure"]
    assert (failure["kind"], "refused the login" in failure["words"]) == ("LoginRefused", True)
    assert "allow-list" in failure["hint"]
    assert [run["outcome"] for run in account["runs"]] == ["LoginRefused"]
    shown = cdrsync("status", env=env).stdout
    assert "! the operator refused the login" in shown
    assert ", since 20" in shown
    assert cdrsync("sync", env=env).returncode == 0
    (account,) = answer("status", env=env)["accounts"]
    assert (account["failure"], account["last_success"] is not None) == (None, True)


def test_a_refused_login_of_a_daemon_shows_in_status(api: str, tmp_path: Path) -> None:
    """Another process sees why no call comes, and that it was mended."""
    env = environment(api, f"sqlite:///{tmp_path / 'calls.db'}", poll_interval="1s", log_format="json", http_listen="")
    with daemon({**env, "CDRSYNC_VKEY": "another"}) as process:
        process.event("account parked")
        (account,) = answer("status", env=env)["accounts"]
        assert account["failure"]["kind"] == "LoginRefused"
        process.stop()
    with daemon(env):
        until(lambda: answer("status", env=env)["accounts"][0]["failure"] is None, "the end of the failure")


def test_polls_that_bring_nothing_leave_a_trace(api: str, tmp_path: Path) -> None:
    """Whoever looks on sees that the operator is asked: once a minute, in a row of its own."""
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    env = environment(api, url, poll_interval="1s", lookback_interval="0", audit_time="off", http_listen="")
    assert cdrsync("sync", env=env).returncode == 0
    before = answer("status", env=env)["accounts"][0]["read_at"]
    with daemon(env):
        until(lambda: answer("status", env=env)["accounts"][0]["read_at"] > before, "a trace of a poll")
    with closing(sqlite3.connect(tmp_path / "calls.db")) as connection:
        rows = connection.execute("SELECT high_water_uid, done FROM checkpoint WHERE stream = 'polled'").fetchall()
    assert rows == [(None, 1)]


def test_rejects_are_listed_shown_and_tried_again(env: dict[str, str], world: World) -> None:
    """A record that can't be typed is kept as sent; once it can be, `retry` stores it."""
    uid = world.add(raw="<CDR><uid>{uid}</uid><calldate>2024-02-30</calldate></CDR>").uid
    run = cdrsync("sync", env=env)
    assert (run.returncode, run.stderr) == (
        1, "default: 1 record that can't be read was put into quarantine: cdrsync rejects list\n"
    )  # fmt: skip
    run = cdrsync("sync", env=env)  # it comes again, and is nothing new
    assert (run.returncode, run.stderr) == (0, "")
    (listed,) = answer("rejects", "list", env=env, code=1)["rejects"]
    assert listed["account"] == "default"
    shown = answer("rejects", "show", str(listed["number"]), env=env)["reject"]
    assert shown["raw"].startswith("<CDR>")
    assert answer("rejects", "retry", env=env, code=1) == {
        "version": 1,
        "command": "rejects retry",
        "stored": 0,
        "left": 1,
    }
    path = env["CDRSYNC_DATABASE_URL"].removeprefix("sqlite:///")
    good = _printed(uid)
    with closing(sqlite3.connect(path)) as connection:  # as if a newer program could read what this one could not
        connection.execute("UPDATE reject SET raw = ?", (good,))
        connection.commit()
    assert answer("rejects", "retry", env=env)["stored"] == 1
    assert answer("rejects", "list", env=env)["rejects"] == []
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT user_cost FROM cdr WHERE uid = ?", (uid,)).fetchone() == (5000,)


def test_a_reject_that_the_database_still_can_not_hold_is_left(api: str, world: World, servers: Servers) -> None:
    """`retry` counts what is held after it, not what it could read: a number too long for the index stays open."""
    env = environment(api, servers.get("postgresql").create())
    world.add(anumber="".join(random.Random(1).choices("0123456789abcdef", k=20_000)))
    run = cdrsync("sync", env=env)
    assert (run.returncode, "1 record that can't be read was put into quarantine" in run.stderr) == (1, True)
    for _ in range(2):
        retried = answer("rejects", "retry", env=env, code=1)
        assert (retried["stored"], retried["left"]) == (0, 1)
    (left,) = answer("rejects", "list", env=env, code=1)["rejects"]
    assert left["resolved_at"] is None
    assert "the database can't hold it" in left["problem"]


def _printed(uid: int) -> str:
    return (
        f"<CDR><uid>{uid}</uid><ref>51FD5E980233A34F</ref><calldate>2013-08-03</calldate><calltime>20:48:40</calltime>"
        "<anumber>7700900123</anumber><anumber_location>x</anumber_location><bnumber>1245830144</bnumber><alias></alias>"
        "<dialled>0</dialled><dialled_location>Unknown</dialled_location><duration>0</duration><ring_time>0</ring_time>"
        "<user_cost>0.005</user_cost><reason>2</reason><reason_q805>0</reason_q805></CDR>"
    )


def test_db_commands(api: str, database: Database) -> None:
    """Nothing there, upgraded, as needed: on each database."""
    env = environment(api, database.url)
    if database.kind == "sqlite":
        for command in ("current", "check"):
            run = cdrsync("db", command, env=env)
            assert (run.returncode, run.stderr[:28]) == (69, "error: there is no database ")
        path = Path(database.url.removeprefix("sqlite:///"))
        assert not path.exists()  # looking made none
        path.touch()
    needed = answer("db", "current", env=env)["needed"]
    assert answer("db", "current", env=env)["current"] is None
    run = cdrsync("db", "check", env=env)
    assert (run.returncode, "Run: cdrsync db upgrade" in run.stderr) == (78, True)
    assert answer("db", "upgrade", env=env) == {"version": 1, "command": "db upgrade", "before": None, "after": needed}
    assert answer("db", "check", env=env)["ok"] is True


def test_without_auto_migrate_an_empty_database_is_refused(env: dict[str, str], file: Path) -> None:
    """Exit 78, and the command that helps."""
    file.unlink()
    run = cdrsync("sync", env={**env, "CDRSYNC_AUTO_MIGRATE": "false"})
    assert run.returncode == 78
    assert "cdrsync db upgrade" in run.stderr


def test_doctor_finds_all_well(api: str, database: Database) -> None:
    """Exit 0, each step named."""
    env = environment(api, database.url)
    assert cdrsync("db", "upgrade", env=env).returncode == 0
    found = answer("doctor", env=env)
    states = {check["check"]: check["state"] for check in found["checks"]}
    assert set(states) >= {
        "configuration",
        "DNS",
        "connection",
        "login default",
        "clock",
        "database",
        "schema",
        "permissions",
    }
    assert set(states.values()) <= {"ok", "skipped"}


def test_doctor_says_what_to_do(env: dict[str, str]) -> None:
    """A refused login: exit 77 and the allow-list."""
    run = cdrsync("doctor", env={**env, "CDRSYNC_VKEY": "another"})
    assert run.returncode == 77
    assert "FAIL  login default" in run.stdout
    assert "allow-list" in run.stdout


def test_healthcheck_asks_the_daemon(env: dict[str, str]) -> None:
    """69 without one, 0 once it is current."""
    listen = "127.0.0.1:0"
    assert cdrsync("healthcheck", env={**env, "CDRSYNC_HTTP_LISTEN": "127.0.0.1:9"}).returncode == 69
    with daemon({**env, "CDRSYNC_HTTP_LISTEN": listen}) as run:
        page = _page(run)
        asked = {**env, "CDRSYNC_HTTP_LISTEN": page}
        until(lambda: cdrsync("healthcheck", env=asked).returncode == 0, "readiness")
        assert cdrsync("healthcheck", "--live", env=asked).stdout == "alive\n"
        assert run.stop() == 0


def _page(run: Daemon) -> str:
    url: str = run.event("started")["page"]
    return url.removeprefix("http://").rstrip("/")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_sync_without_a_traceback(
    number: signal.Signals, code: int, world: World, env: dict[str, str]
) -> None:
    """128 + the signal; the page in hand is rolled back, the next run goes on."""
    world.configure(latency=20.0)
    with subprocess.Popen(
        [sys.executable, "-m", "cdrsync", "sync"], env=env, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY
    ) as run:
        until(lambda: world.counters()["documents"], "the first request")
        run.send_signal(number)
        error = run.communicate(timeout=60)[1]
    assert (run.returncode, error) == (code, "interrupted; the same command goes on\n")


def test_faults_of_the_operator_do_not_stop_a_sync(env: dict[str, str], world: World) -> None:
    """A 503 and a cut connection on the way: tried again."""
    world.faults.script(Fault.HTTP_503, None, Fault.TRUNCATED)
    (account,) = answer("sync", env=env)["accounts"]
    assert (account["inserted"], account["error"]) == (400, None)
    assert (world.faults.fired[Fault.HTTP_503], world.faults.fired[Fault.TRUNCATED]) == (1, 1)


def test_money_is_exact_in_json(env: dict[str, str], world: World) -> None:
    """A text with its decimals, not a binary fraction."""
    uid = world.add(user_cost=Decimal("0.123"), duration=60).uid
    assert answer("fetch", "--uid", str(uid), env=env)["record"]["user_cost"] == "0.123"
