"""The deep sweep: records that no date shows."""

from __future__ import annotations

from datetime import date
from itertools import islice

import pytest

from cdrsync.model import Cdr, Reject, Window
from cdrsync.sync.streams import Stream
from tests.support.account import MemoryAccount, run
from tests.support.examples import FIRST, call

DATED = [call(100 * n, f"2026-05-{n:02} 10:00:00") for n in range(1, 10)]
HIDDEN = [Reject(150 + 100 * n, f"<CDR>{n}</CDR>", "calldate: no such day: '0000-00-00'") for n in range(8)]
UNDATED = call(455, "2013-02-28 10:00:00")


def world(*, page_size: int = 1000, numbers: tuple[str, ...] = ()) -> MemoryAccount:
    """An operator whose dates hide eight records that can't be typed, and a call under a wrong date."""
    records: list[Cdr | Reject] = [*DATED, *HIDDEN, UNDATED]
    records.sort(key=lambda one: one.uid or 0)
    made = MemoryAccount(records, page_size=page_size, numbers=numbers)
    made.source.dateless = {*(one.uid for one in HIDDEN if one.uid), UNDATED.uid}
    run(made.sync.catch_up())
    return made


@pytest.mark.parametrize("page_size", [1, 2, 3, 1000])
@pytest.mark.parametrize("reverse", [False, True])
def test_what_no_date_shows_is_stored_or_in_quarantine(page_size: int, *, reverse: bool) -> None:
    """Whatever the size and order of pages; what was held stays as it was."""
    made = world(page_size=page_size)
    assert (made.held(), made.store.rejects) == ([one.uid for one in DATED], {})
    made.source.records.sort(key=lambda one: one.uid or 0, reverse=reverse)
    run(made.sync.deep_sweep())
    assert made.held() == sorted([*(one.uid for one in DATED), UNDATED.uid])
    assert made.store.rejects.keys() == {one.raw for one in HIDDEN}
    assert made.mark() == 900


def test_it_is_due_a_month_after_the_first_poll_and_a_month_after_the_last_one() -> None:
    """And at once where one was cut off."""
    made = world()
    due = []
    for now in ("2026-06-01 12:00:00", "2026-06-10 12:00:00"):
        made.clock.set(now)
        due.append(made.sync.position.due(Stream.DEEP_SWEEP))
    next(made.sync.deep_sweep())
    due.append(made.sync.position.due(Stream.DEEP_SWEEP))
    run(made.sync.deep_sweep())
    due.append(made.sync.position.due(Stream.DEEP_SWEEP))
    made.clock.set("2026-07-20 12:00:00")
    due.append(made.sync.position.due(Stream.DEEP_SWEEP))
    assert due == [False, True, True, False, True]


def test_a_deep_sweep_goes_on_where_it_was_cut_off() -> None:
    """What it had come past is not asked for again; the one after it begins anew."""
    made = world(page_size=4)
    list(islice(made.sync.deep_sweep(), 3))
    asked = len(made.source.asked)
    run(made.sync.deep_sweep())
    firsts = [ask.after_uid for ask in made.source.asked[asked:] if ask.offset == 0]
    assert min(uid for uid in firsts if uid is not None) >= 200
    made.clock.set("2026-06-20 12:00:00")
    asked = len(made.source.asked)
    run(made.sync.deep_sweep())
    assert made.source.asked[asked].after_uid == 0
    assert len(made.held()) == len(DATED) + 1


@pytest.mark.parametrize("cut_after", [1, 2, 3])
def test_a_deep_sweep_cut_off_as_it_begins_leaves_no_number_out(cut_after: int) -> None:
    """How far each number is read is set back before the sweep counts as begun."""
    numbers = ("1", "2")
    made = MemoryAccount([call(n, bnumber=str(1 + n % 2)) for n in range(1, 21)], numbers=numbers)
    run(made.sync.catch_up())
    run(made.sync.deep_sweep())
    made.clock.set("2026-06-20 12:00:00")
    for n in (1, 2):
        made.store.rows[n] = made.store.rows[n]._replace(duration=0)
    list(islice(made.sync.deep_sweep(), cut_after))
    run(made.sync.deep_sweep())
    assert [made.store.rows[n].duration for n in (1, 2)] == [FIRST.duration] * 2


@pytest.mark.parametrize("arrived", [1, 2, 3])
def test_calls_that_came_since_the_last_poll_do_not_end_the_walk(arrived: int) -> None:
    """Where pages come newest first, a whole one may lie above the mark."""
    made = world(page_size=2)
    made.source.records += [call(1000 + n) for n in range(arrived)]
    made.source.records.sort(key=lambda one: -(one.uid or 0))
    run(made.sync.deep_sweep())
    assert made.store.rejects.keys() == {one.raw for one in HIDDEN}


def test_the_uids_around_a_window_are_read_again_and_no_others() -> None:
    made = world(page_size=2)
    asked = len(made.source.asked)
    assert made.sync.reread_uids(Window(date(2026, 5, 4), date(2026, 5, 5))) == 1
    uids = [ask.after_uid for ask in made.source.asked[asked:]]
    assert (min(uid or 0 for uid in uids), max(uid or 0 for uid in uids) < 700) == (300, True)
    assert UNDATED.uid in made.held()
    assert {one.raw for one in HIDDEN if one.uid in (350, 450, 550)} <= made.store.rejects.keys()


def test_a_day_of_which_nothing_is_held_has_uids_too() -> None:
    """Those between its neighbours."""
    made = world()
    made.store.rows.pop(500)
    made.store._uids.remove(500)
    assert made.store.uids_around(Window(date(2026, 5, 5), date(2026, 5, 5))) == (400, 600)
    assert made.sync.reread_uids(Window(date(2026, 5, 5), date(2026, 5, 5))) == 2


def test_an_account_without_a_mark_has_nothing_to_walk_over() -> None:
    made = MemoryAccount([])
    run(made.sync.poll())
    run(made.sync.deep_sweep())
    assert made.sync.reread_uids(Window(date(2026, 5, 1), date(2026, 5, 9))) == 0
