"""Reading pages from the operator until an empty answer proves the end ("Downloading CDRs" of the reference page).

Two loops, both pure over the `Source` port: `tail_pages` (LastId) and `window_pages` (StartDate, EndDate, offset).
Neither trusts what the reference page leaves open: page order, a silently smaller `limit`, whether EndDate is included.
"""

from __future__ import annotations

import itertools
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING

from cdrsync.errors import BadAnswer, NoProgress, RequestRefused
from cdrsync.model import Batch, Cdr, CdrsAsk, Checkpoint, Origin, Page, Refusal, Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from cdrsync.model import Document
    from cdrsync.ports import Source

DOCUMENT_REQUESTS = 10
"""GetCDRs queued in one document at most: they cost one round trip together."""

DOCUMENT_RECORDS = 5_000
"""Records expected of one document at most (one page, where page_size is larger): bounds memory and the commit."""

STALE_PAGES = 3
"""Pages in a row without a record not seen before, after which a window is given up.

One alone is normal where new calls push known ones to higher offsets while pages are being read."""

SETTLED_PAGES = 10
"""Pages in a row, each smaller than the largest before, after which the newest calls count as read.

Where calls arrive as fast as they are read, an empty page never comes; the next poll goes on from here."""

PLAUSIBLE_STEP = 10_000_000
"""How far above the last known uid an unreadable record may move the high-water mark. The platform hands out about one
uid a second, so this is some four months; a garbled uid must not carry the mark past all calls to come."""


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
    """The highest uid seen, and when the last of the calls had ended (UTC): what a Checkpoint of a tail carries."""

    uid: int
    ended_at: datetime | None = None

    def see(self, batch: Batch | Page) -> None:
        """Rise to the highest uid among the records."""
        if batch.cdrs:
            self.uid = max(self.uid, *(cdr.uid for cdr in batch.cdrs))
            ended_at = max(cdr.started_at + timedelta(seconds=cdr.duration) for cdr in batch.cdrs)
            self.ended_at = ended_at if self.ended_at is None else max(self.ended_at, ended_at)
        for reject in batch.rejects:
            if reject.uid is not None and self.uid < reject.uid <= self.uid + PLAUSIBLE_STEP:
                self.uid = reject.uid

    def checkpoint(self, stream: str) -> Checkpoint:
        """The checkpoint that is true once everything seen is committed."""
        return Checkpoint(stream, high_water_uid=self.uid, high_water_ended_at=self.ended_at)


def tail_pages(
    source: Source, *, origin: Origin, stream: str, after_uid: int, limit: int, number: str | None = None
) -> Iterator[Page]:
    """Pages of the records after a uid, each with the checkpoint that is true once it is committed.

    A page in ascending order proves that nothing lies between its records, so the next LastId is its last uid. A page
    out of order proves nothing: then the same LastId is read on by offset until an empty page, and the mark moves once.
    """
    high = HighWater(after_uid)
    last_id, offset, stale = after_uid, 0, 0
    seen: set[int | str] = set()
    arrivals = _Arrivals()
    while True:
        ask = CdrsAsk(limit=limit, offset=offset, after_uid=last_id, number=number)
        (batch,) = batches(source.ask([ask]))
        if not len(batch):
            if high.uid == last_id:
                return
            yield Page(origin, [], checkpoint=high.checkpoint(stream))
            last_id, offset, stale = high.uid, 0, 0
            seen.clear()
            continue
        high.see(batch)
        page = Page(origin, batch.cdrs, batch.rejects)
        if offset == 0 and high.uid > last_id and _ascending(batch.cdrs):
            yield Page(origin, batch.cdrs, batch.rejects, checkpoint=high.checkpoint(stream))
            last_id = high.uid
            if arrivals.settled(len(batch)):
                return
            continue
        stale = _stale(batch, seen, stale, f"LastId {last_id}")
        yield page
        offset += len(batch)


def _ascending(cdrs: Sequence[Cdr]) -> bool:
    return all(a.uid <= b.uid for a, b in itertools.pairwise(cdrs))


def _uid(cdr: Cdr) -> int:
    return cdr.uid


def _stale(batch: Batch, seen: set[int | str], stale: int, what: str) -> int:
    """How many pages in a row brought nothing new, this one included. Raises NoProgress at STALE_PAGES."""
    before = len(seen)
    seen.update(cdr.uid for cdr in batch.cdrs)
    seen.update(reject.raw if reject.uid is None else reject.uid for reject in batch.rejects)
    if len(seen) > before:
        return 0
    if stale + 1 == STALE_PAGES:
        raise NoProgress(f"the operator repeats the same records for {what}, whatever the offset")
    return stale + 1


@dataclass(slots=True)
class _Arrivals:
    """Notices that only what arrives while it is asked for is left to read."""

    largest: int = 0
    smaller: int = 0

    def settled(self, count: int) -> bool:
        """Count one page more."""
        self.smaller = self.smaller + 1 if count < self.largest else 0
        self.largest = max(self.largest, count)
        return self.smaller >= SETTLED_PAGES


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
        """A call later than the first second of the EndDate asked proves that the day is included."""
        if not self.included:
            self.included = any(cdr.call_date == asked and cdr.call_time > time.min for cdr in cdrs)


@dataclass(slots=True)
class _WindowRead:
    """One window of one number being read: records up to `position` are in hand, an empty page there proves the end."""

    window: Window
    number: str | None
    end_date: date
    step: int  # records of a full page: `limit`, or less once the operator is seen to clamp it
    live: bool  # calls may be arriving in it while it is being read
    position: int = 0
    last: frozenset[int] = frozenset()  # uids of the page before
    arrivals: _Arrivals = field(default_factory=_Arrivals)
    short: int = 0  # records of the last page where it was not full: the end, or a clamped limit
    stale: int = 0
    ended: bool = False
    seen: set[int | str] = field(default_factory=set)

    def asks(self, limit: int, count: int) -> list[CdrsAsk]:
        return [
            CdrsAsk(
                limit=limit,
                offset=self.position + n * self.step,
                start_date=self.window.first,
                end_date=self.end_date,
                number=self.number,
            )
            for n in range(count)
        ]

    def take(self, ask: CdrsAsk, batch: Batch) -> None:
        """Move on by one answer. Answers come in the order of their offsets."""
        if ask.offset > self.position:
            return  # asked on the guess that the pages before it are full; its records are kept, it proves nothing
        if not len(batch):
            self.ended = self.ended or ask.offset == self.position
            return
        count, uids = len(batch), frozenset(cdr.uid for cdr in batch.cdrs)
        if self.live and (uids < self.last or self.arrivals.settled(count)):
            self.ended = True  # the end of the page before, pushed here by new calls; or only arrivals are left
        else:
            what = f"StartDate {self.window.first} EndDate {self.end_date}"
            self.stale = _stale(batch, self.seen, self.stale, what)
        if self.short:  # records behind a page that was not full: this is how many a page may have
            self.step = max(self.short, count)
        self.short = count if count < self.step else 0
        self.position = max(self.position, ask.offset + count)
        self.last = uids


def window_pages(
    source: Source,
    windows: Iterator[Window],
    *,
    origin: Origin,
    limit: int,
    numbers: Sequence[str | None],
    today: date,
    end_dates: EndDates,
) -> Iterator[Page]:
    """Pages of all records of the windows, one page a document, windows in the order given.

    The end of one window and the beginning of the next ones are asked in one document. Windows are taken from the
    iterator one by one, so that several threads can share it. A page `completes` the days (before `today`) whose
    window it ends for every number.
    """
    plan = _Plan(windows, limit, numbers, end_dates, today)
    while queued := plan.document():
        answers = batches(source.ask([ask for _, ask in queued]))
        cdrs: list[Cdr] = []
        for (read, ask), batch in zip(queued, answers, strict=True):
            end_dates.learn(read.end_date, batch.cdrs)
            read.take(ask, batch)
            cdrs += batch.cdrs
        completes = tuple(day for window in plan.finish() for day in window.days() if day < today)
        rejects = [reject for batch in answers for reject in batch.rejects]
        yield Page(origin, cdrs, rejects, completes=completes)


class _Plan:
    """Which requests go into the next document, so that few documents and few records too many are asked."""

    def __init__(
        self,
        windows: Iterator[Window],
        limit: int,
        numbers: Sequence[str | None],
        end_dates: EndDates,
        today: date,
    ) -> None:
        self._windows = windows
        self._limit = limit
        self._numbers = numbers
        self._end_dates = end_dates
        self._today = today
        self._under_way: deque[_WindowRead] = deque()
        self._unfinished: Counter[Window] = Counter()
        self._typical = limit - 1  # records of the window finished last: what the next one probably has

    def document(self) -> list[tuple[_WindowRead, CdrsAsk]]:
        """The requests of the next document; none when every window is read."""
        queued: list[tuple[_WindowRead, CdrsAsk]] = []
        expected = 0
        for read in self._reads():
            count = self._pages_left(read)
            records = min(count * self._limit, max(self._typical - read.position, 0))
            if queued and (len(queued) + count > DOCUMENT_REQUESTS or expected + records > DOCUMENT_RECORDS):
                break
            queued += [(read, ask) for ask in read.asks(self._limit, count)]
            expected += records
        return queued

    def _reads(self) -> Iterator[_WindowRead]:
        """Reads under way, then those of further windows, which are begun by being looked at."""
        yield from list(self._under_way)
        for window in self._windows:
            end_date = self._end_dates.of(window)
            live = end_date >= self._today
            begun = [_WindowRead(window, number, end_date, self._limit, live) for number in self._numbers]
            self._under_way += begun
            self._unfinished[window] = len(begun)
            yield from begun

    def _pages_left(self, read: _WindowRead) -> int:
        """Pages to ask of a window at once: as many as it probably has, one where only its end is to prove."""
        if read.short:
            return 1
        most = max(1, min(DOCUMENT_REQUESTS, DOCUMENT_RECORDS // read.step))
        return min(most, max(self._typical - read.position, read.position) // read.step + 1)

    def finish(self) -> list[Window]:
        """Windows that ended with the last document."""
        finished = []
        for read in [read for read in self._under_way if read.ended]:
            self._under_way.remove(read)
            self._typical = read.position
            self._unfinished[read.window] -= 1
            if not self._unfinished[read.window]:
                finished.append(read.window)
        return finished
