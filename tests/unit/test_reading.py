"""The tail loop: pages by LastId, in whatever order and however small they come."""

from __future__ import annotations

from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING

import pytest

from cdrsync.errors import BadAnswer, NoProgress, RequestRefused
from cdrsync.model import Batch, Cdr, CdrsAsk, Document, Origin, Page, Refusal, Reject, Totals, TotalsAsk
from cdrsync.sync.high_water import PLAUSIBLE_STEP
from cdrsync.sync.ports import batches
from cdrsync.sync.tail import tail_pages
from tests.support.clock import NOW
from tests.support.examples import call
from tests.support.listing import Listing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdrsync.sync.ports import Source


def tail(
    source: Source, *, after: int = 100, mark: int | None = None, limit: int = 3, origin: Origin = Origin.TAIL
) -> list[Page]:
    known = after if mark is None else mark
    return list(tail_pages(source, origin=origin, stream="tail", after_uid=after, mark=known, limit=limit))


def uids(pages: Sequence[Page]) -> list[list[int]]:
    return [[cdr.uid for cdr in page.cdrs] for page in pages]


def marks(pages: Sequence[Page]) -> list[int | None]:
    return [None if page.checkpoint is None else page.checkpoint.high_water_uid for page in pages]


def calls(*uids: int) -> list[Cdr]:
    return [call(uid) for uid in uids]


def test_an_idle_tail_costs_one_request_and_saves_nothing() -> None:
    source = Listing(calls(99, 100))
    assert tail(source) == []
    assert [(ask.after_uid, ask.offset) for ask in source.asked] == [(100, 0)]


def test_ascending_pages_move_the_mark_page_by_page_until_an_empty_one() -> None:
    source = Listing(calls(101, 105, 106, 110, 111))
    pages = tail(source)
    assert uids(pages) == [[101, 105, 106], [110, 111]]
    assert marks(pages) == [106, 111]
    assert [(ask.after_uid, ask.offset) for ask in source.asked] == [(100, 0), (106, 0), (111, 0)]


def test_a_silently_smaller_limit_does_not_end_the_tail() -> None:
    pages = tail(Listing(calls(*range(101, 108)), clamp=2), limit=1000)
    assert uids(pages) == [[101, 102], [103, 104], [105, 106], [107]]
    assert marks(pages) == [102, 104, 106, 107]


def test_descending_pages_move_the_mark_once_when_everything_is_read() -> None:
    source = Listing(calls(*range(107, 100, -1)))
    pages = tail(source)
    assert uids(pages) == [[107, 106, 105], [104, 103, 102], [101]]
    assert marks(pages) == [None, None, 107]
    assert [(ask.after_uid, ask.offset) for ask in source.asked] == [(100, 0), (100, 3), (100, 6), (100, 7)]


def test_pages_of_one_record_prove_no_order() -> None:
    """A page size of one, and an operator who sends the newest first: taken for ascending, all but one were lost."""
    pages = tail(Listing(calls(103, 102, 101)), limit=1)
    assert uids(pages) == [[103], [102], [101]]
    assert marks(pages) == [None, None, 103]


def test_a_single_new_call_takes_two_requests_and_one_commit() -> None:
    source = Listing(calls(101))
    pages = tail(source)
    assert (uids(pages), marks(pages), len(source.asked)) == ([[101]], [101], 2)


def test_an_unreadable_record_beside_one_call_proves_no_order() -> None:
    """Newest first: uid 109 can't be read and 105 can. Only 101 to 104 behind them show which order it is."""
    records: list[Cdr | Reject] = [
        Reject(109, "<CDR>109</CDR>", "duration: not a number"),
        *calls(105, 104, 103, 102, 101),
    ]
    pages = tail(Listing(records), limit=2)
    assert sorted(uid for page in uids(pages) for uid in page) == [101, 102, 103, 104, 105]
    assert marks(pages) == [None, None, 109]


def test_a_look_back_trusts_no_order() -> None:
    """Pages in the order in which calls became visible look ascending; 102 came late and stands behind 105."""
    listing = calls(101, 103, 104, 105, 102, 106)
    assert uids(tail(Listing(listing), limit=2)) == [[101, 103], [104, 105], [106]]
    pages = tail(Listing(listing), limit=2, mark=106, origin=Origin.LOOKBACK)
    assert uids(pages) == [[101, 103], [104, 105], [102, 106]]
    assert marks(pages) == [None, None, None]


def test_a_look_back_moves_the_mark_only_above_where_it_stands() -> None:
    pages = tail(Listing(calls(101, 102, 103)), mark=102, origin=Origin.LOOKBACK)
    assert marks(pages) == [103]


def test_the_mark_carries_the_moment_at_which_it_was_reached() -> None:
    """By the operator's clock, not by the calls' own times: a call written down days late has a high uid."""
    late = call(101, "2026-05-01 10:00:00")
    (page,) = tail(Listing([late]))
    assert page.checkpoint is not None
    assert page.checkpoint.high_water_ended_at == NOW


def test_unreadable_records_are_passed_but_a_garbled_uid_is_not_believed() -> None:
    near, far = Reject(102, "<CDR>near</CDR>", "cost"), Reject(101 + 2 * PLAUSIBLE_STEP, "<CDR>far</CDR>", "cost")
    pages = tail(Listing([call(101), near, far]))
    assert marks(pages) == [102]
    assert [reject for page in pages for reject in page.rejects] == [near, far]


FAR = 9_000_000_000


def test_a_call_far_above_all_others_is_stored_but_does_not_carry_the_mark_past_those_to_come() -> None:
    """Each poll brings it again, with the new calls, and ends."""
    source = Listing(calls(101, 102, FAR))
    pages = tail(source)
    assert uids(pages) == [[101, 102, FAR], [FAR]]
    assert marks(pages) == [102, None]
    assert uids(tail(Listing(calls(102, FAR)), after=102)) == [[FAR]]
    pages = tail(Listing(calls(102, 103, 110, FAR)), after=102)
    assert sorted({uid for page in uids(pages) for uid in page}) == [103, 110, FAR]
    assert [mark for mark in marks(pages) if mark] == [110]


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
def test_a_leap_of_the_sequence_is_followed_once_three_calls_agree(limit: int) -> None:
    """Whatever the order and the size of pages, and however far: nothing is read for ever."""
    for far in (FAR, 4 * 10**18):
        for few in (calls(101, far), calls(101, far, far + 60)):
            assert marks(tail(Listing(few), limit=limit))[-1] in (101, None)
        leap = (far, far + 30, far + 60)
        for leapt in (calls(101, *leap), calls(*leap), calls(*reversed(leap), 101)):
            source = Listing(leapt)
            pages = tail(source, limit=max(limit, 3))
            assert marks(pages)[-1] == far + 60
            assert {uid for page in uids(pages) for uid in page} == {cdr.uid for cdr in leapt}
            assert tail(source, after=far + 60, limit=limit) == []


@pytest.mark.parametrize("limit", [3, 1000])
@pytest.mark.parametrize(
    "leapt",
    [
        [call(FAR + n, "2026-05-10 07:00:00") for n in range(3)],
        [call(FAR + n, ref=f"{'0' * 8}{n}") for n in range(3)],
    ],
    ids=["older than a lower call", "refs of another time"],
)
def test_calls_that_do_not_agree_are_no_leap(leapt: list[Cdr], limit: int) -> None:
    """LastId below them still brings younger calls, or `ref` says another second than the date."""
    assert [mark for mark in marks(tail(Listing([*calls(101), *leapt]), limit=limit)) if mark] == [101]


def test_a_leap_that_was_garbled_on_its_way_is_not_followed() -> None:
    """It is asked for once more before it is believed."""

    class Garbled(Listing):
        def ask(self, asks: Sequence[CdrsAsk | TotalsAsk]) -> Document:
            document = super().ask(asks)
            self.records = [one for one in self.records if (one.uid or 0) < FAR]
            return document

    assert [mark for mark in marks(tail(Garbled(calls(101, FAR, FAR + 1, FAR + 2)), limit=1000)) if mark] == [101]


def test_calls_far_above_all_others_and_from_each_other_end_the_tail() -> None:
    source = Listing(calls(FAR, 2 * FAR, 3 * FAR))
    pages = tail(source, limit=2)
    assert uids(pages) == [[FAR, 2 * FAR], [3 * FAR]]
    assert marks(pages) == [None, None]


def test_a_record_that_stands_twice_hides_none_behind_it() -> None:
    """One page holds a record twice on top of its limit, so four records are three."""

    class Stutter(Listing):
        def ask(self, asks: Sequence[object]) -> Document:
            document = super().ask(asks)  # type: ignore[arg-type] # the tail asks for CDRs only
            if len(self.documents) == 1:
                (batch,) = batches(document)
                batch.cdrs.insert(0, batch.cdrs[0])
            return document

    pages = tail(Stutter(calls(105, 104, 103, 102, 101)))
    assert {uid for page in uids(pages) for uid in page} == {101, 102, 103, 104, 105}


def test_an_operator_who_ignores_offset_is_not_asked_for_ever() -> None:
    class Deaf(Listing):
        def ask(self, asks: Sequence[object]) -> Document:
            del asks
            return Document([Batch(calls(103, 102, 101))], NOW)

    with pytest.raises(NoProgress, match="repeats the same records for LastId 100"):
        tail(Deaf())


def test_an_operator_who_ignores_last_id_is_not_asked_for_ever() -> None:
    class Forgetful(Listing):
        def ask(self, asks: Sequence[object]) -> Document:
            from cdrsync.model import Batch

            del asks
            return Document([Batch(calls(51, 52, 53))], NOW)

    with pytest.raises(NoProgress):
        tail(Forgetful())


def test_the_tail_ends_although_calls_arrive_as_fast_as_they_are_read() -> None:
    """An empty page never comes here. What the first answer could show is read; the rest is for the next poll."""
    arriving, seconds = count(111), count()
    source = Listing(calls(*range(101, 111)), now=lambda: NOW + timedelta(seconds=next(seconds)))
    source._before = lambda: source.records.extend(_two_younger(arriving))
    pages = tail(source, limit=5)
    assert {uid for page in uids(pages) for uid in page} >= set(range(101, 111))
    assert len(source.asked) < 20


def test_a_look_back_ends_although_calls_arrive_as_fast_as_they_are_read() -> None:
    arriving, seconds = count(111), count()
    source = Listing(calls(*range(101, 111)), now=lambda: NOW + timedelta(seconds=next(seconds)))
    source._before = lambda: source.records.extend(_two_younger(arriving))
    pages = tail(source, limit=5, origin=Origin.LOOKBACK)
    assert {uid for page in uids(pages) for uid in page} >= set(range(101, 111))
    assert len(source.asked) < 20


def _two_younger(arriving: count[int]) -> list[Cdr]:
    return [call(next(arriving), started_at=NOW + timedelta(seconds=30)) for _ in range(2)]


def test_what_is_not_an_answer_to_getcdrs_is_refused() -> None:
    with pytest.raises(RequestRefused) as refused:
        batches(Document([Refusal("500", "Unable to process")], NOW))
    assert (refused.value.code, str(refused.value)) == ("500", "the operator refused GetCDRs: Unable to process")
    totals = Totals("all", None, 1, 0, 0, None, None, {})  # type: ignore[arg-type] # never looked at
    with pytest.raises(BadAnswer):
        batches(Document([totals], NOW))
