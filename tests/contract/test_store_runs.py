"""The table of runs, on every database alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdrsync.store.schema import tables
from cdrsync.sync.runs import Tally

if TYPE_CHECKING:
    from cdrsync.store.save import SqlStore
    from tests.contract.conftest import Clock, Eyes


def test_a_run_is_begun_and_ended(store: SqlStore, eyes: Eyes, clock: Clock) -> None:
    """One that is not ended was killed, or goes on."""
    first = store.begin_run("backfill")
    begun = clock.now
    clock.forward(minutes=5)
    store.end_run(first, Tally(inserted=7, rejected=1))
    second = store.begin_run("tail")
    assert [tuple(row)[2:] for row in eyes.rows(tables.sync_run)] == [
        ("backfill", begun, clock.now, "ok", 7, 0, 0, 1, None),
        ("tail", clock.now, None, None, 0, 0, 0, 0, None),
    ]
    assert first < second
