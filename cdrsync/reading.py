"""Reading pages from the operator until an empty answer proves the end ("Downloading CDRs" of the reference page).

Two loops, both pure over the `Source` port: `tail_pages` (LastId) and `window_pages` (StartDate, EndDate, offset).
Neither trusts what the reference page leaves open: page order, a silently smaller `limit`, whether EndDate is included.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from itertools import pairwise, zip_longest
from typing import TYPE_CHECKING

from cdrsync.errors import BadAnswer, RequestRefused, SequenceReset
from cdrsync.model import MAX_UID, RECORD_BYTES, Batch, Cdr, CdrsAsk, Checkpoint, Origin, Page, Refusal, Window
from cdrsync.offsets import Offsets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cdrsync.model import Document
    from cdrsync.ports import Source

DOCUMENT_REQUESTS = 20
"""GetCDRs queued in one document at most: they cost one round trip together."""

DOCUMENT_RECORDS = 2_500
"""Records expected of one document at most (one page, where page_size is larger): bounds memory. Fewer where each has
more than RECORD_BYTES."""

DOCUMENT_ROOM = 20_000
"""Records that a document has room for at most (one page, where page_size is larger), should more come."""

WEEK = 7  # days
GROWTH = 4  # windows that are asked at once for each whose calls are known

PLAUSIBLE_STEP = 10_000_000
"""How far above the last known uid one record alone may move the high-water mark. The platform hands out about one uid
a second, so this is some four months; a garbled uid must not carry the mark past all calls to come."""

NOON = time(12)

DAY_MARGIN = timedelta(hours=3)
"""How far outside the days asked a call may have begun: the operator's days may begin by another clock than ours."""

SIGNIFICANT_DIGITS = 9
"""Last digits by which a number is known again: of +441213691057, 01213691057 and 1213691057 they are the same."""

RESET_MARGIN = timedelta(hours=2)
"""A call that began this long after the high-water mark came to be, yet has a lower uid, proves a new uid sequence."""


def batches(document: Document) -> list[Batch]:
    """The answers of a document of GetCDRs alone. Raises RequestRefused for the first request refused."""
    answers = []
    for answer in document.answers:
        if isinstance(answer, Refusal):
            raise RequestRefused(f"the operator refused GetCDRs: {answer.message}", code=answer.code)
        if not isinstance(answer, Batch):
            raise BadAnswer("the answer to GetCDRs holds no CDRs")
        answers.append(answer)
    return answers


@dataclass(slots=True)
class HighWater:
    """The highest uid seen, and when it came to be by the operator's clock: what a Checkpoint of a tail carries.

    Whether uids are handed out when a call begins, ends or is written down: every call up to it had begun by then.
    """

    uid: int
    seen_at: datetime | None = None
    doubted: set[int] = field(default_factory=set)  # uids of calls far above all others

    def see(self, batch: Batch, answered_at: datetime) -> bool:
        """Rise to the highest uid among the records that is believed; answers whether there was a higher one.

        A call far above all others is stored, but the mark stays below it, so that it comes again with each question
        until a second one above and near it confirms that the operator's sequence has leapt.
        """
        before = self.uid
        top = max((cdr.uid for cdr in batch.cdrs), default=before)
        self.uid = max(before, top) if top <= before + PLAUSIBLE_STEP else self._believed(batch.cdrs)
        for reject in batch.rejects:
            if reject.uid is not None and self.uid < reject.uid <= self.uid + PLAUSIBLE_STEP:
                self.uid = reject.uid
        if self.uid > before:
            self.seen_at = answered_at
        return self.uid > before

    def _believed(self, cdrs: Iterable[Cdr]) -> int:
        """The highest uid to which no step is too long, or whose leap the next uid confirms."""
        above = sorted({cdr.uid for cdr in cdrs if cdr.uid > self.uid} | self.doubted)
        believed = above[0] if self.uid < 0 else self.uid  # the first of all has nothing to be far from
        for uid, following in zip_longest(above, above[1:], fillvalue=MAX_UID + PLAUSIBLE_STEP + 1):
            if min(uid - believed, following - uid) <= PLAUSIBLE_STEP:
                believed = uid
        self.doubted = {uid for uid in above if uid > believed}
        return believed

    def checkpoint(self, stream: str) -> Checkpoint:
        """The checkpoint that is true once everything seen is committed."""
        return Checkpoint(stream, high_water_uid=self.uid, high_water_ended_at=self.seen_at)


def tail_pages(
    source: Source,
    *,
    origin: Origin,
    stream: str,
    after_uid: int,
    mark: int,
    limit: int,
    number: str | None = None,
) -> Iterator[Page]:
    """Pages of the records after a uid; those that end above `mark` carry the checkpoint that is then true.

    The tail takes a page in ascending order for proof that nothing lies between its records, so the next LastId is its
    last uid. A page out of order, or of one record, proves nothing: the same LastId is then read on by offset and the
    mark moves once, with the last page. A look-back trusts no order at all: it is what finds the tail to be wrong.
    """
    high, begun = HighWater(mark), None
    theirs = _of_number(number)
    document = source.ask([CdrsAsk(limit=limit, after_uid=after_uid, number=number)])
    while origin is Origin.TAIL and _follows(after_uid, batches(document)[0].cdrs):
        (batch,) = batches(document)
        if not theirs(batch) or not high.see(batch, document.answered_at):
            break  # another number's; or each far above all that is known: the same LastId would bring them for ever
        yield Page(origin, batch.cdrs, batch.rejects, checkpoint=high.checkpoint(stream), size=document.size)
        if begun is not None and max(cdr.started_at for cdr in batch.cdrs) > begun:
            return  # where calls arrive as fast as they are read: all that the first answer could show is in hand
        begun, after_uid = begun or document.answered_at, high.uid
        document = source.ask([CdrsAsk(limit=limit, after_uid=after_uid, number=number)])
    mark, page = high.uid, None
    offsets = Offsets(
        f"LastId {after_uid}",
        lambda found: theirs(found) and all(one.uid is None or one.uid > after_uid for one in found.records()),
    )
    while True:
        (batch,) = batches(document)
        if offsets.take(batch, document.answered_at):
            high.see(batch, document.answered_at)
        if len(batch):
            if page is not None:
                yield page
            page = Page(origin, batch.cdrs, batch.rejects, size=document.size)
        if offsets.ended:
            break
        document = source.ask([CdrsAsk(limit=limit, offset=offsets.position, after_uid=after_uid, number=number)])
    if page is not None:
        yield replace(page, checkpoint=high.checkpoint(stream)) if high.uid > mark else page


def refuse_reset(page: Page, mark: Checkpoint | None, now: datetime) -> None:
    """Raise SequenceReset where a call began clearly after the high-water mark came to be and yet has a lower uid.

    A call that is said to begin in the future proves nothing but a mistake.
    """
    if mark is None or mark.high_water_uid is None or mark.high_water_ended_at is None or not page.cdrs:
        return
    after, before = mark.high_water_ended_at + RESET_MARGIN, now + RESET_MARGIN
    if max(cdr.started_at for cdr in page.cdrs) <= after:
        return
    for cdr in page.cdrs:
        if cdr.uid < mark.high_water_uid and after < cdr.started_at < before:
            raise SequenceReset(
                f"uid {cdr.uid} began at {cdr.started_at:%Y-%m-%d %H:%M:%S} UTC, after the high-water mark "
                f"{mark.high_water_uid} had been reached: the operator's uids have fallen"
            )


def _follows(uid: int, cdrs: Sequence[Cdr]) -> bool:
    """Whether several calls come in ascending order after a uid."""
    return len(cdrs) > 1 and cdrs[0].uid > uid and all(a.uid < b.uid for a, b in pairwise(cdrs))


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


def _of_number(number: str | None) -> Callable[[Batch], bool]:
    """Whether every call was made to a number, written with or without country code and leading zero."""
    if number is None:
        return lambda _: True
    last = number[-SIGNIFICANT_DIGITS:]
    return lambda batch: all(cdr.bnumber is not None and cdr.bnumber.endswith(last) for cdr in batch.cdrs)


def _offsets(window: Window, end_date: date, number: str | None, end_dates: EndDates) -> Offsets:
    """Calls of the day after are strangers to a window until, by coming again, they prove that EndDate is included."""
    theirs = _of_number(number)
    earliest = datetime.combine(window.first, time.min) - DAY_MARGIN
    day_ends = datetime.combine(window.last, time.max) + DAY_MARGIN
    end_date_ends = datetime.combine(end_date, time.max) + DAY_MARGIN

    def belongs(batch: Batch) -> bool:
        latest = end_date_ends if end_dates.included else day_ends
        # Few: only these are worth a closer look.
        outside = [cdr for cdr in batch.cdrs if not window.first <= cdr.call_date <= window.last]
        near = (earliest <= datetime.combine(cdr.call_date, cdr.call_time) <= latest for cdr in outside)
        return all(near) and theirs(batch)

    return Offsets(f"StartDate {window.first} EndDate {end_date}", belongs)
