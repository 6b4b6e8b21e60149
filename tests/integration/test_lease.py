"""The lease: one writer per account, held by the connection that writes, and free again when its holder is gone."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import select

from cdrsync.errors import DatabaseUnavailable, LeaseHeld, LeaseLost, Retry
from cdrsync.model import Checkpoint, Origin, Page
from cdrsync.store import lease, session
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.save import SqlStore
from cdrsync.store.schema.tables import checkpoint
from tests.support.databases import MariadbServer, PostgresqlServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Database

TAKEOVER_SECONDS = 15.0  # what a dead holder may cost, as promised
HOLDER = """
import sys
from cdrsync.errors import Retry
from cdrsync.model import Checkpoint, Origin, Page
from cdrsync.store.save import SqlStore
store = SqlStore(sys.argv[1], "main")
store.open()
print("held", flush=True)
sys.stdin.readline()
try:
    store.save(Page(Origin.TAIL, [], checkpoint=Checkpoint("tail", 99)))
except Retry as error:
    print(type(error).__name__, flush=True)
else:
    print("saved", flush=True)
"""


@contextlib.contextmanager
def opened(url: str, account: str = "main") -> Iterator[SqlStore]:
    store = SqlStore(url, account)
    try:
        store.open()
        yield store
    finally:
        store.close()


@contextlib.contextmanager
def holder(url: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lease."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "held\n"
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()


def page(uid: int) -> Page:
    return Page(Origin.TAIL, [], checkpoint=Checkpoint("tail", uid))


def seconds_until_taken(url: str) -> float:
    """How long a second instance has to stand by."""
    begun = time.monotonic()
    while True:
        try:
            with opened(url):
                return time.monotonic() - begun
        except LeaseHeld:
            if time.monotonic() - begun > 60:
                raise
            time.sleep(0.1)


def test_a_second_instance_is_told_who_holds_it(migrated: Database) -> None:
    """Process and host, and since when; other accounts of the same database are free."""
    words = rf"account main is held by process {os.getpid()} on .* since 20.* UTC"
    with opened(migrated.url), opened(migrated.url, "other"), pytest.raises(LeaseHeld, match=words):
        SqlStore(migrated.url, "main").open()
    with opened(migrated.url):
        """Free again after close."""


def test_names_that_file_names_do_not_like_are_different_accounts(migrated: Database) -> None:
    """`a/b` and `a b` each have a lease of their own."""
    with opened(migrated.url, "a/b"), opened(migrated.url, "a b"), opened(migrated.url, "ab"):
        pass


def test_of_many_openers_one_gets_it(migrated: Database) -> None:
    """Whatever the timing."""
    taken: list[SqlStore] = []
    refused: list[LeaseHeld] = []

    def run() -> None:
        store = SqlStore(migrated.url, "main")
        try:
            store.open()
            taken.append(store)
        except LeaseHeld as error:
            refused.append(error)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(taken), len(refused)) == (1, 5)
    taken[0].close()


def test_a_killed_holder_blocks_nobody(migrated: Database) -> None:
    """Kill -9: the lease is free as soon as the kernel has closed the connection."""
    with holder(migrated.url) as child:
        with pytest.raises(LeaseHeld):
            SqlStore(migrated.url, "main").open()
        child.kill()
        child.wait()
        assert seconds_until_taken(migrated.url) < TAKEOVER_SECONDS


def test_a_stopped_holder_is_let_go_and_can_commit_nothing(migrated: Database) -> None:
    """SIGSTOP: the database ends the silent session within 15 seconds; whoever wakes up later has lost the lease."""
    if migrated.kind == "sqlite":
        pytest.skip("a stopped process keeps its file lock; it is on the database's own machine")
    with holder(migrated.url) as child:
        child.send_signal(signal.SIGSTOP)
        assert seconds_until_taken(migrated.url) < TAKEOVER_SECONDS
        child.send_signal(signal.SIGCONT)
        answer, _ = child.communicate("save\n", timeout=60)
        assert answer.strip() in ("LeaseLost", "DatabaseUnavailable")
    with opened(migrated.url) as store:
        assert store.checkpoint("tail") is None


SILENCES = {
    "postgresql": ("idle", "in a transaction", "in a COPY", "in a pipeline", "in a result"),
    "mariadb": ("idle", "in a transaction", "in a LOAD DATA", "in a result"),
}


@pytest.mark.parametrize(
    ("migrated", "silence"),
    [(kind, silence) for kind, silences in SILENCES.items() for silence in silences],
    indirect=["migrated"],
)
def test_a_holder_silent_in_any_state_is_let_go(
    migrated: Database, silence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a page was when its process stopped: the next one gets the lease, and what was begun is gone."""
    monkeypatch.setattr(lease, "IDLE_SECONDS", 2)
    engine = open_engine(migrated.url, writer=True)
    held = lease.lease_for(engine.url, "main")
    with engine.connect() as connection, contextlib.ExitStack() as begun:
        with connection.begin():
            assert held.take(connection)
        fall_silent(connection.connection.driver_connection, silence, begun)
        assert seconds_until_taken(migrated.url) < 2 + 3  # the lock is the session's: it is free because that is gone
        connection.invalidate()
    engine.dispose()


def fall_silent(raw: Any, silence: str, begun: contextlib.ExitStack) -> None:
    """Leave the driver's connection in a state, and say no more."""
    match silence:
        case "in a transaction":
            raw.cursor().execute("SELECT 1")
        case "in a COPY":
            begun.push(contextlib.suppress(psycopg.OperationalError))
            begun.enter_context(raw.cursor().copy("COPY account (name) FROM STDIN")).write("half a na")
        case "in a pipeline":
            raw.pgconn.enter_pipeline_mode()
            raw.pgconn.send_query_params(b"BEGIN", None)
            raw.pgconn.send_flush_request()
            raw.pgconn.flush()
        case "in a result" if "psycopg" in type(raw).__module__:
            raw.pgconn.send_query(b"SELECT repeat('x', 1000000) FROM generate_series(1, 100)")
            raw.pgconn.flush()
        case "in a result":
            raw._execute_command(3, "SELECT REPEAT('x', 1000000) FROM seq_1_to_100")
        case "in a LOAD DATA":
            raw._execute_command(3, "LOAD DATA LOCAL INFILE 'x' INTO TABLE account (name)")
        case other:
            assert other == "idle"


def test_a_quiet_holder_keeps_it(migrated: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pings tell the database that a holder without work is alive."""
    if migrated.kind == "sqlite":
        pytest.skip("a file lock needs no pings")
    monkeypatch.setattr(lease, "IDLE_SECONDS", 2)
    monkeypatch.setattr(session, "PING_SECONDS", 0.5)
    with opened(migrated.url) as store:
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            with pytest.raises(LeaseHeld):
                SqlStore(migrated.url, "main").open()
            time.sleep(0.25)
        assert store.save(page(1)).high_water_uid == 1


def cut(database: Database) -> None:
    """End every session of the database, as an administrator or a broken network would."""
    name = database.url.split("?")[0].rsplit("/", 1)[1]
    if isinstance(database.server, PostgresqlServer):
        database.server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    elif isinstance(database.server, MariadbServer):
        found = database.server.execute(f"SELECT id FROM information_schema.processlist WHERE db = '{name}'")
        for (connection,) in found:
            database.server.execute(f"KILL {connection}")
    else:
        pytest.skip("SQLite has no connection to cut")


def test_a_cut_connection_is_not_quietly_replaced(migrated: Database) -> None:
    """After a cut nothing can be saved until the lease has been taken again; then all goes on."""
    with opened(migrated.url) as store:
        store.save(page(1))
        cut(migrated)
        with pytest.raises(Retry):
            store.save(page(2))
        with pytest.raises(LeaseLost):
            store.save(page(2))
        with pytest.raises(LeaseLost):
            store.checkpoint("tail")
        store.open()
        assert store.save(page(3)).high_water_uid == 3


def test_who_lost_the_lease_to_another_stays_out(migrated: Database) -> None:
    """The connection is cut and another instance takes over: the first is told who has it now."""
    first, second = SqlStore(migrated.url, "main"), SqlStore(migrated.url, "main")
    first.open()
    cut(migrated)
    second.open()
    with pytest.raises(Retry):
        first.save(page(1))
    with pytest.raises(LeaseHeld):
        first.open()
    second.save(page(2))
    second.close()
    first.open()
    assert first.checkpoint("tail") == Checkpoint("tail", 2)
    first.close()


def test_a_lock_file_that_was_removed_is_no_lease(migrated: Database) -> None:
    """SQLite: with the file gone another could lock a new one, so nothing is written any more."""
    if migrated.kind != "sqlite":
        pytest.skip("only SQLite has a lock file")
    with opened(migrated.url) as store:
        for path in Path(migrated.url.removeprefix("sqlite:///")).parent.glob("*.lock"):
            path.unlink()
        with pytest.raises(LeaseLost):
            store.save(page(1))


def test_nothing_is_written_to_a_database_file_that_was_replaced(migrated: Database) -> None:
    """SQLite: a backup moved over the file is what is read and written from then on, by pooled connections too."""
    if migrated.kind != "sqlite":
        pytest.skip("only SQLite has a file")
    path = Path(migrated.url.removeprefix("sqlite:///"))
    mark = select(checkpoint.c.high_water_uid)
    reading = open_engine(migrated.url)
    with opened(migrated.url) as store:
        store.save(page(7))
        with contextlib.closing(sqlite3.connect(path)) as old, contextlib.closing(sqlite3.connect(f"{path}.2")) as new:
            old.backup(new)
        store.save(page(8))
        with reading.connect() as connection:
            assert connection.execute(mark).scalar_one() == 8
        replace(path)
        with pytest.raises(LeaseLost, match=r"the database file .* was replaced or removed"):
            store.save(page(9))
        with reading.connect() as connection:
            assert connection.execute(mark).scalar_one() == 7
        store.open()
        assert store.checkpoint("tail") == Checkpoint("tail", 7)
        store.save(page(10))
        with reading.connect() as connection:
            assert connection.execute(mark).scalar_one() == 10
    reading.dispose()


def replace(path: Path) -> None:
    """Move the backup `.2` over a database file, as an administrator does."""
    Path(f"{path}.2").replace(path)
    for leftover in ("-wal", "-shm"):
        Path(f"{path}{leftover}").unlink(missing_ok=True)


def test_a_database_file_that_is_gone_is_not_made_anew(migrated: Database) -> None:
    """SQLite: neither who writes nor who reads goes on in the file that was removed, or in an empty one."""
    if migrated.kind != "sqlite":
        pytest.skip("only SQLite has a file")
    path = Path(migrated.url.removeprefix("sqlite:///"))
    reading = open_engine(migrated.url)
    with opened(migrated.url) as store:
        store.save(page(7))
        reading.connect().close()
        kept = path.rename(f"{path}.kept")
        with pytest.raises(LeaseLost):
            store.save(page(8))
        with pytest.raises(DatabaseUnavailable, match="is gone"):
            store.open()
        with pytest.raises(DatabaseUnavailable, match="is gone"):
            reading.connect()
        assert not path.exists()
        kept.rename(path)
        store.open()
        assert store.checkpoint("tail") == Checkpoint("tail", 7)
    reading.dispose()


@pytest.mark.own_server
def test_a_server_that_is_away_and_comes_back(migrated: Database) -> None:
    """Restarted by force: DatabaseUnavailable while it is away, and all as before once it is back."""
    if migrated.kind == "sqlite":
        pytest.skip("SQLite has no server")
    with opened(migrated.url) as store:
        store.save(page(7))
        migrated.server.stop(signal.SIGKILL)
        try:
            with pytest.raises(Retry):
                store.save(page(8))
            with pytest.raises(DatabaseUnavailable):
                store.open()
        finally:
            migrated.server.start()
        store.open()
        assert store.checkpoint("tail") == Checkpoint("tail", 7)
