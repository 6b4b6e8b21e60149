"""Windows: all records of a range of days, by StartDate, EndDate and offset, until an empty answer proves the end.

Nothing is trusted that the reference page leaves open: page order, a silently smaller `limit`, whether EndDate is
included.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING

from cdrsync.model import RECORD_BYTES, Batch, Cdr, CdrsAsk, Origin, Page, Window
from cdrsync.sync.offsets import Offsets, of_number
from cdrsync.sync.ports import batches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cdrsync.model import Document
    from cdrsync.sync.high_water import HighWater
    from cdrsync.sync.ports import Source

DOCUMENT_REQUESTS = 20
"""GetCDRs queued in one document at most: they cost one round trip together."""

DOCUMENT_RECORDS = 2_500
"""Records expected of one document at most (one page, where page_size is larger): bounds memory. Fewer where each has
more than RECORD_BYTES."""

DOCUMENT_ROOM = 20_000
"""Records that a document has room for at most (one page, where page_size is larger), should more come."""

WEEK = 7  # days
GROWTH = 4  # windows that are asked at once for each whose calls are known

NOON = time(12)

DAY_MARGIN = timedelta(hours=3)
"""How far outside the days asked a call may have begun: the operator's days may begin by another clock than ours."""


@dataclass(slots=True)
class EndDates:
    """Whether EndDate is included, as far as the answers of this run have proven it.

    Until then the day after is asked, which is right either way and reads one day twice where EndDate is included.
    """

    included: bool = False

    def of(self, window: Window) -> date:
        """The EndDate to ask for a window."""
        return window.last if self.included else window.last + timedelta(days=1)

    def learn(self, asked: date, cdrs: Iterable[Cdr]) -> None:
        """A call after noon of the EndDate asked proves that the day is included.

        One in its first hours may only mean that the operator's days begin by another clock.
        """
        if not self.included:
            self.included = any(cdr.call_date == asked and cdr.call_time > NOON for cdr in cdrs)


@dataclass(slots=True)
class _WindowRead:
    """One window of one number being read."""

    window: Window
    number: str | None
    end_date: date
    step: int  # records of a full page: `limit`, or less once the operator is seen to clamp it
    offsets: Offsets
    short: int = 0  # records of the last page where it was not full: the end, or a clamped limit

    def asks(self, limit: int, count: int) -> list[CdrsAsk]:
        return [
            CdrsAsk(
                limit=limit,
                offset=self.offsets.position + n * self.step,
                start_date=self.window.first,
                end_date=self.end_date,
                number=self.number,
            )
            for n in range(count)
        ]

    def take(self, ask: CdrsAsk, batch: Batch, answered_at: datetime) -> bool:
        """Move on by one answer, if it is believed. Answers come in the order of their offsets."""
        if self.offsets.ended or ask.offset != self.offsets.position:
            return False  # asked on the guess that the pages before it are full; its records are kept
        if not self.offsets.take(batch, answered_at):
            return False
        count = len(batch)
        if self.short:  # records behind a page that was not full: this is how many a page may have
            self.step = max(self.short, count)
        self.short = count if count < self.step else 0
        return True


def window_pages(
    source: Source,
    windows: Iterator[Window],
    *,
    origin: Origin,
    limit: int,
    numbers: Sequence[str | None],
    completes_before: date,
    end_dates: EndDates,
    high: HighWater | None = None,
) -> Iterator[Page]:
    """Pages of all records of the windows, one page a document, windows in the order given.

    The end of one window and the beginning of the next ones are asked in one document. Windows are taken from the
    iterator one by one, so that several threads can share it. A page `completes` the days before `completes_before`
    whose window it ends for every number. `high` is shown every answer that is believed.
    """
    plan = _Plan(windows, limit, numbers, end_dates)
    while queued := plan.document():
        # Nothing here keeps the page: it goes with whoever saves it, while the next document is asked and read.
        yield plan.page(queued, source.ask([ask for _, ask in queued]), origin, completes_before, high)


class _Plan:
    """Which requests go into the next document, so that few documents and few records too many are asked."""

    def __init__(
        self, windows: Iterator[Window], limit: int, numbers: Sequence[str | None], end_dates: EndDates
    ) -> None:
        self._windows = windows
        self._limit = limit
        self._most = max(1, min(DOCUMENT_REQUESTS, DOCUMENT_ROOM // limit))
        self._numbers = numbers
        self._end_dates = end_dates
        self._under_way: deque[_WindowRead] = deque()
        self._unfinished: Counter[Window] = Counter()
        self._counts: deque[int] = deque(maxlen=WEEK * len(numbers))  # records of the windows finished last
        self._room = DOCUMENT_RECORDS  # records that the next document should bring at most

    def document(self) -> list[tuple[_WindowRead, CdrsAsk]]:
        """The requests of the next document; none when every window is read."""
        queued: list[tuple[_WindowRead, CdrsAsk]] = []
        expected = 0
        for place, read in enumerate(self._reads(), start=1):
            count = self._pages_left(read)
            records = self._expected(read, count)
            if queued and (len(queued) + count > self._most or expected + records > self._room):
                break
            queued += [(read, ask) for ask in read.asks(self._limit, count)]
            expected += records
            if place >= self._foreseen or read.offsets.doubtful:
                break
        return queued

    def _reads(self) -> Iterator[_WindowRead]:
        """Reads under way, then those of further windows, which are begun by being looked at."""
        yield from list(self._under_way)
        for window in self._windows:
            end_date = self._end_dates.of(window)
            begun = [
                _WindowRead(window, number, end_date, self._limit, _offsets(window, end_date, number, self._end_dates))
                for number in self._numbers
            ]
            self._under_way += begun
            self._unfinished[window] = len(begun)
            yield from begun

    @property
    def _foreseen(self) -> int:
        """Windows that may be asked at once: the first by itself, since it may show that EndDate is included.

        Then some for each that is known, until it is a week: behind a Sunday lie days of twenty times as many calls.
        """
        known = len(self._counts)
        return DOCUMENT_REQUESTS if known == self._counts.maxlen else max(1, known * GROWTH)

    @property
    def _typical(self) -> int:
        """Records that the next window probably has. The mean of a week: many fewer calls are made on a Sunday."""
        return sum(self._counts) // len(self._counts) if self._counts else self._limit - 1

    def _pages_left(self, read: _WindowRead) -> int:
        """Pages to ask of a window at once: as many as it probably has, one where only its end is to prove."""
        if read.short or read.offsets.doubtful:
            return 1
        position = read.offsets.position
        most = max(1, min(self._most, self._room // read.step))
        left = position if position > self._typical else self._typical - position
        return min(most, left // read.step + 1)

    def _expected(self, read: _WindowRead, pages: int) -> int:
        if read.short:
            return 0
        left = self._typical - read.offsets.position
        return min(pages * self._limit, left) if left >= 0 else pages * self._limit

    def page(
        self,
        queued: Sequence[tuple[_WindowRead, CdrsAsk]],
        document: Document,
        origin: Origin,
        completes_before: date,
        high: HighWater | None,
    ) -> Page:
        """Take in the answers to the requests of a document, and make one page of them."""
        answers = batches(document)
        cdrs: list[Cdr] = []
        for (read, ask), batch in zip(queued, answers, strict=True):
            cdrs += batch.cdrs
            if read.take(ask, batch, document.answered_at):
                self._end_dates.learn(read.end_date, batch.cdrs)
                if high is not None:
                    high.see(batch, document.answered_at)
        completes = tuple(day for window in self._finish() for day in window.days() if day < completes_before)
        rejects = [reject for batch in answers for reject in batch.rejects]
        page = Page(origin, cdrs, rejects, completes=completes, size=document.size)
        if len(page):
            usual = RECORD_BYTES * (len(page) + len(answers))  # bytes; each answer has an envelope
            self._room = DOCUMENT_RECORDS // max(1, document.size // usual)
        return page

    def _finish(self) -> list[Window]:
        """Windows that ended with the last document."""
        finished = []
        for read in [read for read in self._under_way if read.offsets.ended]:
            self._under_way.remove(read)
            self._counts.append(read.offsets.position)
            self._unfinished[read.window] -= 1
            if not self._unfinished[read.window]:
                finished.append(read.window)
        return finished


def _offsets(window: Window, end_date: date, number: str | None, end_dates: EndDates) -> Offsets:
    """Calls of the day after are strangers to a window until, by coming again, they prove that EndDate is included."""
    theirs = of_number(number)
    earliest = datetime.combine(window.first, time.min) - DAY_MARGIN
    day_ends = datetime.combine(window.last, time.max) + DAY_MARGIN
    end_date_ends = datetime.combine(end_date, time.max) + DAY_MARGIN

    def belongs(batch: Batch) -> bool:
        latest = end_date_ends if end_dates.included else day_ends
        # Few: only these are worth a closer look.
        outside = [cdr for cdr in batch.cdrs if cdr.call_date not in window]
        near = (earliest <= datetime.combine(cdr.call_date, cdr.call_time) <= latest for cdr in outside)
        return all(near) and theirs(batch)

    return Offsets(f"StartDate {window.first} EndDate {end_date}", belongs)
