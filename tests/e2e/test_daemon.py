"""The daemon as a real process: signals at every phase, the service manager, failures that pass and that don't."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from cdrsync.store.databases.engine import open_engine
from tests.e2e.one_account import held, uids
from tests.support.canary import LOGIN
from tests.support.eyes import Eyes
from tests.support.operator import World, running
from tests.support.processes import DEADLINE, cdrsync, daemon, environment, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Database


@pytest.mark.parametrize(("interval", "looks_back"), [("0", False), ("1s", True)])
def test_a_start_looks_back_only_where_that_is_wanted(
    interval: str, looks_back: bool, api: str, world: World, file: Path
) -> None:
    """`lookback_interval = 0` is never: no question below the high-water mark, at no start."""
    far = "2d"  # at night nobody calls for hours
    env = environment(api, f"sqlite:///{file}", lookback_interval=interval, lookback=far, poll_interval="1s")
    assert cdrsync("sync", env=env).returncode == 0
    mark, before = max(uids(world)), len(world.requests)

    def asked() -> list[int]:
        return [int(one.parameters["LastId"]) for one in list(world.requests)[before:] if "LastId" in one.parameters]

    with daemon(env) as run:
        until(lambda: len(asked()) > 3 and (not looks_back or min(asked()) < mark), "some polls, and a look-back")
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
    with daemon(environment(api, f"sqlite:///{file}"), fresh=True) as run:
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
        with httpx.Client(base_url=page, timeout=DEADLINE) as client:
            assert "has no schema yet" in client.get("").text
            assert [client.get(path).status_code for path in ("metrics", "account/default")] == [200, 200]
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
    env = environment(api, database.url, poll_interval="1s")
    engine = open_engine(database.url)
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
            new = world.add()  # by a poll, or by the first audit: the log names only what a poll brought
            until(lambda: new.uid in {call.uid for call in Eyes(engine).cdrs()}, "the new call")
            assert by.stop() == 0
    engine.dispose()


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Another program writes in the SQLite database and does not come to an end."""
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """A port of this machine on which nobody listens, kept from others."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]
