"""The daemon as a real process: signals at every phase, the service manager, failures that pass and that don't."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.canary import LOGIN
from tests.support.operator import Fault, Login, Settings, World, running
from tests.support.ports import free_port
from tests.support.processes import REPOSITORY, cdrsync, daemon, environment, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Database


@pytest.fixture
def world() -> World:
    """An operator with some calls of the last days."""
    made = World(Settings(), logins=[LOGIN], seed=7)
    made.add_history(calls=300, days=3)
    return made


@pytest.fixture
def api(world: World) -> Iterator[str]:
    with running(world) as url:
        yield url


def held(file: Path) -> set[int]:
    """The uids in a SQLite database; none before there is a table."""
    if not file.exists():
        return set()
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        try:
            return {uid for (uid,) in connection.execute("SELECT uid FROM cdr")}
        except sqlite3.OperationalError:
            return set()


def uids(world: World, username: str | None = None) -> set[int]:
    return {call.uid for call in world.records(username)}


FAILED = [f"{what} failed, will go on by itself" for what in ("poll", "look-back", "backfill", "sweep", "database")]


@pytest.mark.parametrize(("interval", "looks_back"), [("0", False), ("1s", True)])
def test_a_start_looks_back_only_where_that_is_wanted(
    interval: str, looks_back: bool, api: str, world: World, file: Path
) -> None:
    """`lookback_interval = 0` is never: no question below the high-water mark, at no start."""
    env = environment(api, f"sqlite:///{file}", lookback_interval=interval, poll_interval="1s")
    assert cdrsync("sync", env=env).returncode == 0
    mark, before = max(uids(world)), len(world.requests)

    def asked() -> list[int]:
        return [int(one.parameters["LastId"]) for one in list(world.requests)[before:] if "LastId" in one.parameters]

    with daemon(env) as run:
        until(lambda: len(asked()) > 3, "some polls")
        assert run.stop() == 0
    assert (min(asked()) < mark) is looks_back


# ── signals ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_daemon_in_order(number: signal.Signals, api: str, world: World, file: Path) -> None:
    """Exit 0, everything held, nothing left running."""
    with daemon(environment(api, f"sqlite:///{file}")) as run:
        until(lambda: held(file) == uids(world), "all calls")
        run.signal(number)
        assert run.ended() == 0
        assert [event["event"] for event in run.events("stopped")] == ["stopped"]


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.2, 0.4, 0.7, 1.1, 1.6])
def test_a_signal_at_any_phase_of_the_start_ends_it_with_0(delay: float, api: str, file: Path) -> None:
    """From the moment the program has control of its signals, through imports, tables, lease and first pages."""
    file.unlink()
    with daemon(environment(api, f"sqlite:///{file}")) as run:
        until(run.listens_to_signals, "the handler")
        time.sleep(delay)  # which phase this hits differs from run to run; the promise is the same in all
        assert run.stop() == 0


def test_a_signal_while_the_operator_does_not_answer(world: World, file: Path) -> None:
    """A request on the wire is given up: it carried nothing that was to be stored."""
    world.configure(latency=50.0)
    with running(world) as url, daemon(environment(url, f"sqlite:///{file}")) as run:
        until(lambda: world.counters()["documents"], "the first request")
        assert run.stop() == 0


def test_a_signal_while_the_database_is_away(api: str) -> None:
    """A wait for a database ends at once."""
    with closed_port() as port, daemon(environment(api, f"postgresql+psycopg://u@127.0.0.1:{port}/x")) as run:
        assert run.event("database failed, will go on by itself")["kind"] == "DatabaseUnavailable"
        assert run.stop() == 0


def test_a_second_signal_ends_it_at_once(api: str, file: Path) -> None:
    """Even with a page in hand that can't be finished: it is rolled back."""
    assert cdrsync("db", "upgrade", env=environment(api, f"sqlite:///{file}")).returncode == 0
    with locked(file), daemon(environment(api, f"sqlite:///{file}")) as run:
        run.event("started")
        run.signal(signal.SIGTERM)
        run.event("stopping")
        run.signal(signal.SIGTERM)
        assert run.ended() == 0
    assert held(file) == set()


def test_a_page_that_can_not_be_finished_is_rolled_back(api: str, world: World, file: Path) -> None:
    """One signal is enough: after some seconds of grace it ends all the same, and the next run has lost nothing."""
    env = environment(api, f"sqlite:///{file}")
    assert cdrsync("db", "upgrade", env=env).returncode == 0
    with locked(file), daemon(env) as run:
        run.event("started")
        assert run.stop() == 0
    assert cdrsync("sync", env=env).returncode == 0
    assert held(file) == uids(world)


def test_a_first_start_proves_itself_also_without_history(file: Path) -> None:
    """No history that is read asks for an audit: it is due because there was none ever. Then nothing is done."""
    world = World(logins=[LOGIN])
    world.add()
    with running(world) as url, daemon(environment(url, f"sqlite:///{file}", start_date="today")) as run:
        run.event("proven for the first time: every call that the operator counts is held")
        until(lambda: _cpu_seconds_of(run.pid, 1.0) < 0.3, "rest")
        assert run.stop() == 0


def _cpu_seconds_of(pid: int, seconds: float) -> float:
    """What a process takes in so many seconds."""

    def ticks() -> int:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    time.sleep(seconds)
    return (ticks() - before) / os.sysconf("SC_CLK_TCK")


def test_page_and_metrics_without_a_schema(api: str, tmp_path: Path) -> None:
    """As in the first seconds on an empty database; here it stays so, since nobody may make one."""
    file = tmp_path / "empty.db"
    file.touch()
    env = environment(api, f"sqlite:///{file}", auto_migrate="false", http_listen="127.0.0.1:0")
    with daemon(env) as run:
        page = run.event("started")["page"]
        assert "has no schema yet" in httpx.get(page).text
        assert httpx.get(f"{page}metrics").status_code == 200
        assert httpx.get(f"{page}account/default").status_code == 200
        assert run.stop() == 0


def test_sigusr1_polls_now(api: str, world: World, file: Path) -> None:
    """A new call is held long before the next poll is due."""
    with daemon(environment(api, f"sqlite:///{file}", poll_interval="1d")) as run:
        run.event("lease taken")
        until(lambda: held(file), "the first calls")
        new = world.add().uid
        run.signal(signal.SIGUSR1)
        until(lambda: new in held(file), "the new call")
        assert run.stop() == 0


def test_sighup_takes_a_new_configuration_and_refuses_a_bad_one(api: str, world: World, file: Path) -> None:
    """A bad one is reported whole and changes nothing; a good one is used at once."""
    config = file.with_name("cdrsync.toml")
    config.write_text('poll_interval = "1d"\n', encoding="utf-8")
    with daemon(environment(api, f"sqlite:///{file}"), "--config", str(config)) as run:
        until(lambda: held(file), "the first calls")
        config.write_text('poll_interval = "soon"\nsweep_dayz = 1\n', encoding="utf-8")
        run.signal(signal.SIGHUP)
        problems = run.event("configuration refused, the old one stays")["problems"]
        assert problems.startswith("unknown key 'sweep_dayz'")
        assert "; poll_interval must be" in problems
        config.write_text('poll_interval = "1s"\n', encoding="utf-8")
        run.signal(signal.SIGHUP)
        run.event("configuration read again")
        run.event("lease taken", count=2)
        new = world.add().uid
        until(lambda: new in held(file), "a call between two of the new, short intervals")
        assert run.stop() == 0


def test_the_daemon_proves_completeness_after_the_history(api: str, world: World, file: Path) -> None:
    """And says so once, in plain words, the first time."""
    with daemon(environment(api, f"sqlite:///{file}")) as run:
        run.event("proven for the first time: every call that the operator counts is held")
        assert held(file) == uids(world)
        assert run.stop() == 0


# ── the service manager ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_service_manager_is_told(api: str, file: Path, tmp_path: Path) -> None:
    """READY, STATUS with the last sync, WATCHDOG, RELOADING and READY again, STOPPING."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        env = {
            **environment(api, f"sqlite:///{file}"),
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "3000000",
        }
        with daemon(env) as run:
            heard: list[str] = []

            def hears(word: str) -> str:
                while True:
                    heard.extend(manager.recv(4096).decode().splitlines())
                    found = [line for line in heard if line.startswith(word)]
                    if found:
                        heard.clear()
                        return found[0]

            assert hears("READY=1") == "READY=1"
            assert "last sync" in hears("STATUS=default: idle")
            assert hears("WATCHDOG=1") == "WATCHDOG=1"
            run.signal(signal.SIGHUP)
            assert hears("RELOADING=1") == "RELOADING=1"
            assert hears("READY=1") == "READY=1"
            run.signal(signal.SIGTERM)
            assert hears("STOPPING=1") == "STOPPING=1"
            assert run.ended() == 0


# ── who may write ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_second_daemon_stands_by_and_takes_over(api: str, world: World, database: Database) -> None:
    """One of two has the account. It is killed: the other goes on. Meanwhile `sync` says who is at work: exit 75."""
    env = environment(api, database.url, poll_interval="1s", lease_seconds="5")
    with daemon(env) as first:
        first.event("lease taken")
        with daemon(env) as second:
            until(lambda: first.events("standing by") or second.events("standing by"), "one stands by")
            by, at_work = (first, second) if first.events("standing by") else (second, first)
            at_work.event("lease taken")
            refused = cdrsync("sync", env=env)
            assert refused.returncode == 75
            assert f"process {at_work.pid} on {socket.gethostname()}" in refused.stderr
            before = len(by.events("lease taken"))
            at_work.signal(signal.SIGKILL)
            by.event("lease taken", before + 1)
            world.add()
            by.event("poll done", len(by.events("poll done")) + 1)
            assert by.stop() == 0


# ── failures ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_bad_configuration_is_said_at_once(api: str, file: Path) -> None:
    """Exit 78, one line a problem, no traceback."""
    env = environment(api, f"sqlite:///{file}", page_size="many", poll_interval="soon")
    run = cdrsync("run", env=env)
    assert run.returncode == 78
    assert [line.split(" (")[0] for line in run.stderr.splitlines()[:-1]] == [
        "error: page_size must be a whole number",
        "error: poll_interval must be seconds or a duration like 90s, 10m, 2h, 7d",
    ]


def test_a_refused_login_keeps_the_daemon_up_and_is_tried_when_told(world: World, file: Path) -> None:
    """Alive, not ready, with the reason; no storm, which locks accounts; SIGHUP tries again. `sync` ends with 77."""
    with running(world) as url:
        env = {**environment(url, f"sqlite:///{file}", http_listen=f"127.0.0.1:{free_port()}", poll_interval="1s")}
        wrong = {**env, "CDRSYNC_PASSWORD": "wrong-password"}
        sync = cdrsync("sync", env=wrong)
        assert (sync.returncode, "allow-list" in sync.stderr) == (77, True)
        with daemon(wrong) as run:
            assert run.event("account parked")["kind"] == "LoginRefused"
            live, ready = (httpx.get(f"http://{env['CDRSYNC_HTTP_LISTEN']}/{path}") for path in ("livez", "readyz"))
            assert (live.status_code, ready.status_code) == (200, 503)
            assert "login" in ready.text
            time.sleep(2.5)  # polls would have been due: none asks
            assert logins(world) == 2
            run.signal(signal.SIGHUP)
            until(lambda: logins(world) == 3, "another login")
            run.signal(signal.SIGUSR1)
            until(lambda: logins(world) == 4, "and another")
            assert cdrsync("account", "retry", "default", env=wrong).returncode == 0
            until(lambda: logins(world) == 5, "and one more")
            world.account().login = Login(LOGIN.username, "wrong-password", LOGIN.vkey)  # now it is the right one
            run.signal(signal.SIGHUP)
            run.event("recovered")
            until(lambda: held(file) == uids(world), "all calls")
            assert len(run.events("account parked")) == 1
            assert run.stop() == 0


def test_one_failing_account_does_not_stop_the_others(file: Path) -> None:
    """The login of one is refused; the other's calls come in."""
    world = World(Settings(), logins=[LOGIN, Login("other@example.com", "other-password", "other-vkey")], seed=3)
    world.add_history(calls=50, days=1)
    config = file.with_name("cdrsync.toml")
    config.write_text(
        f'[accounts.good]\nusername = "{LOGIN.username}"\n[accounts.bad]\nusername = "other@example.com"\n',
        encoding="utf-8",
    )
    with running(world) as url:
        env = environment(url, f"sqlite:///{file}", poll_interval="1s")
        del env["CDRSYNC_USERNAME"]
        with daemon(env, "--config", str(config)) as run:
            parked = run.event("account parked")
            assert (parked["account"], parked["kind"]) == ("bad", "LoginRefused")
            new = world.add().uid
            until(lambda: new in held(file), "a call of the good account")
            assert run.stop() == 0


def test_an_operator_away_is_said_once_and_caught_up_with(world: World, file: Path) -> None:
    """It waits, says so once, and goes on by itself."""
    with running(world) as url, daemon(environment(url, f"sqlite:///{file}", poll_interval="1s")) as run:
        until(lambda: held(file) == uids(world), "all calls")
        world.faults.rates({Fault.HTTP_503: 1.0})
        (failed,) = until(lambda: [e for name in FAILED for e in run.events(name)], run.lines)
        assert failed["kind"] == "ApiUnreachable"
        missed = {world.add().uid for _ in range(5)}
        world.faults.rates({})
        run.event("recovered")
        until(lambda: missed <= held(file), "the calls that came meanwhile")
        assert run.stop() == 0
        warnings = [line for line in run.lines if '"level": "warning"' in line]
        assert len(warnings) == 1, warnings


@pytest.mark.own_server
def test_a_database_away_is_said_once_and_caught_up_with(api: str, world: World, database: Database) -> None:
    """The server is stopped for a while and started again."""
    if database.kind == "sqlite":
        pytest.skip("a file has no server")
    with daemon(environment(api, database.url, poll_interval="1s")) as run:
        run.event("poll done")
        database.server.stop()
        try:
            world.add()
            failed = until(lambda: [e for name in FAILED for e in run.events(name)], run.lines)
            assert {event["kind"] for event in failed} <= {"DatabaseUnavailable", "LeaseLost"}
        finally:
            database.server.start()
        run.event("recovered")
        run.event("lease taken", count=2)
        assert run.stop() == 0


def test_a_backup_moved_over_the_file_is_caught_up_with(api: str, world: World, file: Path) -> None:
    """SQLite: nothing more goes to the file that nobody can open any more; what the backup lacks is read again."""
    backup = file.with_name("backup.db")
    with daemon(environment(api, f"sqlite:///{file}", poll_interval="1s")) as run:
        until(lambda: held(file) == uids(world), "all calls")
        with contextlib.closing(sqlite3.connect(file)) as now, contextlib.closing(sqlite3.connect(backup)) as then:
            now.backup(then)
        known = len(uids(world))
        world.add()
        until(lambda: len(held(file)) == known + 1, "a call that the backup has not")
        backup.replace(file)
        for leftover in ("-wal", "-shm"):
            file.with_name(file.name + leftover).unlink(missing_ok=True)
        world.add()
        until(lambda: held(file) == uids(world), "all calls, in the file that is there now")
        assert any("LeaseLost" in line and "gone back" in line for line in run.lines)
        assert run.stop() == 0


def test_a_newer_schema_is_refused_with_both_versions(api: str, file: Path) -> None:
    """`sync` ends with 78, and says what to do; `run` says the same and stays, so that its page can tell."""
    env = environment(api, f"sqlite:///{file}")
    assert cdrsync("db", "upgrade", env=env).returncode == 0
    version = schema_version(file, "9999_future")
    sync = cdrsync("sync", env=env)
    assert (sync.returncode, "9999_future" in sync.stderr, "Upgrade cdrsync" in sync.stderr) == (78, True, True)
    with daemon(env) as run:
        parked = run.event("account parked")
        assert "9999_future" in parked["message"]
        schema_version(file, version)
        run.signal(signal.SIGHUP)
        run.event("lease taken")
        assert run.stop() == 0


def test_lost_log_readers_stop_nothing(api: str, world: World, file: Path) -> None:
    """The reader of standard error ends: lines are dropped, calls go on arriving."""
    reader, log = os.pipe()
    env = environment(api, f"sqlite:///{file}", poll_interval="1s")
    with process([sys.executable, "-m", "cdrsync", "run"], env, stderr=log) as run:
        os.close(log)
        until(lambda: held(file) == uids(world), "all calls")
        os.close(reader)
        calls_arrive(world, file, 3)
        run.send_signal(signal.SIGTERM)
        assert run.wait(60) == 0


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", ">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_output_that_can_not_be_written_stops_nothing(redirection: str, api: str, world: World, file: Path) -> None:
    """A full disk, or streams that were never opened; for the daemon and for a single sync, which exits with 0."""
    env = environment(api, f"sqlite:///{file}", poll_interval="1s")
    command = f"exec {sys.executable} -m cdrsync {{}} {redirection}"
    sync = subprocess.run(["sh", "-c", command.format("sync")], env=env, cwd=REPOSITORY, check=False, timeout=60)
    assert sync.returncode == 0
    assert held(file) == uids(world)
    with process(["sh", "-c", command.format("run")], env) as run:
        calls_arrive(world, file, 2)
        run.send_signal(signal.SIGTERM)
        assert run.wait(60) == 0
    with contextlib.closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


# ── what the tests need ────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Another program writes in the SQLite database and does not come to an end."""
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def schema_version(file: Path, version: str) -> str:
    """Write a version into the database; return the one that was there."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        ((before,),) = connection.execute("SELECT version_num FROM alembic_version")
        connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
        connection.commit()
        return str(before)


@contextlib.contextmanager
def process(command: list[str], env: dict[str, str], **files: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is gone at the end."""
    started = subprocess.Popen(command, env=env, cwd=REPOSITORY, **files)  # type: ignore[call-overload]
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def calls_arrive(world: World, file: Path, number: int) -> None:
    """So many calls, one after the other, are held soon."""
    for _ in range(number):
        world.add()
        until(lambda: uids(world) <= held(file), "a new call")


def logins(world: World) -> int:
    """How many logins were asked for."""
    return [seen.name for seen in world.requests].count("SessionLogin")


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """A port of this machine on which nobody listens, kept from others."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]
