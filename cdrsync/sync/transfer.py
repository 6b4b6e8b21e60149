"""Pages on their way: read ahead from the operator, and saved unless they show that the uids have fallen."""

from __future__ import annotations

import itertools
from datetime import date, timedelta
from typing import TYPE_CHECKING

from cdrsync.errors import BadAnswer, RequestRefused, SequenceReset
from cdrsync.model import CdrsAsk, Checkpoint, Origin, Page, PageSaved
from cdrsync.sync.high_water import fallen
from cdrsync.sync.ports import batches
from cdrsync.sync.position import Position
from cdrsync.sync.read_ahead import Shared, blocks
from cdrsync.sync.streams import Stream
from cdrsync.sync.tail import tail_pages
from cdrsync.sync.windows import EndDates, window_pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from cdrsync.model import Window
    from cdrsync.sync.high_water import HighWater
    from cdrsync.sync.ports import Source, Store, SyncSettings

    ReadAhead = Callable[[Sequence[Iterator[Page]]], Iterator[Page]]


class Transfer:
    """What every step of the algorithm works with."""

    def __init__(
        self,
        source: Source,
        store: Store,
        settings: SyncSettings,
        *,
        clock: Callable[[], datetime],
        read_ahead: ReadAhead,
    ) -> None:
        self.source = source
        self.store = store
        self.settings = settings
        self.clock = clock
        self.position = Position(store, settings, clock)
        self.in_doubt = True  # answers may have come that nobody has saved, such as those to a process that was killed
        self._read_ahead = read_ahead

    def keep(self, origin: Origin, checkpoint: Checkpoint) -> PageSaved:
        """Save a checkpoint alone."""
        return self.store.save(Page(origin, [], checkpoint=checkpoint))

    def tail(self, number: str | None, mark: int, origin: Origin, *, after: int | None = None) -> Iterator[PageSaved]:
        """Read what follows the uid `mark`, or `after`, which is lower."""
        stream = Stream.of(Stream.TAIL, number)
        pages = tail_pages(
            self.source,
            origin=origin,
            stream=stream,
            after_uid=mark if after is None else after,
            mark=mark,
            limit=self.settings.page_size,
            number=number,
            in_doubt=self.in_doubt,
        )
        first = next(pages, None)  # an idle poll ends here, without a thread
        if first is not None:
            yield from self.save(pages, self.store.checkpoint(stream), first)

    def save(self, pages: Iterator[Page], mark: Checkpoint | None, *first: Page) -> Iterator[PageSaved]:
        """Save pages that are read ahead. `mark`: the high-water mark that they are held against."""
        for page in itertools.chain(first, self._ahead([pages])):
            self._refuse_reset(page, mark)
            yield self.store.save(page)

    def todays_first_page(self, number: str | None) -> PageSaved:
        """The one question by date of a look-back: LastId alone would never show that the uids have fallen."""
        day, size = self.position.today(), self.settings.page_size
        ask = CdrsAsk(limit=size, start_date=day, end_date=day + timedelta(days=1), number=number)
        (batch,) = batches(self.source.ask([ask]))
        page = Page(Origin.LOOKBACK, batch.cdrs, batch.rejects)
        self._refuse_reset(page, self.store.checkpoint(Stream.of(Stream.TAIL, number)))
        return self.store.save(page)

    def windows(
        self,
        windows: Iterator[Window],
        origin: Origin,
        *,
        numbers: tuple[str | None, ...] | None = None,
        see: Callable[[Page], None] | None = None,
        high: HighWater | None = None,
    ) -> Iterator[PageSaved]:
        """Read windows in a few threads that share them, and save their pages here, each shown to `see` before."""
        parts = blocks(windows)
        first = list(itertools.islice(parts, self.settings.workers))
        if not first:
            return  # nothing is due: no threads, and none of what they need
        wanted, today = self.position.numbers, self.position.today()
        shared, end_dates = Shared(itertools.chain(first, parts)), EndDates()
        lanes = [
            window_pages(
                self.source,
                itertools.chain.from_iterable(shared),
                origin=origin,
                limit=self.settings.page_size,
                numbers=numbers or wanted,
                completes_before=today if numbers in (None, wanted) else date.min,
                end_dates=end_dates,
                high=high,
            )
            for _ in first  # no more threads than have something to read
        ]
        marks = [self.store.checkpoint(Stream.of(Stream.TAIL, number)) for number in wanted]
        mark = max((mark for mark in marks if mark is not None), key=_mark_uid, default=None)
        for page in self._ahead(lanes):
            self._refuse_reset(page, mark)
            if see is not None:
                see(page)
            saved = self.store.save(page)
            del page  # its memory is another's while the next one is waited for
            yield saved

    def _ahead(self, streams: Sequence[Iterator[Page]]) -> Iterator[Page]:
        """Pages that are read ahead: what was read and is not taken, where this ends early, leaves a doubt."""
        before, self.in_doubt = self.in_doubt, True
        yield from self._read_ahead(streams)
        self.in_doubt = before

    def _refuse_reset(self, page: Page, mark: Checkpoint | None) -> None:
        """Raise SequenceReset where a call shows that the uids have fallen, and shows it again when it is asked for."""
        call = fallen(page, mark, self.clock())
        if call is None or mark is None:
            return
        try:
            again = self.source.fetch(uid=call.uid).cdrs
        except RequestRefused:
            again = [call]  # an operator that answers no such question can't unsay it either
        began = f"uid {call.uid} began at {call.started_at:%Y-%m-%d %H:%M:%S} UTC"
        if not any(one.uid == call.uid and one.started_at == call.started_at for one in again):
            raise BadAnswer(f"{began}, says one answer of the operator's, and another says otherwise")
        reached = f"after the high-water mark {mark.high_water_uid} had been reached"
        raise SequenceReset(f"{began}, {reached}: the operator's uids have fallen")


def _mark_uid(mark: Checkpoint) -> int:
    return -1 if mark.high_water_uid is None else mark.high_water_uid
