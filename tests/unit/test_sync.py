"""The steps of the algorithm, each promise by itself; `tests/property` tries them all together."""

from __future__ import annotations

from datetime import date
from itertools import chain
from typing import TYPE_CHECKING

import pytest

from cdrsync.errors import ApiUnreachable
from cdrsync.model import CdrsAsk, Window
from cdrsync.sync.ports import SyncSettings
from cdrsync.sync.steps import Sync
from cdrsync.sync.streams import Stream
from tests.support.account import MemoryAccount, run
from tests.support.clock import LONDON, Clock
from tests.support.examples import call
from tests.support.listing import Listing
from tests.support.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cdrsync.model import Document, Page, TotalsAsk


# ── bootstrap and tail ──────────────────────────────────────────────────────────────────────────────────────────────


def test_the_first_poll_reads_today_and_sets_the_mark() -> None:
    world = MemoryAccount([call(1, "2026-05-09 10:00:00"), call(5), call(7)])
    run(world.sync.poll())
    assert (world.held(), world.mark()) == ([5, 7], 7)


def test_the_mark_is_set_after_the_last_page_never_before() -> None:
    """Newest first, one page out of two: the mark of the first page alone would hide the second for ever."""
    world = MemoryAccount([call(9), call(8), call(7)], page_size=2)
    pages = world.sync.poll()
    while not world.held():
        next(pages)
    assert (world.held(), world.mark()) == ([8, 9], None)
    run(pages)
    assert (world.held(), world.mark()) == ([7, 8, 9], 9)


def test_an_idle_poll_is_one_request_and_no_commit() -> None:
    world = MemoryAccount([call(5)])
    run(world.sync.poll())
    world.source.documents.clear()
    assert (run(world.sync.poll()), len(world.source.asked)) == (0, 1)


def test_where_nothing_is_due_nothing_is_read_ahead() -> None:
    """Threads, and what makes room for pages, take longer to come about than an idle catch-up does."""
    world = MemoryAccount([call(5)])
    run(world.sync.catch_up())
    idle = Sync(world.source, world.store, world.settings, clock=world.clock, read_ahead=_no_reading_ahead)
    assert run(idle.catch_up()) == 0


def _no_reading_ahead(streams: Sequence[object]) -> Iterator[Page]:
    raise AssertionError(f"{len(streams)} threads")


@pytest.mark.parametrize(("start", "most"), [("2026-05-10", 1), ("2026-05-03", 1), ("2026-04-01", 4)])
def test_no_more_threads_read_than_have_something_to_read(start: str, most: int) -> None:
    """The first poll of each of a thousand accounts asks for today alone: in one thread, whatever history may have."""
    world = MemoryAccount([call(5)], start=date.fromisoformat(start), workers=4)
    threads: list[int] = []

    def counted(streams: Sequence[Iterator[Page]]) -> Iterator[Page]:
        threads.append(len(streams))
        return chain.from_iterable(streams)

    run(Sync(world.source, world.store, world.settings, clock=world.clock, read_ahead=counted).catch_up())
    assert (threads[0], max(threads)) == (1, most)


def test_an_empty_account_costs_one_request_a_poll() -> None:
    world = MemoryAccount(start="today")
    run(world.sync.poll())
    world.source.documents.clear()
    assert (run(world.sync.poll()), len(world.source.asked)) == (1, 1)
    assert world.mark() is None


def test_without_a_call_today_the_first_poll_goes_back_in_growing_steps() -> None:
    world = MemoryAccount([call(3, "2026-05-04 10:00:00")])
    run(world.sync.poll())
    assert (world.held(), world.mark()) == ([3], 3)
    windows = {(ask.start_date, ask.end_date) for ask in world.source.asked if ask.start_date is not None}
    assert sorted((str(first), str(last)) for first, last in windows) == [
        ("2026-05-03", "2026-05-07"),
        ("2026-05-07", "2026-05-09"),
        ("2026-05-09", "2026-05-10"),
        ("2026-05-10", "2026-05-11"),
    ]


def test_a_first_poll_that_fails_before_midnight_still_wants_that_day() -> None:
    world = MemoryAccount([call(1, "2026-05-10 23:59:59")], clock="2026-05-10 23:59:58", start="today")
    world.source._before = _unreachable
    with pytest.raises(ApiUnreachable):
        run(world.sync.poll())
    world.source._before = lambda: None
    world.clock.set("2026-05-11 00:00:05")
    run(world.sync.poll())
    assert (world.held(), world.mark(), world.sync.position.start_day()) == ([1], 1, date(2026, 5, 10))


def _unreachable() -> None:
    raise ApiUnreachable("no answer")


def test_finding_the_newest_calls_of_one_number_does_not_mark_days_downloaded_for_the_others() -> None:
    """The first poll went back to the 9th for number one; number two's calls of that day were never read."""
    world = MemoryAccount(
        [call(1, "2026-05-09 10:00:00", bnumber="one"), call(2, "2026-05-09 11:00:00", bnumber="two")],
        numbers=("one", "two"),
    )
    pages = world.sync.poll()
    while 1 not in world.store.rows:
        next(pages)
    assert world.store.downloaded == {}
    run(pages)
    run(world.sync.backfill())
    assert world.held() == [1, 2]


def test_each_number_has_a_mark_of_its_own() -> None:
    world = MemoryAccount(
        [call(1, bnumber="one"), call(2, bnumber="two"), call(3, bnumber="three")], numbers=("one", "two")
    )
    run(world.sync.poll())
    assert (world.held(), world.mark("tail:one"), world.mark("tail:two")) == ([1, 2], 1, 2)


# ── look-back ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_look_back_finds_what_appeared_below_the_mark() -> None:
    world = MemoryAccount(
        [call(1, "2026-05-10 09:00:00"), call(2, "2026-05-10 11:00:00"), call(4, "2026-05-10 11:30:00")]
    )
    run(world.sync.poll())
    world.source.records.insert(2, call(3, "2026-05-10 11:20:00"))
    run(world.sync.poll())
    assert world.held() == [1, 2, 4]
    run(world.sync.look_back())
    assert world.held() == [1, 2, 3, 4]
    assert [ask.after_uid for ask in world.source.asked if ask.after_uid is not None][-2:] == [1, 1]


def test_a_look_back_after_a_long_pause_reaches_back_from_the_last_one() -> None:
    """A call of 11:50 came at 12:05, cdrsync was stopped until the next day: two hours back from then is too late."""
    world = MemoryAccount([call(1, "2026-05-10 11:00:00"), call(3, "2026-05-10 11:55:00")])
    run(world.sync.poll())
    run(world.sync.look_back())
    world.source.records.insert(1, call(2, "2026-05-10 11:50:00"))
    world.source.records.append(call(9, "2026-05-11 11:00:00"))
    world.clock.set("2026-05-11 12:00:00")
    run(world.sync.poll())
    run(world.sync.look_back())
    assert world.held() == [1, 2, 3, 9]


def test_a_look_back_starts_again_where_the_last_one_ended_not_where_the_tail_jumped_to() -> None:
    """In order of visibility [3, 9], [5]: the tail takes the first page for ascending, and all three began days ago, so
    none tells the look-back where to begin.
    """
    world = MemoryAccount([call(1)], page_size=2)
    run(world.sync.poll())
    run(world.sync.look_back())
    world.source.records += [call(uid, "2026-05-02 10:00:00") for uid in (3, 9, 5)]
    world.clock.set("2026-05-12 12:00:00")
    run(world.sync.poll())
    assert (world.held(), world.mark()) == ([1, 3, 9], 9)
    run(world.sync.look_back())
    assert world.held() == [1, 3, 5, 9]


def test_a_look_back_reads_changed_records_again() -> None:
    world = MemoryAccount([call(1, duration=0)])
    run(world.sync.poll())
    world.source.records[0] = call(1, duration=75)
    run(world.sync.look_back())
    assert world.store.rows[1].duration == 75


# ── backfill and sweep ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_backfill_reads_newest_days_first_and_none_twice() -> None:
    world = MemoryAccount([call(n, f"2026-05-{n:02} 10:00:00") for n in range(1, 11)])
    run(world.sync.poll())
    world.source.documents.clear()
    run(world.sync.backfill())
    days = [ask.start_date for ask in world.source.asked if ask.offset == 0]
    assert days == [date(2026, 5, n) for n in range(9, 0, -1)]
    assert (world.held(), world.sync.position.pending_days()) == (list(range(1, 11)), [])
    world.source.documents.clear()
    assert (run(world.sync.backfill()), world.source.documents) == (0, [])


def test_a_backfill_of_a_window_goes_on_where_it_was_stopped_and_can_be_repeated() -> None:
    world = MemoryAccount([call(n, f"2026-05-{n:02} 10:00:00") for n in range(1, 11)], page_size=1)
    window = Window(date(2026, 5, 2), date(2026, 5, 6))
    pages = world.sync.backfill(window)
    while date(2026, 5, 6) not in world.store.downloaded:
        next(pages)
    world.source.documents.clear()
    run(world.sync.backfill(window))
    assert max(ask.start_date for ask in world.source.asked if ask.start_date) == date(2026, 5, 5)
    assert world.held() == [2, 3, 4, 5, 6]
    world.clock.set("2026-05-10 12:01:00")
    world.source.documents.clear()
    run(world.sync.backfill(window))
    assert max(ask.start_date for ask in world.source.asked if ask.start_date) == date(2026, 5, 6)


def test_a_sweep_reads_its_days_today_included_and_none_before_the_start() -> None:
    world = MemoryAccount(start=date(2026, 5, 8))
    run(world.sync.poll())
    world.source.documents.clear()
    run(world.sync.sweep())
    assert [ask.start_date for ask in world.source.asked] == [date(2026, 5, n) for n in (10, 9, 8)]


def test_a_sweep_after_a_long_pause_counts_its_days_from_the_last_one() -> None:
    """A call of the 9th came on the 11th, when cdrsync was stopped until the 25th: its day is downloaded, and seven
    days back from then is too late.
    """
    world = MemoryAccount([call(1, "2026-05-09 10:00:00"), call(5)])
    run(world.sync.catch_up())
    run(world.sync.sweep())
    assert date(2026, 5, 9) in world.store.downloaded
    world.source.records.append(call(2, "2026-05-09 11:00:00"))
    world.clock.set("2026-05-25 12:00:00")
    run(world.sync.sweep())
    assert world.held() == [1, 2, 5]


def test_a_first_run_that_was_killed_does_not_count_as_the_first_sweep_days_later() -> None:
    world = MemoryAccount([call(1, "2026-05-09 10:00:00"), call(5)])
    run(world.sync.poll())
    run(world.sync.backfill())
    world.source.records.append(call(2, "2026-05-09 11:00:00"))
    world.clock.set("2026-05-13 12:00:00")
    run(world.sync.catch_up())
    assert world.held() == [1, 2, 5]


def test_a_first_run_counts_as_a_sweep_of_when_it_began_not_of_when_it_ended() -> None:
    """Killed before it could say so, it went on the next morning: what changed in between is for the next sweep."""
    world = MemoryAccount([call(1, "2026-05-08 10:00:00"), call(5)], sweep_days=3)
    run(world.sync.poll())
    run(world.sync.backfill())
    world.source.records[0] = call(1, "2026-05-08 10:00:00", duration=75)
    world.clock.set("2026-05-11 09:00:00")
    run(world.sync.catch_up())
    world.clock.set("2026-05-12 10:00:00")
    run(world.sync.catch_up())
    assert world.store.rows[1].duration == 75


def test_a_first_run_counts_as_look_back_and_sweep() -> None:
    world = MemoryAccount([call(n, f"2026-05-{n:02} 10:00:00") for n in range(1, 11)])
    run(world.sync.catch_up())
    assert world.held() == list(range(1, 11))
    assert {Stream.LOOKBACK, Stream.SWEEP} <= world.store.checkpoints.keys()
    days = [ask.start_date for ask in world.source.asked if ask.start_date is not None and ask.offset == 0]
    assert len(days) == len(set(days)) == 10


# ── everything ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_step_that_fails_goes_on_from_what_was_committed() -> None:
    """The operator fails at every eleventh document; each call reads its position from the database."""

    class Failing(Listing):
        def ask(self, asks: Sequence[CdrsAsk | TotalsAsk]) -> Document:
            if len(self.documents) % 11 == 10:
                self.documents.append([])
                raise ApiUnreachable("no answer")
            return super().ask(asks)

    clock = Clock()
    store = MemoryStore(clock)
    records = [call(n * 100 + m, f"2026-05-{n:02} 10:{m:02}:00") for n in range(1, 11) for m in range(7)]
    settings = SyncSettings(LONDON, start=date(2026, 5, 1), page_size=2)
    sync = Sync(Failing(records, now=clock), store, settings, clock=clock)
    for _ in range(20):
        try:
            run(sync.poll())
            run(sync.backfill())
        except ApiUnreachable:
            clock.advance(1)
        else:
            break
    assert sorted(store.rows) == [record.uid for record in records]
