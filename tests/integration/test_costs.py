"""What an account at rest and a replica ask of the database, counted: statements and transactions, on each kind."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import event, update

from cdrsync import config
from cdrsync.daemon import work
from cdrsync.daemon.sharing import Sharing
from cdrsync.daemon.worker import Worker
from cdrsync.monitor.activity import AccountState, Activity
from cdrsync.monitor.metrics import Metrics
from cdrsync.store.replica import Replica
from cdrsync.store.schema.tables import lease
from cdrsync.wiring.database import Database
from tests.support.canary import LOGIN
from tests.support.databases import PostgresqlServer, database_name
from tests.support.operator import World, running
from tests.support.processes import DEADLINE, environment, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest
    from sqlalchemy.engine import Engine

    from cdrsync.config import Settings
    from tests.conftest import Database as TestDatabase

POLLS = 20
QUIET = 600  # lease_seconds: no beat comes between


@dataclass
class Counted:
    """What was asked through an engine, each transaction a list of its statements."""

    transactions: list[list[str]] = field(default_factory=list)
    committed: int = 0

    @property
    def statements(self) -> list[str]:
        """All of them, but for what begins a transaction."""
        return [one for begun in self.transactions for one in begun]


@contextlib.contextmanager
def counting(engine: Engine) -> Iterator[Counted]:
    """Count what goes through an engine."""
    counted = Counted()

    def begin(connection: Any) -> None:
        del connection
        counted.transactions.append([])

    def commit(connection: Any) -> None:
        del connection
        counted.committed += 1

    def execute(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        del connection, cursor
        if not statement.startswith(("BEGIN", "SET LOCAL")):
            counted.transactions[-1].append(statement)

    heard: dict[str, Callable[..., Any]] = {"begin": begin, "commit": commit, "before_cursor_execute": execute}
    for name, hear in heard.items():
        event.listen(engine, name, hear, insert=name == "begin")
    yield counted
    for name, hear in heard.items():
        event.remove(engine, name, hear)


def told(api: str, url: str) -> Settings:
    """One account that is polled when the test says so."""
    intervals = {"lease_seconds": str(QUIET), "poll_interval": "1h", "lookback_interval": "6h"}
    return config.load(config.Inputs(environ=environment(api, url, start_date="today", **intervals)))


# ── an account at rest ─────────────────────────────────────────────────────────────────────────────────────────────


def at_rest(worker: Worker) -> None:
    """Let an account do everything that its first start does."""
    worker.assign(ours=True)
    deadline = time.monotonic() + DEADLINE
    while (times := worker.times()) and min(times.urgent, times.long) <= time.monotonic():
        worker.turn(long=times.urgent > time.monotonic())
        assert time.monotonic() < deadline


def test_an_idle_poll_is_one_request_and_two_transactions(
    migrated: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads the mark, and leaves its trace under the lease's row; that it leaves none, it need not write.

    PostgreSQL counts no other transaction either: the look whether a connection is alive is none.
    """
    world = World(logins=[LOGIN])
    world.add(username=LOGIN.username)
    with running(world) as api, contextlib.ExitStack() as opened:
        settings = told(api, migrated.url)
        database = Database(settings, shares=True)
        opened.callback(database.close)
        activity = Activity()
        activity.reset([AccountState("default")])
        account = settings.accounts[0]
        worker = Worker(settings, account, database=database, activity=activity, metrics=Metrics(activity))
        opened.callback(worker.end)
        at_rest(worker)

        def poll() -> None:
            worker.poll_now()
            worker.turn(long=False)

        for seconds, transactions in ((0.0, 2), (math.inf, 1)):  # between two traces
            monkeypatch.setattr(work, "TRACE_SECONDS", seconds)
            asked = len(world.requests)
            with counting(database.replica.engine) as counted:
                poll()
            assert [one.name for one in list(world.requests)[asked:]] == ["GetCDRs"]
            assert len(counted.transactions) == transactions, counted.transactions
            assert counted.committed == transactions - 1
            assert all(one[0].startswith("UPDATE lease SET commits") for one in counted.transactions[1:])
        monkeypatch.setattr(work, "TRACE_SECONDS", 0.0)
        if isinstance(migrated.server, PostgresqlServer):
            before = server_count(migrated.server, migrated, database)
            for _ in range(POLLS):
                poll()
            more = server_count(migrated.server, migrated, database) - before
            assert 2 * POLLS <= more < 2.5 * POLLS  # a log-in is one, too


def server_count(server: PostgresqlServer, migrated: TestDatabase, database: Database) -> int:
    """Transactions of a database so far. Sessions hand in their figures when they end."""
    name = database_name(migrated.url)
    database.replica.engine.dispose()
    sessions = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'"
    until(lambda: server.execute(sessions) == [(0,)], "the end of every session")
    (count,) = server.execute(f"SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = '{name}'")[0]
    return int(count)


# ── a replica ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_claiming_beating_and_standing_by_cost_the_same_for_many_accounts(migrated: TestDatabase) -> None:
    """One account or a hundred: the same statements, the beat one alone; who stands by writes nothing."""
    with contextlib.ExitStack() as opened:
        costs = [cost(migrated, opened, [f"{count}-{n}" for n in range(count)]) for count in (1, 100)]
    assert costs[0] == costs[1]
    first, again, beat, standing_by = costs[1]
    assert len(first) <= 12
    assert len(again) <= 7
    assert len(beat) == 1
    assert beat[0].startswith("UPDATE replica")
    assert all(one.startswith("SELECT") for one in standing_by)
    assert len(standing_by) <= 8


def cost(database: TestDatabase, opened: contextlib.ExitStack, names: list[str]) -> list[list[str]]:
    """Two words of each statement: of the first claim ever, of another, of a beat, of a look without leases."""
    first, beside = (
        Replica(database.url, lease_seconds=QUIET),
        Database(told("http://127.0.0.1:1/", database.url), shares=True),
    )
    opened.callback(beside.close)
    opened.callback(first.leave)
    second = beside.replica
    found = []

    def asked(engine: Engine, what: Any) -> None:
        with counting(engine) as counted:
            what()
        found.append([" ".join(one.split()[:2]) for one in counted.statements])

    asked(first.engine, lambda: first.take(names))
    with first.engine.begin() as connection:
        connection.execute(update(lease).values(replica_id=None, token=None, taken_at=None))
    for name in names:
        first.forget(name)
    asked(first.engine, lambda: first.take(names))
    assert first.held() == set(names)
    asked(first.engine, first.beat)
    second.join()
    looking = Sharing(beside, lambda: names, lambda *_: None, lambda _: None, lambda _: None)
    asked(second.engine, looking._share)
    assert second.held() == set()
    return found
