"""One account in a new database of each kind, and eyes to look into its tables."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from cdrsync.store.databases.engine import open_engine
from cdrsync.store.numbering import classify
from tests.support.clock import Clock
from tests.support.eyes import Eyes
from tests.support.small_account import fill
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdrsync.store.save import SqlStore
    from tests.conftest import Database


@pytest.fixture
def clock() -> Clock:
    return Clock(datetime(2026, 1, 5, 12, 0, 0, 250, tzinfo=UTC))


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


@pytest.fixture(params=["counted anew", "summed"])
def filled(request: pytest.FixtureRequest, migrated: Database, clock: Clock) -> Iterator[SqlStore]:
    """Views say the same whether the summary is up to date or not."""
    store = OwnStore(migrated.url, "main", classify=classify, clock=clock)
    store.open()
    fill(store, request.param)
    yield store
    store.close()
