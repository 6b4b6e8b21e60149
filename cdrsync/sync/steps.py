"""The algorithm: bootstrap by date, tail by LastId, look-back, backfill, sweep.

The operator's "Downloading CDRs", and what it leaves open. Every method is a generator of `PageSaved`: it reads pages
ahead, saves them through the one write path and yields what each commit did. A caller may stop between any
two pages. Nothing is remembered between calls: every method reads its position from the database, so after an error
the caller just calls again.

    bootstrap   no checkpoint yet     Window today..today (growing steps back to the start date while empty)
    tail        every poll            LastId = high-water mark, until an empty page
    look-back   every few minutes     LastId = below the calls of the last `lookback`
    backfill    until done            a Window per day, newest first, days not downloaded yet
    sweep       daily                 a Window per day, the last `sweep_days`
"""

from __future__ import annotations

import itertools
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from cdrsync.model import (
    BACKFILL_STREAM,
    TAIL_STREAM,
    Batch,
    Cdr,
    CdrsAsk,
    Checkpoint,
    Origin,
    Page,
    PageSaved,
    Period,
    Totals,
    TotalsAsk,
    Window,
    batches,
    utc_now,
)
from cdrsync.sync.high_water import RESET_MARGIN, HighWater, refuse_reset
from cdrsync.sync.history import History, calls_before
from cdrsync.sync.read_ahead import Shared, blocks, read_ahead
from cdrsync.sync.tail import tail_pages
from cdrsync.sync.windows import EndDates, window_pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cdrsync.sync.ports import Source, Store, SyncSettings

    ReadAhead = Callable[[Sequence[Iterator[Page]]], Iterator[Page]]

BOOTSTRAP_STREAM = "bootstrap"
LOOKBACK_STREAM = "lookback"
SWEEP_STREAM = "sweep"

SWEEP_INTERVAL = timedelta(days=1)
WANTED_STREAM = "wanted"
"""Since when a number is wanted, or all numbers are: days that were read before lack its calls."""


class Sync:
    """One account's records from `source` into `store`."""

    def __init__(
        self,
        source: Source,
        store: Store,
        settings: SyncSettings,
        *,
        clock: Callable[[], datetime] = utc_now,
        read_ahead: ReadAhead = read_ahead,
    ) -> None:
        self._source = source
        self._store = store
        self._settings = settings
        self._clock = clock
        self._read_ahead = read_ahead
        self._numbers: tuple[str | None, ...] = settings.numbers or (None,)
        self._history = History(source, store, settings, clock)

    # ── steps ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def poll(self) -> Iterator[PageSaved]:
        """New calls: the tail, after the bootstrap where there is no high-water mark yet. Idle: one API request."""
        for number in self._numbers:
            uid = self._high_water_uid(TAIL_STREAM, number)
            if uid is None:
                yield from self._bootstrap(number)
                uid = self._high_water_uid(TAIL_STREAM, number)
            if uid is not None:
                yield from self._tail(number, uid, Origin.TAIL)

    def look_back(self) -> Iterator[PageSaved]:
        """Read the recent tail again, and today's first page: late, out-of-order and changed records.

        It reaches back `lookback` from the last look-back, so that a long pause hides nothing. Raises SequenceReset
        where the operator hands out lower uids than before.
        """
        begun = self._clock()
        since = self._last_read(LOOKBACK_STREAM, begun) - self._settings.lookback
        late = self._store.look_back_uid(since, begun + RESET_MARGIN)
        for number in self._numbers:
            mark = self._high_water_uid(TAIL_STREAM, number)
            if mark is not None:
                yield self._todays_first_page(number)
                proven = self._high_water_uid(LOOKBACK_STREAM, number)
                after = min(uid for uid in (mark, late, proven) if uid is not None)
                yield from self._tail(number, mark, Origin.LOOKBACK, after=after)
                yield self._proven(Origin.LOOKBACK, number, begun)
        yield from self._mark(Origin.LOOKBACK, LOOKBACK_STREAM, begun)

    def backfill(self, window: Window | None = None) -> Iterator[PageSaved]:
        """History: days of `window` newest first; by default the days since the start date not downloaded yet.

        Resumable: a day that was read to its end is not read again by the same job, whoever runs it.
        """
        if window is not None:
            yield from self._backfill_job(window)
        elif self._settings.start == "all" and self._history.first_day() is None:
            yield from self._history.walk_back(
                self.today(), lambda window: self.read_days(self._missing(window), Origin.BACKFILL)
            )
        else:
            yield from self.read_days(self.pending_days(), Origin.BACKFILL)

    def sweep(self) -> Iterator[PageSaved]:
        """Read `sweep_days` again, today included: changed costs and flags, records that came very late.

        They are counted back from the last sweep, so that a long pause hides nothing.
        """
        if not self._settings.sweep_days:
            return
        begun = self._clock()
        today = self.today()
        last = self._last_read(SWEEP_STREAM, begun).astimezone(self._settings.timezone).date()
        first = last - timedelta(days=self._settings.sweep_days - 1)
        start = self.start_day()
        window = Window(first if start is None else min(max(first, start), today), today)
        yield from self.read_days(reversed(window.days()), Origin.SWEEP)
        yield from self._mark(Origin.SWEEP, SWEEP_STREAM, begun)

    def catch_up(self) -> Iterator[PageSaved]:
        """Everything that is due, once: poll, look-back, backfill, sweep, and the tail again after long work.

        A first run counts as look-back and sweep: it reads everything anyway. One that goes on where a first run was
        cut off does not: what that had read may have changed since.
        """
        first = self._store.checkpoint(BOOTSTRAP_STREAM) is None
        yield from self.poll()
        worked = False
        steps = (
            (self.look_back, LOOKBACK_STREAM, self._settings.lookback_interval, Origin.LOOKBACK),
            (self.backfill, None, None, Origin.BACKFILL),
            (self.sweep, SWEEP_STREAM, SWEEP_INTERVAL, Origin.SWEEP),
        )
        for step, stream, interval, origin in steps:
            never = stream is not None and self._store.checkpoint(stream) is None
            resumed = never and not first and interval != timedelta.max  # timedelta.max: switched off
            if stream is None or interval is None or resumed or self._due(stream, interval):
                for saved in step():
                    worked = True
                    yield saved
            elif never:
                yield from self._mark(origin, stream, self._read_at(stream, self._clock()))
        if worked:
            yield from self.poll()

    def read_days(self, days: Iterable[date], origin: Origin) -> Iterator[PageSaved]:
        """Read whole days in the order given, a few in parallel; the page that ends a day marks it downloaded."""
        yield from self._windows((Window(day, day) for day in days), origin)

    def reread(self, day: date) -> tuple[int, dict[int, Cdr]]:
        """Read one day again. Returns how many records it changed, and the day's calls as the operator lists them."""
        listed: dict[int, Cdr] = {}

        def see(page: Page) -> None:
            listed.update((cdr.uid, cdr) for cdr in page.cdrs if cdr.call_date == day)

        pages = self._windows(iter([Window(day, day)]), Origin.HEAL, see=see)
        return sum(saved.inserted + saved.updated for saved in pages), listed

    def fetch(self, *, uid: int | None = None, ref: str | None = None) -> tuple[Batch, PageSaved]:
        """One record by uid or ref (GetCDR), stored like any other. An empty Batch where the operator has none."""
        batch = self._source.fetch(uid=uid, ref=ref)
        return batch, self._store.save(Page(Origin.FETCH, batch.cdrs, batch.rejects))

    # ── position ───────────────────────────────────────────────────────────────────────────────────────────────────

    def today(self) -> date:
        """The current day of the account's time zone."""
        return self._clock().astimezone(self._settings.timezone).date()

    def start_day(self) -> date | None:
        """The first day wanted. None where everything is and its beginning is not known yet.

        "today" means the day of the first poll ever: it is kept, so that a call in the last second before midnight
        is not missed.
        """
        start = self._settings.start
        if isinstance(start, date):
            return start
        if start == "all":
            return self._history.first_day()
        anchor = self._store.checkpoint(BOOTSTRAP_STREAM)
        return self.today() if anchor is None or anchor.window is None else anchor.window.first

    @property
    def wants_all(self) -> bool:
        """Whether everything is to be held that the operator has."""
        return self._settings.start == "all"

    @property
    def numbers(self) -> tuple[str | None, ...]:
        """The numbers that the account is limited to, or None for all of them."""
        return self._numbers

    def pending_days(self) -> list[date]:
        """Days from the start to yesterday that no page has completed yet, newest first."""
        start = self.start_day()
        return [] if start is None else self._missing(Window(start, self.today() - timedelta(days=1)))

    def calls_before(self, day: date, number: str | None) -> bool:
        """Whether the operator has calls before a day that the account leaves out. Raises RequestRefused."""
        return calls_before(self._source, day, self._settings, () if number is None else (number,))

    def reopen_history(self) -> None:
        """With `start_date = "all"`, have the next backfill read what the operator has before the first day held."""
        if self.wants_all:
            self._history.reopen()

    def tail_stream(self, number: str | None) -> str:
        """The stream whose high-water mark tells which calls to a number are held."""
        return _stream(TAIL_STREAM, number if number in self._numbers else None)

    def _missing(self, window: Window) -> list[date]:
        """Days of a window that no page has completed since all of the account's numbers are wanted, newest first."""
        marks = [self._store.checkpoint(_stream(WANTED_STREAM, number)) for number in self._numbers]
        since = max((mark.begun_at for mark in marks if mark is not None and mark.begun_at is not None), default=None)
        downloaded = self._store.days_downloaded(window, since=since)
        return [day for day in reversed(window.days()) if day not in downloaded]

    def _high_water_uid(self, stream: str, number: str | None) -> int | None:
        checkpoint = self._store.checkpoint(_stream(stream, number))
        return None if checkpoint is None else checkpoint.high_water_uid

    def _due(self, stream: str, interval: timedelta) -> bool:
        now = self._clock()
        return abs(now - self._read_at(stream, now)) >= interval  # abs: the host's clock may have been set back

    def _last_read(self, stream: str, now: datetime) -> datetime:
        return min(self._read_at(stream, now), now)

    def _read_at(self, stream: str, now: datetime) -> datetime:
        """When a look-back or sweep last began; before the first, when the account was first polled: all was read."""
        checkpoint = self._store.checkpoint(stream) or self._store.checkpoint(BOOTSTRAP_STREAM)
        return now if checkpoint is None or checkpoint.begun_at is None else checkpoint.begun_at

    def _mark(self, origin: Origin, stream: str, begun: datetime) -> Iterator[PageSaved]:
        yield self._store.save(Page(origin, [], checkpoint=Checkpoint(stream, begun_at=begun, done=True)))

    def _proven(self, origin: Origin, number: str | None, begun: datetime) -> PageSaved:
        """Keep up to which uid nothing rests on the order of tail pages: the next look-back begins there."""
        uid = self._high_water_uid(TAIL_STREAM, number)
        checkpoint = Checkpoint(_stream(LOOKBACK_STREAM, number), high_water_uid=uid, begun_at=begun, done=True)
        return self._store.save(Page(origin, [], checkpoint=checkpoint))

    # ── bootstrap and tail ─────────────────────────────────────────────────────────────────────────────────────────

    def _bootstrap(self, number: str | None) -> Iterator[PageSaved]:
        """Find the newest calls by date. The high-water mark is set after the last page, never before."""
        today = self.today()
        anchor = self._store.checkpoint(BOOTSTRAP_STREAM)
        first_run = anchor is None or anchor.window is None
        if first_run:
            checkpoint = Checkpoint(BOOTSTRAP_STREAM, window=Window(today, today), begun_at=self._clock())
            yield self._store.save(Page(Origin.BOOTSTRAP, [], checkpoint=checkpoint))
        for wanted in self._numbers if first_run else (number,):
            stream = _stream(WANTED_STREAM, wanted)
            if self._store.checkpoint(stream) is None:
                yield from self._mark(Origin.BOOTSTRAP, stream, self._clock())
        since = today if anchor is None or anchor.window is None else min(anchor.window.first, today)
        for window in itertools.chain([Window(since, today)], self._steps_back(since) if first_run else ()):
            high = HighWater(-1)
            yield from self._windows(iter([window]), Origin.BOOTSTRAP, numbers=(number,), high=high)
            if high.uid >= 0:
                checkpoint = high.checkpoint(_stream(TAIL_STREAM, number))
                yield self._store.save(Page(Origin.BOOTSTRAP, [], checkpoint=checkpoint))
                yield self._proven(Origin.BOOTSTRAP, number, self._read_at(BOOTSTRAP_STREAM, self._clock()))
                return

    def _steps_back(self, since: date) -> Iterator[Window]:
        """Windows of 1, 2, 4, … days before `since`, back to the start date, at most a year."""
        start = self._settings.start
        if start == "today":
            return
        first = start if isinstance(start, date) else since - timedelta(days=366)
        last, length = since - timedelta(days=1), 1
        while last >= first:
            window = Window(max(first, last - timedelta(days=length - 1)), last)
            yield window
            last, length = window.first - timedelta(days=1), length * 2

    def _tail(self, number: str | None, mark: int, origin: Origin, *, after: int | None = None) -> Iterator[PageSaved]:
        stream = _stream(TAIL_STREAM, number)
        pages = tail_pages(
            self._source,
            origin=origin,
            stream=stream,
            after_uid=mark if after is None else after,
            mark=mark,
            limit=self._settings.page_size,
            number=number,
        )
        first = next(pages, None)  # an idle poll ends here, without a thread
        if first is not None:
            known = self._store.checkpoint(stream)
            for page in itertools.chain([first], self._read_ahead([map(self._store.prepare, pages)])):
                refuse_reset(page, known, self._clock())
                yield self._store.save(page)

    def _todays_first_page(self, number: str | None) -> PageSaved:
        """The one question by date of a look-back: LastId alone would never show that the uids have fallen."""
        day, size = self.today(), self._settings.page_size
        ask = CdrsAsk(limit=size, start_date=day, end_date=day + timedelta(days=1), number=number)
        (batch,) = batches(self._source.ask([ask]))
        page = Page(Origin.LOOKBACK, batch.cdrs, batch.rejects)
        refuse_reset(page, self._store.checkpoint(_stream(TAIL_STREAM, number)), self._clock())
        return self._store.save(page)

    # ── windows ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _windows(
        self,
        windows: Iterator[Window],
        origin: Origin,
        *,
        numbers: tuple[str | None, ...] | None = None,
        see: Callable[[Page], None] | None = None,
        high: HighWater | None = None,
    ) -> Iterator[PageSaved]:
        """Read windows in a few threads that share them, and save their pages here, each shown to `see` before."""
        first = next(windows, None)
        if first is None:
            return  # nothing is due: no threads, and none of what they need
        shared, end_dates, today = Shared(blocks(itertools.chain([first], windows))), EndDates(), self.today()
        lanes = [
            window_pages(
                self._source,
                itertools.chain.from_iterable(shared),
                origin=origin,
                limit=self._settings.page_size,
                numbers=numbers or self._numbers,
                completes_before=today if numbers in (None, self._numbers) else date.min,
                end_dates=end_dates,
                high=high,
            )
            for _ in range(self._settings.workers)
        ]
        marks = [self._store.checkpoint(_stream(TAIL_STREAM, number)) for number in self._numbers]
        mark = max((mark for mark in marks if mark is not None), key=_mark_uid, default=None)
        for page in self._read_ahead([map(self._store.prepare, lane) for lane in lanes]):
            refuse_reset(page, mark, self._clock())
            if see is not None:
                see(page)
            saved = self._store.save(page)
            del page  # its memory is another's while the next one is waited for
            yield saved

    def _backfill_job(self, window: Window) -> Iterator[PageSaved]:
        job = self._store.checkpoint(BACKFILL_STREAM)
        if job is None or job.done or job.window != window or job.begun_at is None:
            job = Checkpoint(BACKFILL_STREAM, window=window, begun_at=self._clock())
            yield self._store.save(Page(Origin.BACKFILL, [], checkpoint=job))
        downloaded = self._store.days_downloaded(window, since=job.begun_at)
        yield from self.read_days((day for day in reversed(window.days()) if day not in downloaded), Origin.BACKFILL)
        done = Checkpoint(BACKFILL_STREAM, window=window, begun_at=job.begun_at, done=True)
        yield self._store.save(Page(Origin.BACKFILL, [], checkpoint=done))

    def expected_calls(self) -> int | None:
        """The most calls that GetTotals `all` can mean. None where it can't be read, or counts other numbers too."""
        if self._settings.numbers:
            return None
        (answer,) = self._source.ask([TotalsAsk(Period.ALL)]).answers
        if not isinstance(answer, Totals):
            return None
        counts = (answer.answered, answer.missed, answer.voicemail)
        return None if None in counts else sum(count or 0 for count in counts)


def _stream(name: str, number: str | None) -> str:
    return name if number is None else f"{name}:{number}"


def _mark_uid(mark: Checkpoint) -> int:
    return -1 if mark.high_water_uid is None else mark.high_water_uid
