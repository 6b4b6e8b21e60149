"""`cdrsync sync` as a user types it: what it brings and says, what stands in its way, what ends it."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, text

from tests.support.canary import LOGIN
from tests.support.operator import Fault, World, running
from tests.support.processes import REPOSITORY, answer, cdrsync, environment, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Database


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


def test_without_auto_migrate_an_empty_database_is_refused(env: dict[str, str], file: Path) -> None:
    """Exit 78, and the command that helps."""
    file.unlink()
    run = cdrsync("sync", env={**env, "CDRSYNC_AUTO_MIGRATE": "false"})
    assert run.returncode == 78
    assert "cdrsync db upgrade" in run.stderr


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
