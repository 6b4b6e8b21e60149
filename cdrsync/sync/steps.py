"""The algorithm: bootstrap by date, tail by LastId, look-back, backfill, sweep.

The operator's "Downloading CDRs", and what it leaves open. Every method is a generator of `PageSaved`: it reads pages
ahead, saves them through the one write path and yields what each commit did. A caller may stop between any
two pages. Every method reads its position from the database, so after an error the caller just calls again.

    bootstrap   no checkpoint yet     Window today..today (growing steps back to the start date while empty)
    tail        every poll            LastId = high-water mark, until an empty page
    look-back   every few minutes     LastId = below the calls of the last `lookback`
    backfill    until done            a Window per day, newest first, days not downloaded yet
    sweep       daily                 a Window per day, the last `sweep_days`
    deep sweep  monthly               LastId = from the first call wanted up to the mark
"""

from __future__ import annotations

import itertools
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from cdrsync.model import BEGINNING, Batch, Cdr, Checkpoint, Origin, Page, PageSaved, Window, utc_now
from cdrsync.sync.deep_sweep import DeepSweep
from cdrsync.sync.high_water import RESET_MARGIN, HighWater
from cdrsync.sync.history import History, counted
from cdrsync.sync.read_ahead import read_ahead
from cdrsync.sync.streams import Stream
from cdrsync.sync.transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cdrsync.sync.ports import Source, Store, SyncSettings
    from cdrsync.sync.transfer import ReadAhead


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
        self._transfer = Transfer(source, store, settings, clock=clock, read_ahead=read_ahead)
        self._source = source
        self._store = store
        self._settings = settings
        self._clock = clock
        self.position = self._transfer.position
        self._numbers = self.position.numbers
        self._deep = DeepSweep(self._transfer)
        self._history = History(self._transfer)

    def poll(self) -> Iterator[PageSaved]:
        """New calls: the tail, after the bootstrap where there is no high-water mark yet. Idle: one API request."""
        for number in self._numbers:
            uid = self.position.high_water_uid(Stream.TAIL, number)
            if uid is None:
                yield from self._bootstrap(number)
                uid = self.position.high_water_uid(Stream.TAIL, number)
            if uid is not None:
                yield from self._transfer.tail(number, uid, Origin.TAIL)
        self._transfer.in_doubt = False

    def look_back(self) -> Iterator[PageSaved]:
        """Read the recent tail again, and today's first page: late, out-of-order and changed records.

        It reaches back `lookback` from the last look-back, so that a long pause hides nothing. Raises SequenceReset
        where the operator hands out lower uids than before.
        """
        begun = self._clock()
        since = self.position.last_read(Stream.LOOKBACK, begun) - self._settings.lookback
        late = self._store.look_back_uid(since, begun + RESET_MARGIN)
        for number in self._numbers:
            mark = self.position.high_water_uid(Stream.TAIL, number)
            if mark is not None:
                yield self._transfer.todays_first_page(number)
                proven = self.position.high_water_uid(Stream.LOOKBACK, number)
                after = min(uid for uid in (mark, late, proven) if uid is not None)
                yield from self._transfer.tail(number, mark, Origin.LOOKBACK, after=after)
                yield self._proven(Origin.LOOKBACK, number, begun)
        yield self._mark(Origin.LOOKBACK, Stream.LOOKBACK, begun)

    def backfill(self, window: Window | None = None) -> Iterator[PageSaved]:
        """History: days of `window` newest first; by default the days since the start date not downloaded yet.

        Resumable: a day that was read to its end is not read again by the same job, whoever runs it.
        """
        if window is not None:
            yield from self._backfill_job(window)
            return
        yield from self._keep_start()
        if self.position.wants_all and self.position.first_day() is None:
            yield from self._history.walk_back(
                self.position.today(), lambda window: self.read_days(self.position.missing(window), Origin.BACKFILL)
            )
        else:
            yield from self.read_days(self.position.pending_days(), Origin.BACKFILL)

    def sweep(self) -> Iterator[PageSaved]:
        """Read `sweep_days` again, today included: changed costs and flags, records that came very late.

        They are counted back from the last sweep, so that a long pause hides nothing.
        """
        if not self._settings.sweep_days:
            return
        begun = self._clock()
        today = self.position.today()
        last = self.position.last_read(Stream.SWEEP, begun).astimezone(self._settings.timezone).date()
        first = last - timedelta(days=self._settings.sweep_days - 1)
        start = self.position.start_day()
        window = Window(first if start is None else min(max(first, start), today), today)
        yield from self.read_days(reversed(window.days()), Origin.SWEEP)
        yield self._mark(Origin.SWEEP, Stream.SWEEP, begun)

    def deep_sweep(self) -> Iterator[PageSaved]:
        """Read all that is held again by uid: records that no date shows, or another one."""
        yield from self._deep.sweep()

    def reread_uids(self, window: Window) -> int:
        """Read the records again whose uids lie around those of a window. Returns how many that changed."""
        return sum(saved.inserted + saved.updated for saved in self._deep.around(window))

    def catch_up(self) -> Iterator[PageSaved]:
        """Everything that is due, once: poll, look-back, backfill, sweep, and the tail again after long work.

        A first run counts as look-back and sweep: it reads everything anyway.
        """
        first_run = self._store.checkpoint(Stream.BOOTSTRAP) is None
        yield from self._keep_start()
        yield from self.poll()
        worked = False
        for saved in itertools.chain(
            self._if_due(self.look_back, Stream.LOOKBACK, Origin.LOOKBACK, first_run=first_run),
            self.backfill(),
            self._if_due(self.sweep, Stream.SWEEP, Origin.SWEEP, first_run=first_run),
            self._if_due(self.deep_sweep, Stream.DEEP_SWEEP, Origin.DEEP_SWEEP, first_run=first_run),
        ):
            worked = True
            yield saved
        if worked:
            yield from self.poll()

    def _if_due(
        self, step: Callable[[], Iterator[PageSaved]], stream: str, origin: Origin, *, first_run: bool
    ) -> Iterator[PageSaved]:
        if self.position.due(stream, first_run=first_run):
            yield from step()
        elif first_run and stream != Stream.DEEP_SWEEP:
            self._mark(origin, stream, self.position.read_at(stream, self._clock()))

    def read_days(self, days: Iterable[date], origin: Origin) -> Iterator[PageSaved]:
        """Read whole days in the order given, a few in parallel; the page that ends a day marks it downloaded."""
        yield from self._transfer.windows((Window(day, day) for day in days), origin)

    def reread(self, day: date) -> tuple[int, dict[int, Cdr]]:
        """Read one day again. Returns how many records it changed, and the day's calls as the operator lists them."""
        listed: dict[int, Cdr] = {}

        def see(page: Page) -> None:
            listed.update((cdr.uid, cdr) for cdr in page.cdrs if cdr.call_date == day)

        pages = self._transfer.windows(iter([Window(day, day)]), Origin.HEAL, see=see)
        return sum(saved.inserted + saved.updated for saved in pages), listed

    def reopen_history(self) -> Iterator[PageSaved]:
        """Where all is wanted, read what the operator has before the first day held."""
        if self.position.wants_all and self._history.reopen():
            yield from self.backfill()

    def fetch(self, *, uid: int | None = None, ref: str | None = None, over: bool = False) -> tuple[Batch, PageSaved]:
        """Store one record (GetCDR); `over`: over another call of its uid, too. An empty Batch: there is none."""
        batch = self._source.fetch(uid=uid, ref=ref)
        return batch, self._store.save(Page(Origin.PERSON if over else Origin.FETCH, batch.cdrs, batch.rejects))

    def set_mark(self, uid: int, number: str | None = None) -> PageSaved:
        """Have the tail go on after a uid, whatever was read before: a person's word."""
        checkpoint = Checkpoint(
            Stream.of(Stream.TAIL, number), high_water_uid=uid, high_water_ended_at=self._clock(), lowers=True
        )
        return self._transfer.keep(Origin.PERSON, checkpoint)

    def set_start(self, day: date) -> PageSaved:
        """Want history from a day on, also a later one than before; BEGINNING: all of it. A person's word."""
        checkpoint = Checkpoint(Stream.START, window=Window(day, day), begun_at=self._clock(), done=True)
        return self._transfer.keep(Origin.PERSON, checkpoint)

    def _keep_start(self) -> Iterator[PageSaved]:
        """Keep what history is wanted: a run that is cut off must not forget it, whatever the next one is told."""
        kept, since = self._store.checkpoint(Stream.START), self.position.wanted_since()
        if kept is None or kept.window is None or kept.window.first > since:
            checkpoint = Checkpoint(Stream.START, window=Window(since, since), begun_at=self._clock(), done=True)
            yield self._transfer.keep(Origin.BACKFILL, checkpoint)

    def _mark(self, origin: Origin, stream: str, begun: datetime) -> PageSaved:
        return self._transfer.keep(origin, Checkpoint(stream, begun_at=begun, done=True))

    def _proven(self, origin: Origin, number: str | None, begun: datetime) -> PageSaved:
        """Keep up to which uid nothing rests on the order of tail pages: the next look-back begins there."""
        uid = self.position.high_water_uid(Stream.TAIL, number)
        checkpoint = Checkpoint(Stream.of(Stream.LOOKBACK, number), high_water_uid=uid, begun_at=begun, done=True)
        return self._transfer.keep(origin, checkpoint)

    # ── bootstrap and tail ─────────────────────────────────────────────────────────────────────────────────────────

    def _bootstrap(self, number: str | None) -> Iterator[PageSaved]:
        """Find the newest calls by date. The high-water mark is set after the last page, never before."""
        today = self.position.today()
        anchor = self._store.checkpoint(Stream.BOOTSTRAP)
        first_run = anchor is None or anchor.window is None
        if first_run:
            checkpoint = Checkpoint(Stream.BOOTSTRAP, window=Window(today, today), begun_at=self._clock())
            yield self._transfer.keep(Origin.BOOTSTRAP, checkpoint)
        for wanted in self._numbers if first_run else (number,):
            stream = Stream.of(Stream.WANTED, wanted)
            if self._store.checkpoint(stream) is None:
                yield self._mark(Origin.BOOTSTRAP, stream, self._clock())
        since = today if anchor is None or anchor.window is None else min(anchor.window.first, today)
        for window in itertools.chain([Window(since, today)], self._steps_back(since) if first_run else ()):
            high = HighWater(-1)
            yield from self._transfer.windows(iter([window]), Origin.BOOTSTRAP, numbers=(number,), high=high)
            high.believe_leap(self._source, limit=self._settings.page_size, number=number)
            if high.uid >= 0:
                checkpoint = high.checkpoint(Stream.of(Stream.TAIL, number))
                yield self._transfer.keep(Origin.BOOTSTRAP, checkpoint)
                yield self._proven(Origin.BOOTSTRAP, number, self.position.read_at(Stream.BOOTSTRAP, self._clock()))
                return

    def _steps_back(self, since: date) -> Iterator[Window]:
        """Windows of 1, 2, 4, … days before `since`, back to the first day wanted; a year where everything is."""
        wanted = self.position.wanted_since()
        first = wanted if wanted > BEGINNING else since - timedelta(days=366)
        last, length = since - timedelta(days=1), 1
        while last >= first:
            window = Window(max(first, last - timedelta(days=length - 1)), last)
            yield window
            last, length = window.first - timedelta(days=1), length * 2

    def _backfill_job(self, window: Window) -> Iterator[PageSaved]:
        job = self._store.checkpoint(Stream.BACKFILL)
        if job is None or job.done or job.window != window or job.begun_at is None:
            job = Checkpoint(Stream.BACKFILL, window=window, begun_at=self._clock())
            yield self._transfer.keep(Origin.BACKFILL, job)
            downloaded = set[date]()  # whatever a clock that was ahead has written
        else:
            downloaded = self._store.days_downloaded(window, since=job.begun_at)
        yield from self.read_days((day for day in reversed(window.days()) if day not in downloaded), Origin.BACKFILL)
        done = Checkpoint(Stream.BACKFILL, window=window, begun_at=job.begun_at, done=True)
        yield self._transfer.keep(Origin.BACKFILL, done)

    def expected_calls(self) -> int | None:
        """The most calls that GetTotals `all` can mean. None where it can't be read, or counts other numbers too."""
        return None if self._settings.numbers else counted(self._source)
