"""The window loop: whole days by StartDate, EndDate and offset, several in one document."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import count, zip_longest
from typing import TYPE_CHECKING

import pytest

from cdrsync.errors import NoProgress
from cdrsync.model import Batch, Cdr, CdrsAsk, Document, Origin, Page, Reject, Window
from cdrsync.sync.high_water import HighWater
from cdrsync.sync.windows import DOCUMENT_RECORDS, DOCUMENT_REQUESTS, DOCUMENT_ROOM, EndDates, window_pages
from tests.support.clock import NOW
from tests.support.examples import call
from tests.support.listing import Listing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cdrsync.sync.ports import Source

TODAY = date(2026, 5, 10)
FRIDAY = 5


def read(
    source: Source,
    *windows: Window,
    limit: int = 3,
    numbers: Sequence[str | None] = (None,),
    before: date = TODAY,
    high: HighWater | None = None,
) -> list[Page]:
    return list(
        window_pages(
            source,
            iter(windows),
            origin=Origin.BACKFILL,
            limit=limit,
            numbers=numbers,
            completes_before=before,
            end_dates=EndDates(),
            high=high,
        )
    )


def day(number: int) -> Window:
    """One day of May 2026."""
    return Window(date(2026, 5, number), date(2026, 5, number))


def on(number: int, *uids: int, clock: str = "10:00:00") -> list[Cdr]:
    return [call(uid, f"2026-05-{number:02} {clock}") for uid in uids]


def read_uids(pages: Sequence[Page]) -> set[int]:
    return {cdr.uid for page in pages for cdr in page.cdrs}


def completed(pages: Sequence[Page]) -> list[date]:
    return [day for page in pages for day in page.completes]


def test_a_day_ends_with_an_empty_answer_and_is_then_downloaded() -> None:
    source = Listing(on(9, 1, 2, 3, 4))
    pages = read(source, day(9))
    assert read_uids(pages) == {1, 2, 3, 4}
    assert [page.completes for page in pages] == [(), (), (date(2026, 5, 9),)]
    assert [[ask.offset for ask in document if isinstance(ask, CdrsAsk)] for document in source.documents] == [
        [0],
        [3, 6],  # a day that goes on for so long is expected to go on for as long again
        [4],
    ]


def test_a_day_without_calls_is_downloaded_with_one_request() -> None:
    source = Listing()
    pages = read(source, day(9))
    assert ([len(page) for page in pages], completed(pages), len(source.asked)) == ([0], [date(2026, 5, 9)], 1)


def test_a_day_that_goes_on_is_never_downloaded() -> None:
    assert completed(read(Listing(on(10, 1)), day(10), day(9))) == [date(2026, 5, 9)]


@pytest.mark.parametrize("clamp", [1, 2, 5])
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("end_included", [False, True])
def test_every_record_is_read_whatever_the_order_the_limit_and_the_end_date(
    clamp: int, descending: bool, end_included: bool
) -> None:
    records = on(8, *range(1, 12)) + on(9, *range(12, 16), clock="18:00:00") + on(10, 16, 17)
    listed = records[::-1] if descending else records
    pages = read(Listing(listed, clamp=clamp, end_included=end_included), day(10), day(9), day(8), limit=4)
    assert read_uids(pages) == set(range(1, 18))
    assert sorted(completed(pages)) == [date(2026, 5, 8), date(2026, 5, 9)]


def test_that_end_date_is_included_is_learned_from_an_afternoon_call_and_spares_reading_days_twice() -> None:
    records = [cdr for number in range(1, 9) for cdr in on(number, number, clock="18:00:00")]
    source = Listing(records, end_included=True)
    pages = read(source, *(day(number) for number in range(7, 0, -1)), limit=1000)
    assert read_uids(pages) == set(range(1, 9))
    ends = {ask.start_date: ask.end_date for ask in source.asked}
    assert ends.pop(date(2026, 5, 7)) == date(2026, 5, 8)  # not known yet
    assert ends == {date(2026, 5, number): date(2026, 5, number) for number in range(1, 7)}


def test_that_end_date_is_included_is_learned_from_pages_of_one_record_too() -> None:
    """Each record of the day after looks strange by itself; the first one that insists speaks for all of them."""
    records = [
        cdr for number in range(1, 9) for cdr in on(number, *range(10 * number, 10 * number + 9), clock="18:00:00")
    ]
    source = Listing(records, end_included=True, clamp=1)
    pages = read(source, *(day(number) for number in range(7, 0, -1)), limit=1)
    assert read_uids(pages) == {cdr.uid for cdr in records}
    assert len(source.documents) < 2 * len(records)


def test_a_call_in_the_first_hours_does_not_prove_that_end_date_is_included() -> None:
    """It may only mean that the operator's days begin by another clock; taken for proof, whole days were lost."""
    end_dates = EndDates()
    end_dates.learn(date(2026, 5, 9), on(9, 1, clock="00:59:59"))
    assert end_dates.of(day(8)) == date(2026, 5, 9)
    end_dates.learn(date(2026, 5, 9), on(9, 2, clock="12:00:01"))
    assert end_dates.of(day(8)) == date(2026, 5, 8)


def test_a_day_is_downloaded_only_when_it_is_read_for_every_number() -> None:
    records = [
        *(cdr._replace(bnumber="one") for cdr in on(9, 1)),
        *(cdr._replace(bnumber="two") for cdr in on(9, *range(2, 9))),
    ]
    pages = read(Listing(records), day(9), numbers=("one", "two"))
    assert read_uids(pages) == set(range(1, 9))
    assert [bool(page.completes) for page in pages] == [False] * (len(pages) - 1) + [True]


def test_new_calls_that_push_known_ones_to_higher_offsets_hide_none() -> None:
    source = Listing(on(10, 7, 6, 5, 4, 3, 2, 1))
    arriving = count(8)
    source._before = lambda: source.records.insert(0, on(10, next(arriving))[0]) if len(source.documents) < 3 else None
    assert read_uids(read(source, day(10))) >= set(range(1, 8))


@pytest.mark.parametrize("descending", [False, True])
def test_a_day_ends_although_calls_arrive_as_fast_as_they_are_read(descending: bool) -> None:
    arriving, seconds = count(11), count()
    source = Listing(on(10, *range(10, 0, -1) if descending else range(1, 11)))
    source._now = lambda: NOW + timedelta(seconds=next(seconds))

    def arrive() -> None:
        for _ in range(2):
            younger = call(next(arriving), "2026-05-10 13:01:00", started_at=NOW + timedelta(minutes=1))
            source.records.insert(0 if descending else len(source.records), younger)

    source._before = arrive
    pages = read(source, day(10), limit=5)
    assert read_uids(pages) >= set(range(1, 11))
    assert len(source.asked) < 20


def test_young_calls_in_no_order_do_not_end_a_day() -> None:
    """Newest first, one record a page: two calls that came between two pages look like the end of an ascending list."""
    source = Listing(on(10, 3, 2, 1))
    younger = [call(uid, "2026-05-10 13:01:00", started_at=NOW + timedelta(minutes=1)) for uid in (5, 4)]
    source._before = lambda: source.records.__setitem__(slice(0, 0), younger if len(source.documents) == 2 else [])
    assert read_uids(read(source, day(10), limit=1)) >= {1, 2, 3}


def test_an_operator_who_ignores_offset_is_not_asked_for_ever() -> None:
    class Deaf(Listing):
        def ask(self, asks: Sequence[object]) -> Document:
            return Document([Batch(on(9, 1, 2, 3)) for _ in asks], NOW)

    with pytest.raises(NoProgress, match="StartDate 2026-05-09 EndDate 2026-05-10"):
        read(Deaf(), day(9))


def test_an_operator_who_ignores_the_limit_is_understood() -> None:
    class Generous(Listing):
        def ask(self, asks: Sequence[object]) -> Document:
            cdr_asks = [ask for ask in asks if isinstance(ask, CdrsAsk)]
            return super().ask([CdrsAsk(10_000, ask.offset, None, ask.start_date, ask.end_date) for ask in cdr_asks])

    pages = read(Generous(on(9, *range(1, 50)) + on(8, *range(50, 90))), day(9), day(8))
    assert read_uids(pages) == set(range(1, 90))
    assert completed(pages) == [date(2026, 5, 9), date(2026, 5, 8)]


def test_unreadable_records_count_as_read() -> None:
    rejects = [Reject(None, f"<CDR>{n}</CDR>", "uid: not a number") for n in range(4)]

    class Hostile(Listing):
        def ask(self, asks: Sequence[object]) -> Document:
            cdr_asks = [ask for ask in asks if isinstance(ask, CdrsAsk)]
            return Document([Batch([], rejects[ask.offset : ask.offset + 3]) for ask in cdr_asks], NOW)

    pages = read(Hostile(), day(9))
    assert [reject for page in pages for reject in page.rejects] == rejects
    assert completed(pages) == [date(2026, 5, 9)]


def test_the_highest_uid_of_all_answers_is_seen() -> None:
    high = HighWater(-1)
    read(Listing(on(9, 5, 9, 2)), day(9), high=high)
    assert (high.uid, high.seen_at) == (9, NOW)


class Counted(Listing):
    """Days of so many calls each, made up when asked for, so that 200,000 calls cost no memory."""

    def __init__(self, calls_a_day: int) -> None:
        super().__init__()
        self.calls_a_day = calls_a_day
        self.largest = 0

    def ask(self, asks: Sequence[object]) -> Document:
        cdr_asks = [ask for ask in asks if isinstance(ask, CdrsAsk)]
        self.documents.append(list(cdr_asks))
        answers = [Batch(list(self._calls(ask))) for ask in cdr_asks]
        self.largest = max(self.largest, sum(len(answer) for answer in answers))
        return Document(list(answers), NOW)

    def calls_on(self, day: date) -> int:
        del day
        return self.calls_a_day

    def _calls(self, ask: CdrsAsk) -> Iterator[Cdr]:
        assert ask.start_date is not None
        base = call(1, f"{ask.start_date} 10:00:00")
        first = ask.start_date.toordinal() * 1_000_000
        for n in range(ask.offset, min(ask.offset + ask.limit, self.calls_on(ask.start_date))):
            yield base._replace(uid=first + n)


def test_60_days_of_3300_calls_take_few_documents() -> None:
    """198,000 records are 240 pages and 60 empty ends; twenty requests fit into a document, as 2,000 records do."""
    source = Counted(3300)
    days = [Window(TODAY - timedelta(days=n), TODAY - timedelta(days=n)) for n in range(1, 61)]
    pages = read(source, *days, limit=1000)
    assert sum(len(page.cdrs) for page in pages) == 198_000
    assert len(completed(pages)) == 60
    assert len(source.asked) <= 320
    assert len(source.documents) <= 125
    assert source.largest <= 2_000


def test_a_sunday_does_not_make_the_next_document_ten_times_as_large() -> None:
    class Office(Counted):
        def calls_on(self, day: date) -> int:
            return 30 if day.isoweekday() > FRIDAY else super().calls_on(day)

    source = Office(700)
    days = [Window(TODAY - timedelta(days=n), TODAY - timedelta(days=n)) for n in range(1, 365)]
    pages = read(source, *days, limit=1000)
    assert sum(len(page.cdrs) for page in pages) == 260 * 700 + 104 * 30
    assert source.largest <= DOCUMENT_RECORDS * 1.5
    assert len(source.documents) <= 100


def test_records_of_many_bytes_come_in_small_documents() -> None:
    """Memory is bounded by bytes as well, and a few large records do not make the next documents small for ever."""

    class Talkative(Counted):
        def ask(self, asks: Sequence[object]) -> Document:
            document = super().ask(asks)
            records = sum(len(answer) for answer in document.answers if isinstance(answer, Batch))
            bytes_of_each = 50_000 if len(self.documents) < 20 else 650
            return replace(document, size=1_000 * len(asks) + bytes_of_each * records)

    source = Talkative(200)
    days = [Window(TODAY - timedelta(days=n), TODAY - timedelta(days=n)) for n in range(1, 61)]
    pages = read(source, *days, limit=100)
    assert sum(len(page.cdrs) for page in pages) == 60 * 200
    assert [len(page.cdrs) for page in pages[2:15] if len(page.cdrs) > 200] == []
    assert max(len(page.cdrs) for page in pages[20:]) > 1_000
    assert pages[0].weight == pages[0].size // 1_000 > len(pages[0])


def test_days_without_calls_share_documents() -> None:
    source = Counted(0)
    days = [Window(TODAY - timedelta(days=n), TODAY - timedelta(days=n)) for n in range(1, 61)]
    read(source, *days, limit=1000)
    assert len(source.documents) <= 9
    assert max(len(document) for document in source.documents) == DOCUMENT_REQUESTS


def test_a_document_has_room_for_what_comes_unexpectedly() -> None:
    """After a quiet weekend ten days are not asked at once with a page size of 10,000: too large an answer is refused
    whole, and would be so again and again.
    """
    source = Counted(0)
    days = [Window(TODAY - timedelta(days=n), TODAY - timedelta(days=n)) for n in range(1, 21)]
    read(source, *days, limit=10_000)
    assert max(len(document) for document in source.documents) * 10_000 == DOCUMENT_ROOM


def test_windows_are_shared_between_lanes_and_read_once() -> None:
    source = Listing([cdr for number in range(1, 10) for cdr in on(number, number)])
    windows = iter([day(number) for number in range(9, 0, -1)])
    lanes = [
        window_pages(
            source,
            windows,
            origin=Origin.SWEEP,
            limit=3,
            numbers=(None,),
            completes_before=TODAY,
            end_dates=EndDates(),
        )
        for _ in range(2)
    ]
    pages = [page for pair in zip_longest(*lanes) for page in pair if page is not None]
    assert read_uids(pages) == set(range(1, 10))
    assert sorted(completed(pages)) == [date(2026, 5, number) for number in range(1, 10)]


def test_times_of_the_model_are_utc() -> None:
    assert call(1, "2026-05-10 10:00:00").started_at == datetime(2026, 5, 10, 9, tzinfo=UTC)
