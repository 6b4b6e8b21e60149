"""A state machine on top of both ports: hypothesis plays the operator, the network and the process that is killed.

Every page goes to the store in memory, which the simulation believes in, and to the real one on SQLite; the two must
answer alike all the time, so that what the simulation proves of the core holds for the database.
"""

from __future__ import annotations

import atexit
import shutil
from datetime import date, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import select

from cdrsync.errors import ApiUnreachable, DatabaseUnavailable
from cdrsync.model import Cdr, Page, PageSaved, Window
from cdrsync.store.admin import migrate
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.schema.tables import cdr as cdr_table
from cdrsync.sync.ports import SyncSettings
from cdrsync.sync.steps import Sync
from tests.support.clock import LONDON, NOW
from tests.support.examples import call
from tests.support.listing import Listing
from tests.support.memory import MemoryStore
from tests.support.server_process import new_directory
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from cdrsync.model import Checkpoint
    from cdrsync.store.save import SqlStore

LOOKBACK: Final = timedelta(hours=2)
SWEEP_DAYS: Final = 3


class Twins:
    """The `Store` port: two stores that must not differ."""

    def __init__(self, memory: MemoryStore, sql: SqlStore) -> None:
        self.memory = memory
        self.sql = sql
        self.fails = 0  # commits from now on until one fails; 0: none

    def save(self, page: Page) -> PageSaved:
        """Commit to both."""
        if self.fails:
            self.fails -= 1
            if not self.fails:
                raise DatabaseUnavailable("the server was restarted")
        expected, actual = self.memory.save(page), self.sql.save(page)
        assert _counts(actual) == _counts(expected)
        return actual

    def checkpoint(self, stream: str) -> Checkpoint | None:
        """As both say."""
        actual = self.sql.checkpoint(stream)
        assert actual == self.memory.checkpoint(stream)
        return actual

    def look_back_uid(self, since: datetime, until: datetime) -> int | None:
        """As both say."""
        actual = self.sql.look_back_uid(since, until)
        assert actual == self.memory.look_back_uid(since, until)
        return actual

    def uids_around(self, window: Window) -> tuple[int | None, int | None]:
        """As both say."""
        actual = self.sql.uids_around(window)
        assert actual == self.memory.uids_around(window)
        return actual

    def days_downloaded(self, window: Window, *, since: datetime | None = None) -> set[date]:
        """As both say."""
        actual = self.sql.days_downloaded(window, since=since)
        assert actual == self.memory.days_downloaded(window, since=since)
        return actual

    def holds_calls(self, window: Window) -> bool:
        """As both say."""
        actual = self.sql.holds_calls(window)
        assert actual == self.memory.holds_calls(window)
        return actual

    def open(self) -> None:
        """Connect anew."""
        self.sql.open()


def _counts(saved: PageSaved) -> tuple[object, ...]:
    return saved.inserted, saved.updated, saved.unchanged, saved.rejected, saved.high_water_uid, saved.completed


def _in_turn(streams: Sequence[Iterator[Page]]) -> Iterator[Page]:
    """Reading ahead without threads: each stream one item, until all are empty."""
    ahead = [(stream, item) for stream in streams for item in _one(stream)]
    while ahead:
        stream, item = ahead.pop(0)
        ahead += [(stream, one) for one in _one(stream)]
        yield item


def _one(stream: Iterator[Any]) -> list[Any]:
    return list(islice(stream, 1))


class Account(RuleBasedStateMachine):
    """One account's life."""

    template: Path
    database: Path

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.uid = 100
        self.fails = 0  # documents from now on until one fails; 0: none
        self.late: list[Cdr] = []
        self.beyond: set[int] = set()  # uids that came, or changed, later than a sweep reaches
        self.directory = new_directory("cdrsync-machine-")
        database = self.directory / "cdrsync.db"
        shutil.copy(_template(), database)
        self.engine = open_engine(f"sqlite:///{database}")  # to look into the tables
        sql = OwnStore(f"sqlite:///{database}", "machine", clock=self.clock)
        sql.open()
        self.store = Twins(MemoryStore(self.clock), sql)
        self.source = Listing(before=self.before, now=self.clock)

    def clock(self) -> datetime:
        """The virtual moment."""
        return self.now

    def before(self) -> None:
        """A request takes a second, and may fail."""
        self.now += timedelta(seconds=1)
        if self.fails:
            self.fails -= 1
            if not self.fails:
                raise ApiUnreachable("connection reset")

    @initialize(
        page_size=st.sampled_from([1, 2, 5, 1000]),
        clamp=st.sampled_from([1, 3, 10_000]),
        end_included=st.booleans(),
        workers=st.sampled_from([1, 2]),
        newest_first=st.booleans(),
        days=st.integers(0, 5),
    )
    def configure(
        self, page_size: int, clamp: int, end_included: bool, workers: int, newest_first: bool, days: int
    ) -> None:
        """What the reference page leaves open, and the account's configuration."""
        self.newest_first = newest_first
        self.source._clamp, self.source._end_included = clamp, end_included
        self.start = self.today() - timedelta(days=days)
        wanted = SyncSettings(
            LONDON, self.start, page_size=page_size, lookback=LOOKBACK, sweep_days=SWEEP_DAYS, workers=workers
        )
        self.sync = Sync(self.source, self.store, wanted, clock=self.clock, read_ahead=_in_turn)
        for day in range(days, 0, -1):
            self._show(self._call(timedelta(days=day)))

    # ── the operator ───────────────────────────────────────────────────────────────────────────────────────────────

    @rule(count=st.integers(1, 4))
    def new_calls(self, count: int) -> None:
        """Calls that end now."""
        for _ in range(count):
            self.now += timedelta(seconds=1)
            self._show(self._call(timedelta(minutes=1)))

    @rule()
    def call_that_will_be_late(self) -> None:
        """A call gets its uid, and is not shown."""
        self.now += timedelta(seconds=1)
        self.late.append(self._call(timedelta(minutes=1)))

    @precondition(lambda self: self.late)
    @rule(data=st.data())
    def late_call_appears(self, data: st.DataObject) -> None:
        """It is shown below uids that were read long ago."""
        record = self.late.pop(data.draw(st.integers(0, len(self.late) - 1)))
        self._show(record)
        self._note(record)

    @precondition(lambda self: self.source.records)
    @rule(data=st.data())
    def call_changes(self, data: st.DataObject) -> None:
        """A cost is set again, a flag becomes known, or is not said any more."""
        position = data.draw(st.integers(0, len(self.source.records) - 1))
        record = self.source.records[position]
        assert isinstance(record, Cdr)
        flag = data.draw(st.sampled_from([None, True]))
        changed = record._replace(user_cost=record.user_cost + 1, has_recorded_call=flag)
        self.source.records[position] = changed
        self._note(changed)

    @rule(hours=st.sampled_from([0.1, 1, 5, 30]))
    def time_passes(self, hours: float) -> None:
        """Nothing runs meanwhile."""
        self.now += timedelta(hours=hours)

    # ── cdrsync ────────────────────────────────────────────────────────────────────────────────────────────────────

    @rule(
        step=st.sampled_from(["poll", "look_back", "backfill", "sweep", "catch_up"]),
        pages=st.sampled_from([1, 2, 3, 1000, 1000, 1000]),
        api_fails=st.sampled_from([0, 0, 0, 1, 2, 4]),
        database_fails=st.sampled_from([0, 0, 0, 1, 2, 4]),
    )
    def work(self, step: str, pages: int, api_fails: int, database_fails: int) -> None:
        """One step, as far as it gets."""
        self.fails, self.store.fails = api_fails, database_fails
        before = self._mark()
        try:
            for _ in islice(getattr(self.sync, step)(), pages):
                pass
        except (ApiUnreachable, DatabaseUnavailable):
            self.store.open()
        self.fails = self.store.fails = 0
        assert self._mark() >= before

    @rule()
    def everything(self) -> None:
        """After a poll, look-back, backfill and sweep that nothing disturbs, all is held as the operator shows it."""
        for step in (self.sync.poll, self.sync.look_back, self.sync.backfill, self.sync.sweep):
            for _ in step():
                pass
        for record in self.source.records:
            assert isinstance(record, Cdr)
            if record.call_date >= self.start and record.uid not in self.beyond:
                row = self.store.memory.rows[record.uid]
                known = row.has_recorded_call if record.has_recorded_call is None else record.has_recorded_call
                assert row == record._replace(has_recorded_call=known)

    @invariant()
    def the_two_stores_hold_the_same(self) -> None:
        """Value by value."""
        held = [self.store.memory.rows[uid] for uid in sorted(self.store.memory.rows)]
        assert self._rows() == held

    def teardown(self) -> None:
        """Prove the table once more, and leave nothing behind."""
        if hasattr(self, "sync"):
            self.everything()
        self.store.sql.close()
        self.engine.dispose()
        shutil.rmtree(self.directory)

    # ── parts ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def today(self) -> date:
        """The day on a UK calendar."""
        return self.now.astimezone(LONDON).date()

    def _call(self, ago: timedelta) -> Cdr:
        self.uid += 1
        began = (self.now - ago).astimezone(LONDON)
        return call(self.uid, f"{began:%Y-%m-%d %H:%M:%S}")

    def _show(self, record: Cdr) -> None:
        uids = [one.uid for one in self.source.records if isinstance(one, Cdr)]
        uids.append(record.uid)
        uids.sort(reverse=self.newest_first)
        self.source.records.insert(uids.index(record.uid), record)

    def _note(self, record: Cdr) -> None:
        if (self.today() - record.call_date).days >= SWEEP_DAYS:
            self.beyond.add(record.uid)
        else:
            self.beyond.discard(record.uid)

    def _mark(self) -> int:
        checkpoint = self.store.checkpoint("tail")
        return -1 if checkpoint is None or checkpoint.high_water_uid is None else checkpoint.high_water_uid

    def _rows(self) -> list[Cdr]:
        columns = [cdr_table.c[name] for name in Cdr._fields]
        with self.engine.connect() as connection:
            return [Cdr._make(row) for row in connection.execute(select(*columns).order_by(cdr_table.c.uid))]


_made: list[Path] = []


def _template() -> Path:
    """A database with today's tables, made once."""
    if not _made:
        directory = new_directory("cdrsync-machine-")
        atexit.register(shutil.rmtree, directory)
        _made.append(directory / "template.db")
        engine = open_engine(f"sqlite:///{_made[0]}")
        migrate.upgrade(engine)
        engine.dispose()
    return _made[0]


TestAccount = Account.TestCase
TestAccount.settings = settings(
    max_examples=15,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
