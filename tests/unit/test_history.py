"""How far back an account is read, whatever was read before and whoever it was limited to."""

from __future__ import annotations

from datetime import date
from itertools import islice

import pytest

from cdrsync.model import BEGINNING, Batch, CdrsAsk, Refusal, Reject, TotalsAsk, Window
from cdrsync.sync.history import calls_before
from cdrsync.sync.streams import Stream
from tests.support.account import MemoryAccount, run
from tests.support.examples import call

# ── start_date = "all" ──────────────────────────────────────────────────────────────────────────────────────────────


def test_all_walks_back_until_the_operator_has_nothing_older() -> None:
    world = MemoryAccount(
        [call(1, "2025-01-15 10:00:00"), call(2, "2025-12-24 10:00:00"), call(3)], start="all", workers=2
    )
    run(world.sync.poll())
    run(world.sync.backfill())
    assert world.held() == [1, 2, 3]
    assert world.sync.position.start_day() == date(2024, 12, 1)
    assert world.sync.position.pending_days() == []


def test_a_young_account_takes_few_requests() -> None:
    """Not one for each day of a year without a call."""
    world = MemoryAccount([call(1, "2026-05-08 10:00:00"), call(3)], start="all")
    run(world.sync.catch_up())
    assert world.held() == [1, 3]
    assert len(world.source.asked) < 70


@pytest.mark.parametrize("wide", [Batch([]), Refusal("500", "too long")], ids=["nothing", "a refusal"])
def test_an_operator_that_answers_no_wide_window_hides_no_call(
    monkeypatch: pytest.MonkeyPatch, wide: Batch | Refusal
) -> None:
    """Less than a year without a call hides nothing, whatever it says of thirty years."""
    calls = [call(1, "2024-08-31 23:59:59"), call(2, "2025-07-01 00:00:00"), call(3)]
    world = MemoryAccount(calls, start="all")
    answer = world.source._answer

    def narrow(ask: CdrsAsk | TotalsAsk) -> Batch | Refusal:
        is_wide = isinstance(ask, CdrsAsk) and ask.start_date == BEGINNING
        return wide if is_wide else answer(ask)

    monkeypatch.setattr(world.source, "_answer", narrow)
    run(world.sync.catch_up())
    assert world.held() == [1, 2, 3]


def test_records_that_can_not_be_typed_are_older_calls_as_well() -> None:
    """The newest one before months without a call, behind which there are others."""
    world = MemoryAccount([call(1, "2025-01-15 10:00:00"), call(3)], start="all")
    world.source.records.insert(0, Reject(None, "<CDR/>", "no uid"))
    assert calls_before(world.source, date(2025, 3, 1), [None], 1000)


def test_a_walk_that_is_stopped_again_and_again_does_not_walk_for_ever() -> None:
    """What it had come through was forgotten, and empty months already downloaded counted as full ones: each new start
    went a year further back.
    """
    world = MemoryAccount([call(3)], start="all")
    run(world.sync.poll())
    for _ in range(100):
        pages = world.sync.backfill()
        if not list(islice(pages, 8)):
            break
    checkpoint = world.store.checkpoint(Stream.HISTORY)
    assert checkpoint is not None
    assert (checkpoint.done, checkpoint.window) == (True, Window(date(2026, 4, 1), date(2026, 5, 10)))


def test_while_the_walk_goes_on_its_beginning_is_not_known() -> None:
    world = MemoryAccount([call(3)], start="all")
    run(world.sync.poll())
    pages = world.sync.backfill()
    while world.store.checkpoint(Stream.HISTORY) is None:
        next(pages)
    assert (world.sync.position.start_day(), world.sync.position.pending_days()) == (None, [])


def test_months_that_were_read_before_are_not_taken_for_empty() -> None:
    """An account that was read since a date for more than a year, and is to hold everything from now on."""
    calls = [call(1, "2020-02-03 10:00:00"), *(call(n, f"2024-{n:02}-10 10:00:00") for n in range(2, 13)), call(20)]
    world = MemoryAccount(calls, start=date(2024, 6, 1))
    run(world.sync.catch_up())
    assert world.held() == [*range(6, 13), 20]
    world.configure(start="all")
    run(world.sync.catch_up())
    assert world.held() == [*range(1, 13), 20]


def test_a_walk_may_stop_behind_the_page_that_completes_a_month() -> None:
    """What the month held was forgotten with the checkpoint that never came, and it counted as an empty one."""
    world = MemoryAccount([call(1, "2024-07-10 10:00:00"), call(2, "2025-06-10 10:00:00"), call(3)], start="all")
    run(world.sync.poll())
    pages = world.sync.backfill()
    while not set(Window(date(2025, 6, 1), date(2025, 6, 30)).days()) <= world.store.downloaded.keys():
        next(pages)
    run(world.sync.backfill())
    assert world.held() == [1, 2, 3]


def test_years_without_a_call_do_not_hide_what_lies_before_them() -> None:
    """The operator is asked whether there is any older call before the walk ends."""
    world = MemoryAccount(
        [call(1, "2012-07-10 10:00:00"), call(2, "2019-06-10 10:00:00"), call(3)], start="all", workers=2
    )
    run(world.sync.catch_up())
    assert world.held() == [1, 2, 3]
    assert world.sync.position.start_day() == date(2012, 6, 1)


def test_a_walk_that_ended_too_early_can_be_opened_again() -> None:
    """Calls that the operator shows only later, years before all others; without such ones nothing is opened."""
    world = MemoryAccount([call(3)], start="all")
    run(world.sync.catch_up())
    assert run(world.sync.reopen_history()) == 0
    assert world.sync.position.start_day() == date(2026, 4, 1)
    world.source.records.append(call(1, "2012-07-10 10:00:00"))
    next(iter(world.sync.reopen_history()))
    assert world.sync.position.start_day() is None
    run(world.sync.catch_up())
    assert world.held() == [1, 3]


# ── numbers ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("start", [date(2026, 5, 1), "all"])
@pytest.mark.parametrize("wanted", [("one", "two"), ()])
def test_days_are_read_again_for_a_number_that_is_wanted_later(start: object, wanted: tuple[str, ...]) -> None:
    """They were read to their end, but without its calls."""
    calls = [call(n, f"2026-05-{n:02} 10:00:00", bnumber=("one", "two")[n % 2]) for n in range(1, 11)]
    world = MemoryAccount(calls, start=start, numbers=("one",))
    run(world.sync.catch_up())
    assert world.held() == [2, 4, 6, 8, 10]
    world.clock.set("2026-05-10 12:10:00")
    world.configure(numbers=wanted)
    run(world.sync.catch_up())
    assert world.held() == list(range(1, 11))
    assert world.sync.position.pending_days() == []


def test_days_are_read_once_for_numbers_that_are_wanted_from_the_beginning() -> None:
    world = MemoryAccount([call(3)], start=date(2026, 5, 1), numbers=("one", "two"))
    run(world.sync.catch_up())
    world.source.documents.clear()
    run(world.sync.backfill())
    assert world.source.asked == []


# ── what is wanted is kept ──────────────────────────────────────────────────────────────────────────────────────────

OLD = [call(n, f"2026-05-{n:02} 10:00:00") for n in range(1, 11)]


@pytest.mark.parametrize("later", ["today", date(2026, 5, 9)])
@pytest.mark.parametrize("pages", [1, 2, 5, 9])
def test_a_first_run_that_was_cut_off_does_not_forget_its_history(pages: int, later: date | str) -> None:
    """Cut off after any page, and gone on with by settings that want less."""
    world = MemoryAccount(OLD, start=date(2026, 5, 1))
    list(islice(world.sync.catch_up(), pages))
    world.configure(start=later)
    assert not world.sync.position.history().complete
    run(world.sync.catch_up())
    assert world.held() == list(range(1, 11))
    history = world.sync.position.history()
    assert (history.complete, str(history)) == (True, "9 of 9 days read")


def test_an_earlier_start_widens_what_is_wanted_and_only_a_person_narrows_it() -> None:
    world = MemoryAccount(OLD, start=date(2026, 5, 8))
    run(world.sync.catch_up())
    world.configure(start=date(2026, 5, 3))
    assert str(world.sync.position.history()) == "2 of 7 days read"
    run(world.sync.catch_up())
    world.configure(start=date(2026, 5, 9))
    assert world.sync.position.start_day() == date(2026, 5, 3)
    world.sync.set_start(date(2026, 5, 9))
    assert (world.sync.position.start_day(), str(world.sync.position.history())) == (
        date(2026, 5, 9),
        "1 of 1 days read",
    )


def test_while_the_first_call_is_looked_for_nobody_knows_how_many_days_are_wanted() -> None:
    """`start_date = "all"`: the walk back is kept, too, whatever the next settings say."""
    world = MemoryAccount(OLD, start="all")
    list(islice(world.sync.catch_up(), 5))
    world.configure(start="today")
    assert world.sync.position.wants_all
    history = world.sync.position.history()
    assert (history.first, history.wanted, history.complete) == (None, None, False)
    run(world.sync.catch_up())
    assert world.sync.position.history().complete
    assert world.held() == list(range(1, 11))


def test_where_only_today_is_wanted_nothing_is_unread() -> None:
    world = MemoryAccount(OLD, start="today")
    run(world.sync.catch_up())
    assert str(world.sync.position.history()) == "0 of 0 days read"
    assert world.sync.position.history().complete
