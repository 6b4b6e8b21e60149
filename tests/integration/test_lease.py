"""The lease: one writer per account, whatever becomes of processes, connections and the database."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import event, insert, select, update

from cdrsync.errors import DatabaseUnavailable, LeaseHeld, LeaseLost, Retry
from cdrsync.model import Checkpoint, Origin, Page
from cdrsync.store.databases import port
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.process import this_process
from cdrsync.store.replica import Replica
from cdrsync.store.schema.tables import account, checkpoint, lease, replica
from tests.fault.trouble import cut
from tests.support.processes import DEADLINE, stop_between_writes, until
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cdrsync.store.save import SqlStore
    from tests.conftest import Database

QUICK = 1.5  # lease_seconds of the tests that wait for one to end
PATIENT = 4.0  # of one that must not end: beats come every half second, on a busy machine late
HOLDER = """
import sys
from cdrsync.errors import Retry
from cdrsync.model import Checkpoint, Origin, Page
from tests.support.stores import OwnStore
store = OwnStore(sys.argv[1], "main", lease_seconds=float(sys.argv[2]))
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
def opened(url: str, account: str = "main", lease_seconds: float = QUICK) -> Iterator[SqlStore]:
    store = OwnStore(url, account, lease_seconds=lease_seconds)
    try:
        store.open()
        yield store
    finally:
        store.close()


@contextlib.contextmanager
def replicas(url: str, *seconds: float) -> Iterator[list[Replica]]:
    made = [Replica(url, lease_seconds=one) for one in seconds]
    try:
        yield made
    finally:
        for one in made:
            one.leave()


@contextlib.contextmanager
def holder(url: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lease."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, url, str(QUICK)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
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
        except (LeaseHeld, DatabaseUnavailable):  # the latter: it stopped amid a beat, and its row is locked
            if time.monotonic() - begun > DEADLINE:
                raise
            time.sleep(0.1)


def elsewhere(database: Database, name: str, silent: float) -> None:
    """Make the holder of a lease one of another machine, which said something so many seconds ago for the last time."""
    engine = open_engine(database.url)
    with engine.begin() as connection:
        held = (
            select(lease.c.replica_id).join(account, account.c.id == lease.c.account_id).where(account.c.name == name)
        )
        row = connection.execute(select(replica).where(replica.c.id == held.scalar_subquery())).one()
        values = {"machine": "another", "beat_at": row.beat_at - timedelta(seconds=silent)}
        connection.execute(update(replica).where(replica.c.id == row.id).values(values))
    engine.dispose()


def test_a_second_instance_is_told_who_holds_it(migrated: Database) -> None:
    """Process and host, and since when; other accounts of the same database are free."""
    words = rf"account main is held by process {os.getpid()} on .* since 20.* UTC"
    with opened(migrated.url), opened(migrated.url, "other"), pytest.raises(LeaseHeld, match=words):
        OwnStore(migrated.url, "main").open()
    with opened(migrated.url):
        """Free again after close."""


def test_of_many_openers_one_gets_it(migrated: Database) -> None:
    """Whatever the timing."""
    taken: list[SqlStore] = []
    refused: list[LeaseHeld] = []

    def run() -> None:
        store = OwnStore(migrated.url, "main")
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


def test_a_killed_holder_of_this_machine_blocks_nobody(migrated: Database) -> None:
    """Kill -9: the next one sees that the process is gone, and does not wait for its beat to grow old."""
    with holder(migrated.url) as child:
        with pytest.raises(LeaseHeld):
            OwnStore(migrated.url, "main").open()
        child.kill()  # its parent has not asked for it yet: that is gone, too
        with opened(migrated.url, lease_seconds=60.0) as store:
            store.save(page(1))


def test_a_number_that_another_process_has_now_is_not_the_holder(migrated: Database) -> None:
    """The process id of a holder that is gone was used again: told by the time at which it began."""
    with replicas(migrated.url, 60.0, 60.0) as (first, second):
        assert first.take(["main"]) == {}
        with first.engine.begin() as connection:
            began = this_process().started
            assert began is not None
            connection.execute(update(replica).values(process_started=began - 1))
        assert second.take(["main"]) == {}


def test_a_silent_holder_of_another_machine_is_waited_for(migrated: Database) -> None:
    """What can't be seen from here is given up when its beat has grown old, and not before."""
    with replicas(migrated.url, 600.0, 60.0) as (first, second):
        first.take(["main"])
        elsewhere(migrated, "main", silent=35.0)
        assert second.take(["main"])["main"].peer.id == first.id
        elsewhere(migrated, "main", silent=35.0)
        assert second.take(["main"]) == {}
        assert {peer.id for peer in second.living()} == {second.id}
        first.beat()
        assert (first.id, first.held()) == ("", set())


def test_a_command_waits_for_a_holder_that_may_be_dead(migrated: Database) -> None:
    """It says so once, and goes on when the lease is free; where the holder lives, it is told at once."""
    said: list[str] = []
    with replicas(migrated.url, 600.0, 60.0) as (first, second):
        first.take(["main"])
        second.outlive(second.take(["main"])["main"], said.append)
        assert said == []
        assert "main" in second.take(["main"])
        first.beat()
        elsewhere(migrated, "main", silent=57.0)
        second.outlive(second.take(["main"])["main"], said.append)
        assert second.take(["main"]) == {}
    assert len(said) == 1
    assert f"process {os.getpid()} on " in said[0]


def test_a_command_goes_away_from_a_holder_of_another_machine_that_lives(migrated: Database) -> None:
    """Its next beat tells."""
    with replicas(migrated.url, 1.5, 60.0) as (first, second):
        first.take(["main"])
        elsewhere(migrated, "main", silent=0.0)
        second.outlive(second.take(["main"])["main"], pytest.fail)
        assert "main" in second.take(["main"])


@pytest.mark.waits
def test_a_stopped_holder_is_replaced_and_can_commit_nothing(migrated: Database) -> None:
    """SIGSTOP: its beats end; whoever wakes up later has lost the lease."""
    with holder(migrated.url) as child:
        stop_between_writes(child.pid)
        assert seconds_until_taken(migrated.url) < QUICK + 2 * port.SILENT_SECONDS
        child.send_signal(signal.SIGCONT)
        answer, _ = child.communicate("save\n", timeout=60)
        assert answer.strip() in ("LeaseLost", "DatabaseUnavailable")
    with opened(migrated.url) as store:
        assert store.checkpoint("tail") is None


SILENCES = {
    "postgresql": ("in a transaction", "in a COPY", "in a pipeline", "in a result"),
    "mariadb": ("in a transaction", "in a LOAD DATA", "in a result"),
}


@pytest.mark.waits
@pytest.mark.parametrize(
    ("migrated", "silence"),
    [(kind, silence) for kind, silences in SILENCES.items() for silence in silences],
    indirect=["migrated"],
)
def test_a_holder_silent_in_a_page_is_replaced(
    migrated: Database, silence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever its process stopped, the rows that it had locked are free before long, and what was begun is gone."""
    monkeypatch.setattr(port, "SILENT_SECONDS", 2)
    with replicas(migrated.url, 600.0, 15.0) as (first, second), contextlib.ExitStack() as begun:
        first.take(["main"])
        with first.engine.connect() as connection:
            held = first.lease("main")
            assert held is not None
            connection.execute(update(lease).where(lease.c.account_id == held.account_id).values(commits=1))
            fall_silent(connection.connection.driver_connection, silence, begun)
            elsewhere(migrated, "main", silent=20.0)
            waited = time.monotonic()
            while True:
                try:
                    assert second.take(["main"]) == {}
                    break
                except DatabaseUnavailable:  # the row is still locked
                    assert time.monotonic() - waited < DEADLINE
            connection.invalidate()
        with second.reading() as connection:
            assert connection.scalar(select(lease.c.commits).where(lease.c.account_id == held.account_id)) == 0


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
            raw.pgconn.send_query_params(b"SELECT 1", None)
            raw.pgconn.send_flush_request()
            raw.pgconn.flush()
        case "in a result" if "psycopg" in type(raw).__module__:
            raw.pgconn.send_query(b"SELECT repeat('x', 1000000) FROM generate_series(1, 100)")
            raw.pgconn.flush()
        case "in a result":
            raw._execute_command(3, "SELECT REPEAT('x', 1000000) FROM seq_1_to_100")
        case "in a LOAD DATA":
            raw._execute_command(3, "LOAD DATA LOCAL INFILE 'x' INTO TABLE account (name)")


def test_a_quiet_holder_keeps_it(migrated: Database) -> None:
    """Beats tell the others that a holder without work is alive."""
    with opened(migrated.url) as store:
        deadline = time.monotonic() + 1.5 * PATIENT
        while time.monotonic() < deadline:
            with pytest.raises(LeaseHeld):
                OwnStore(migrated.url, "main", lease_seconds=PATIENT).open()
            time.sleep(0.25)
        assert store.save(page(1)).high_water_uid == 1


def test_many_leases_are_a_matter_of_a_few_statements(migrated: Database) -> None:
    """Taken, renewed, released and looked at: however many accounts, the statements are the same."""
    few, many = statements(migrated.url, ["one"]), statements(migrated.url, [f"account-{n}" for n in range(300)])
    assert few == many
    assert many["beat"] == 1
    assert max(many.values()) <= 10


def statements(url: str, names: list[str]) -> dict[str, int]:
    """How many statements each step takes."""
    said: list[str] = []

    def hear(*about: Any) -> None:
        said.append(about[2])

    counts = {}
    with replicas(url, 15.0, 15.0) as (first, second):
        for one in (first, second):
            event.listen(one.engine, "before_cursor_execute", hear)
        steps: dict[str, Callable[[], object]] = {
            "make": lambda: first.take(names),
            "release": lambda: first.release(names),
            "take": lambda: first.take(names),
            "beat": first.beat,
            "stand by": lambda: second.take(names),
        }
        for step, work in steps.items():
            said.clear()
            work()
            counts[step] = len([one for one in said if not one.startswith(("BEGIN", "SET"))])
        assert (first.held(), second.held()) == (set(names), set())
    return counts


def test_a_clean_farewell_frees_everything(migrated: Database) -> None:
    """The row of the replica goes, too."""
    with replicas(migrated.url, 15.0, 15.0) as (first, second):
        first.take(["a", "b", "c"])
        assert [peer.process.pid for peer in second.living()] == [os.getpid()]
        first.leave()
        assert second.living() == []
        assert second.take(["a", "b", "c"]) == {}


def test_a_lease_without_a_beat_is_not_shown_as_held(migrated: Database) -> None:
    """A replica that is cut off does not claim its accounts any more when others may have them."""
    with replicas(migrated.url, QUICK) as (first,):
        first.take(["main"])
        first._leaving.set()
        until(lambda: not first.held(), "the end of its lease")


def test_a_cut_connection_is_replaced(migrated: Database) -> None:
    """Nothing rests on a session: what is saved after a cut between two pages is saved by another one."""
    if migrated.kind == "sqlite":
        pytest.skip("SQLite has no connection to cut")
    with opened(migrated.url) as store:
        store.save(page(1))
        cut(migrated)
        assert store.save(page(2)).high_water_uid == 2


def test_who_lost_the_lease_to_another_stays_out(migrated: Database) -> None:
    """It was given up and another instance took over: the first is told who has it now."""
    first = OwnStore(migrated.url, "main", lease_seconds=600.0)
    second = OwnStore(migrated.url, "main")
    first.open()
    elsewhere(migrated, "main", silent=20.0)
    second.open()
    with pytest.raises(LeaseLost, match="given to another"):
        first.save(page(1))
    with pytest.raises(LeaseLost):
        first.save(page(1))
    with pytest.raises(LeaseHeld):
        first.open()
    second.save(page(2))
    second.close()
    first.open()
    assert first.checkpoint("tail") == Checkpoint("tail", 2)
    first.close()


def test_a_database_that_has_gone_back_is_read_again(migrated: Database) -> None:
    """After an asynchronous failover, or a restored backup, commits are missing: nothing is saved on top of that."""
    with opened(migrated.url) as store:
        store.save(page(1))
        store.save(page(2))
        engine = open_engine(migrated.url)
        with engine.begin() as connection:
            connection.execute(update(lease).values(commits=lease.c.commits - 1))
            connection.execute(update(checkpoint).values(high_water_uid=1))
        engine.dispose()
        with pytest.raises(LeaseLost, match="gone back"):
            store.save(page(3))
        store.open()
        assert store.checkpoint("tail") == Checkpoint("tail", 1)
        assert store.save(page(2)).high_water_uid == 2


def test_a_lease_of_nobody_is_free(migrated: Database) -> None:
    """Somebody deleted a replica's row by hand, or a restored backup names one that is not there."""
    with replicas(migrated.url, 15.0) as (first,):
        engine = open_engine(migrated.url)
        with engine.begin() as connection:
            connection.execute(insert(account).values(name="main", created_at=first._clock()))
            of_main = connection.scalar(select(account.c.id))
            values = {"account_id": of_main, "replica_id": "f" * 32, "token": "0", "commits": 4, "interventions": 0}
            connection.execute(insert(lease).values(values))
        engine.dispose()
        assert first.take(["main"]) == {}


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
        with pytest.raises(LeaseLost, match="gone back"):
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
        for work in (lambda: store.save(page(8)), store.open, reading.connect):
            with pytest.raises((DatabaseUnavailable, LeaseLost), match=r"is gone|does not hold"):
                work()
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
    with opened(migrated.url, lease_seconds=port.CONNECT_SECONDS * 6) as store:
        store.save(page(7))
        migrated.server.stop(signal.SIGKILL)
        try:
            with pytest.raises(Retry):
                store.save(page(8))
            with pytest.raises(DatabaseUnavailable):
                store.checkpoint("tail")
        finally:
            migrated.server.start()
        store.open()
        assert store.checkpoint("tail") == Checkpoint("tail", 7)
        assert store.save(page(8)).high_water_uid == 8
