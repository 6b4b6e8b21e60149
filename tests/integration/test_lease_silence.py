"""The lease of a holder that is killed, stopped or not heard of any more: who waits, who takes it over, and when."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from sqlalchemy import select, update

from cdrsync.errors import DatabaseUnavailable, LeaseHeld, LeaseLost
from cdrsync.model import Checkpoint
from cdrsync.store.databases import port
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.process import this_process
from cdrsync.store.schema.tables import account, lease, replica
from tests.integration.leases import QUICK, opened, page, replicas
from tests.support.processes import DEADLINE, stop_between_writes
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Database

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


def test_a_killed_holder_of_this_machine_blocks_nobody(migrated: Database) -> None:
    """Kill -9: the next one sees that the process is gone, and does not wait for its beat to grow old."""
    with holder(migrated.url) as child:
        with pytest.raises(LeaseHeld):
            OwnStore(migrated.url, "main").open()
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # not asked for by its parent: that is gone, too
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
