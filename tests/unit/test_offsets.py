"""Reading one answer set by offset when the operator answers with pages that were asked for before, or elsewhere."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest

from cdrsync.errors import NoProgress
from cdrsync.model import Batch, Cdr, Document, Origin, Refusal, Reject, Totals, Window
from cdrsync.sync.offsets import PASSES, Offsets
from cdrsync.sync.tail import tail_pages
from cdrsync.sync.windows import EndDates, window_pages
from tests.support.clock import NOW
from tests.support.examples import call
from tests.support.listing import Listing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def of(*uids: int) -> Batch:
    return Batch([call(uid) for uid in uids])


def walk(pages: Sequence[Batch], offsets: Offsets) -> list[int]:
    """The offsets that were asked for these answers."""
    asked = []
    for n, page in enumerate(pages):
        assert not offsets.ended
        asked.append(offsets.position)
        offsets.take(page, NOW + timedelta(seconds=n))
    return asked


def test_the_page_before_once_more_moves_nothing() -> None:
    offsets = Offsets("it")
    assert walk([of(1, 2), of(1, 2), of(3, 4), of(3, 4), of()], offsets) == [0, 2, 2, 4, 4]
    assert offsets.ended


def test_known_records_that_come_twice_are_passed_and_the_set_is_read_once_more() -> None:
    """They may have been pushed there, or the answers may have been wrong twice: another reading shows which."""
    offsets = Offsets("it")
    pages = [of(1), of(1), of(1), of(2), of(), of(1), of(3), of(2), of()]
    assert walk(pages, offsets) == [0, 1, 1, 2, 3, 0, 1, 2, 3]
    assert offsets.ended


def test_a_set_that_lists_a_record_twice_ends_when_a_second_reading_shows_nothing_else() -> None:
    offsets = Offsets("it")
    once = [of(1), of(2), of(1), of(1), of()]
    walk([*once, *once], offsets)
    assert offsets.ended


def test_records_pushed_by_new_calls_are_proof_enough() -> None:
    offsets = Offsets("it")
    assert walk([of(9, 8, 7), of(7, 6, 5), of(5, 4), of()], offsets) == [0, 3, 6, 8]
    assert offsets.ended


def test_known_records_in_another_place_are_not() -> None:
    """The second page is one of another reading: 4 to 6 hide behind it."""
    offsets = Offsets("it")
    walk([of(1, 2, 3), of(1, 3, 7), of(7, 8, 9), of()], offsets)
    assert (offsets.ended, offsets.position) == (False, 0)


def test_calls_that_arrive_meanwhile_end_no_reading_in_which_a_page_was_repeated() -> None:
    """The page of 5 and 6 was never shown: calls as young as 7 and 8 end the next reading, which shows it."""
    offsets = Offsets("it")
    arrived = Batch([call(uid)._replace(started_at=NOW + timedelta(minutes=uid)) for uid in (7, 8)])
    asked = walk([of(1, 2), of(3, 4), of(1, 2), of(1, 2), arrived], offsets)
    assert (asked, offsets.ended, offsets.position) == ([0, 2, 4, 4, 6], False, 0)
    walk([of(1, 2), of(3, 4), of(5, 6), arrived, of()], offsets)
    assert offsets.ended


def test_a_set_that_never_comes_to_rest_is_given_up() -> None:
    offsets = Offsets("it")
    with pytest.raises(NoProgress, match="it move while"):
        walk(_restless(), offsets)


def _restless() -> list[Batch]:
    pages: list[Batch] = []
    for n in range(PASSES + 1):
        pages += [of(1, 2), of(3 + n, 2), of()]
    return pages


def test_strangers_are_believed_when_the_operator_insists() -> None:
    offsets = Offsets("it", lambda page: all(cdr.uid < 100 for cdr in page.cdrs))
    assert walk([of(101), of(1), of(102, 2), of(102, 2), of(102, 2), of()], offsets) == [0, 0, 1, 1, 1, 3]
    assert offsets.ended


def test_unreadable_records_are_known_again() -> None:
    offsets = Offsets("it")
    page = Batch([], [Reject(None, "<CDR>1</CDR>", "uid")])
    assert walk([page, page, of(2), of()], offsets) == [0, 1, 1, 2]


def test_an_unreadable_record_at_or_below_last_id_is_a_stranger() -> None:
    """Counted as the first of the new ones, it would hide the first of them."""
    late = Reject(100, "<CDR>100</CDR>", "cost")
    answers = [Batch([], [late]), of(105, 104), of()]

    class Scripted(Listing):
        def ask(self, asks: Sequence[object]) -> Document:
            del asks
            return Document([answers.pop(0)], NOW)

    pages = list(tail_pages(Scripted(), origin=Origin.TAIL, stream="tail", after_uid=100, mark=100, limit=4))
    assert [[cdr.uid for cdr in page.cdrs] for page in pages] == [[], [105, 104]]
    assert answers == []


class Repeating(Listing):
    """Answers the nth request with the page before it."""

    def __init__(self, records: Sequence[Cdr], nth: int, *, clamp: int) -> None:
        super().__init__(records, clamp=clamp)
        self._nth = nth
        self._sent = 0
        self._page = Batch([])

    def ask(self, asks: Sequence[object]) -> Document:
        document = super().ask(asks)  # type: ignore[arg-type] # these tests ask for CDRs only
        answers: list[Batch | Totals | Refusal] = []
        for answer in document.answers:
            self._sent += 1
            if self._sent != self._nth and isinstance(answer, Batch):
                self._page = answer if len(answer) else self._page
                answers.append(answer)
            else:
                answers.append(self._page)
        return Document(answers, document.answered_at)


@pytest.mark.parametrize("order", [sorted, lambda uids: sorted(uids, reverse=True)])
@pytest.mark.parametrize("nth", range(2, 12))
def test_the_tail_misses_nothing_whichever_page_is_repeated(nth: int, order: Callable[[range], list[int]]) -> None:
    source = Repeating([call(uid) for uid in order(range(101, 120))], nth, clamp=4)
    pages = list(tail_pages(source, origin=Origin.TAIL, stream="tail", after_uid=100, mark=100, limit=4))
    assert {cdr.uid for page in pages for cdr in page.cdrs} == set(range(101, 120))


@pytest.mark.parametrize("nth", range(2, 30))
def test_days_miss_nothing_whichever_page_is_repeated(nth: int) -> None:
    days = [date(2026, 5, n) for n in (9, 8, 7)]
    records = [call(10 * day.day + n, f"{day} 15:00:00") for day in days for n in range(7)]
    pages = window_pages(
        Repeating(records, nth, clamp=2),
        iter([Window(day, day) for day in days]),
        origin=Origin.BACKFILL,
        limit=2,
        numbers=(None,),
        completes_before=date(2026, 5, 10),
        end_dates=EndDates(),
    )
    assert {cdr.uid for page in pages for cdr in page.cdrs} == {cdr.uid for cdr in records}
