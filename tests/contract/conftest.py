"""One account in a new database of each kind, and eyes to look into its tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Table, select

from cdrsync.model import Cdr, Origin, Page
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.schema import tables
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Engine, Row

    from cdrsync.store.save import SqlStore
    from tests.conftest import Database

FIRST = Cdr(
    uid=106398335,
    ref="51FD5E980233A34F",
    call_date=date(2013, 8, 3),
    call_time=time(20, 48, 40),
    started_at=datetime(2013, 8, 3, 19, 48, 40, tzinfo=UTC),
    wall_clock=None,
    anumber="7921255043",
    anumber_location="UK O2 Mobile",
    bnumber="1245830144",
    alias="",
    dialled="0",
    dialled_location="Unknown",
    duration=61,
    ring_time=7,
    user_cost=Decimal("0.125"),
    reason=1,
    reason_q805=1,
    has_recorded_call=True,
    has_voicemail_recording=False,
    has_fax_document=None,
    extra=None,
)
"""The first record of the reference page, with something in every figure."""


def calls(count: int, first: Cdr = FIRST) -> list[Cdr]:
    """Calls with uids in a row, a minute apart."""
    return [
        first._replace(uid=first.uid + n, started_at=first.started_at + timedelta(minutes=n), ref=f"{n:016X}")
        for n in range(count)
    ]


def page(*cdrs: Cdr, **parts: Any) -> Page:
    """A page of the tail."""
    return Page(Origin.TAIL, list(cdrs), **parts)


@dataclass
class Clock:
    """A clock that a test sets."""

    now: datetime = field(default=datetime(2026, 1, 5, 12, 0, 0, 250, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **delta: int) -> None:
        """Let time pass."""
        self.now += timedelta(**delta)


@dataclass
class Eyes:
    """Reads the tables over a connection of its own."""

    engine: Engine

    def rows(self, table: Table) -> list[Row[Any]]:
        """Every row, by primary key."""
        with self.engine.connect() as connection:
            return list(connection.execute(select(table).order_by(*table.primary_key.columns)))

    def cdrs(self) -> list[Cdr]:
        """Every call as the API said it."""
        return [Cdr._make(getattr(row, name) for name in Cdr._fields) for row in self.rows(tables.cdr)]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(migrated: Database, clock: Clock) -> Iterator[SqlStore]:
    store = OwnStore(migrated.url, "main", clock=clock)
    store.open()
    yield store
    store.close()


@pytest.fixture
def eyes(migrated: Database) -> Iterator[Eyes]:
    engine = open_engine(migrated.url)
    yield Eyes(engine)
    engine.dispose()
