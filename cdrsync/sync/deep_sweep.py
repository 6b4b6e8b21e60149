"""The deep sweep: every record by its uid, also those that no date shows (a calldate of 0000-00-00) or another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdrsync.model import BEGINNING, MAX_UID, CdrsAsk, Checkpoint, Origin, Page, PageSaved, Window
from cdrsync.sync.ports import batches
from cdrsync.sync.streams import Stream
from cdrsync.sync.tail import by_offset, follows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from cdrsync.sync.ports import Source
    from cdrsync.sync.transfer import Transfer

A_DAY = 86_400
"""Uids that the platform hands out in a day: so far below the first call wanted a record may lie that no date shows."""


class DeepSweep:
    """LastId walks over the uids of one account, as far as its tail has come."""

    def __init__(self, transfer: Transfer) -> None:
        self._transfer = transfer
        self._store = transfer.store
        self._position = transfer.position
        self._clock = transfer.clock

    def sweep(self) -> Iterator[PageSaved]:
        """Walk over all uids of what is wanted. Resumable: how far it has come is kept."""
        numbers = self._position.numbers
        job = self._store.checkpoint(Stream.DEEP_SWEEP)
        begun = self._clock() if job is None or job.done or job.begun_at is None else job.begun_at
        if job is None or job.begun_at != begun:
            first = self._position.start_day() or BEGINNING
            after, _ = self._uids_of(Window(first, self._position.today()))
            streams = [Stream.of(Stream.DEEP_SWEEP, number) for number in numbers]
            for stream in dict.fromkeys([*streams, Stream.DEEP_SWEEP]):  # the job last: only then has it begun
                checkpoint = Checkpoint(stream, high_water_uid=after, begun_at=begun, lowers=True)
                yield self._transfer.keep(Origin.DEEP_SWEEP, checkpoint)
        for number in numbers:
            reached = self._position.high_water_uid(Stream.DEEP_SWEEP, number) or 0
            yield from self._walk(reached, MAX_UID, number, Stream.of(Stream.DEEP_SWEEP, number), begun)
        done = Checkpoint(Stream.DEEP_SWEEP, begun_at=begun, done=True)
        yield self._transfer.keep(Origin.DEEP_SWEEP, done)

    def around(self, window: Window) -> Iterator[PageSaved]:
        """Walk over the uids around those of a window."""
        after, until = self._uids_of(window)
        for number in self._position.numbers:
            yield from self._walk(after, until, number, None, self._clock())

    def _uids_of(self, window: Window) -> tuple[int, int]:
        """The uids to walk over for a window: from after the first one up to the second."""
        below, above = self._store.uids_around(window)
        if below is None:
            first = 0 if self._position.wants_all else self._store.uids_around(Window(BEGINNING, BEGINNING))[1]
            below = max(0, (first or 0) - A_DAY)
        return below, MAX_UID if above is None else above

    def _walk(
        self, after: int, until: int, number: str | None, stream: str | None, begun: datetime
    ) -> Iterator[PageSaved]:
        mark = self._store.checkpoint(Stream.of(Stream.TAIL, number))
        if mark is None or mark.high_water_uid is None:
            return  # nothing was read yet
        pages = walk_pages(
            self._transfer.source,
            stream=stream,
            after_uid=after,
            until=min(until, mark.high_water_uid),
            limit=self._transfer.settings.page_size,
            number=number,
            begun_at=begun,
        )
        yield from self._transfer.save(pages, mark)


def walk_pages(
    source: Source,
    *,
    stream: str | None,
    after_uid: int,
    until: int,
    limit: int,
    number: str | None,
    begun_at: datetime,
) -> Iterator[Page]:
    """Pages of every record whose uid lies after one uid, up to another: what no date shows comes, too.

    A page in ascending order carries how far the walk has come, where it has a stream.
    """
    while after_uid < until:
        document = source.ask([CdrsAsk(limit=limit, after_uid=after_uid, number=number)])
        (batch,) = batches(document)
        if not len(batch):
            return
        if not follows(after_uid, batch.cdrs):
            for read, _, _, size in by_offset(source, document, after_uid, limit, number):
                if len(read):
                    yield Page(Origin.DEEP_SWEEP, read.cdrs, read.rejects, size=size)
            return
        if min(one.uid for one in batch.records() if one.uid is not None) > until:
            return
        after_uid = max(cdr.uid for cdr in batch.cdrs)
        reached = None if stream is None else Checkpoint(stream, high_water_uid=after_uid, begun_at=begun_at)
        yield Page(Origin.DEEP_SWEEP, batch.cdrs, batch.rejects, checkpoint=reached, size=document.size)
