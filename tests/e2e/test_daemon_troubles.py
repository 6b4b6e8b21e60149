"""A daemon in trouble: what fails and passes, what fails and does not, and what must stop nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from cdrsync.daemon.tasks import Task
from tests.e2e.one_account import held, uids
from tests.support.canary import LOGIN
from tests.support.operator import Fault, Login, Settings, World, running
from tests.support.processes import DEADLINE, REPOSITORY, cdrsync, daemon, environment, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Database

FAILED = [f"{what} failed, will go on by itself" for what in (*Task, "database")]
"""Whatever is done when the trouble comes meets it first; the others that meet the same are not told of again."""


def test_a_bad_configuration_is_said_at_once(api: str, file: Path) -> None:
    """Exit 78, one line a problem, no traceback."""
    env = environment(api, f"sqlite:///{file}", page_size="many", poll_interval="soon")
    run = cdrsync("run", env=env)
    assert run.returncode == 78
    assert [line.split(" (")[0] for line in run.stderr.splitlines()[:-1]] == [
        "error: page_size must be a whole number",
        "error: poll_interval must be seconds or a duration like 90s, 10m, 2h, 7d",
    ]


@pytest.mark.waits
def test_a_refused_login_keeps_the_daemon_up_and_is_tried_when_told(world: World, file: Path) -> None:
    """Alive, not ready, with the reason; no storm, which locks accounts; SIGHUP tries again. `sync` ends with 77."""
    with running(world) as url:
        env = environment(url, f"sqlite:///{file}", http_listen="127.0.0.1:0", poll_interval="1s")
        wrong = {**env, "CDRSYNC_PASSWORD": "wrong-password"}
        sync = cdrsync("sync", env=wrong)
        assert (sync.returncode, "allow-list" in sync.stderr) == (77, True)
        with daemon(wrong) as run:
            assert run.event("account parked")["kind"] == "LoginRefused"
            page = run.event("started")["page"]
            live, ready = (httpx.get(f"{page}{path}", timeout=DEADLINE) for path in ("livez", "readyz"))
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


@pytest.mark.waits
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
