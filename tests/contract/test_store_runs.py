"""The table of runs, on every database alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdrsync.model import Origin, Page, Reject
from cdrsync.store.schema import tables
from cdrsync.sync.runs import Tally
from tests.support.examples import call

if TYPE_CHECKING:
    from cdrsync.store.save import SqlStore
    from tests.support.clock import Clock
    from tests.support.eyes import Eyes

CALL = call(7)
BAD = Reject(8, "<CDR>8</CDR>", "duration: not a number")


def test_a_run_is_begun_and_ended(store: SqlStore, eyes: Eyes, clock: Clock) -> None:
    """One that is not ended was killed, or goes on."""
    first = store.begin_run("backfill")
    begun = clock()
    clock.advance(minutes=5)
    store.end_run(first, Tally(inserted=7, rejected=1))
    second = store.begin_run("tail")
    assert [tuple(row)[2:] for row in eyes.rows(tables.sync_run)] == [
        ("backfill", begun, clock(), "ok", 7, 0, 0, 1, None),
        ("tail", clock(), None, None, 0, 0, 0, 0, None),
    ]
    assert first < second


def test_records_are_counted_once(store: SqlStore) -> None:
    """A reject that comes again is no new one; a run that began on an empty database has no call unchanged."""
    page = Page(Origin.BACKFILL, [CALL, CALL], [BAD, BAD])
    first, again = store.save(page), store.save(page)
    assert (first.inserted, first.unchanged, first.rejected) == (1, 2, 1)
    assert (again.inserted, again.unchanged, again.rejected) == (0, 4, 0)
    tally, from_nothing = Tally(), Tally(from_nothing=True)
    for saved in (first, again):
        tally.add(saved)
        from_nothing.add(saved)
    assert (tally.inserted, tally.unchanged, tally.rejected) == (1, 6, 1)
    assert (from_nothing.inserted, from_nothing.unchanged, from_nothing.rejected) == (1, 0, 1)
