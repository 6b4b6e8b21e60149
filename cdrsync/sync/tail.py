"""The tail: records after a uid, page by page until an empty one ("Downloading CDRs" of the reference page)."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from cdrsync.model import Batch, Cdr, CdrsAsk, Document, Origin, Page
from cdrsync.sync.high_water import HighWater
from cdrsync.sync.offsets import Offsets, of_number
from cdrsync.sync.ports import batches

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from cdrsync.sync.ports import Source


def tail_pages(
    source: Source,
    *,
    origin: Origin,
    stream: str,
    after_uid: int,
    mark: int,
    limit: int,
    number: str | None = None,
    in_doubt: bool = False,
) -> Iterator[Page]:
    """Pages of the records after a uid; those that end above `mark` carry the checkpoint that is then true.

    The tail takes a page in ascending order for proof that nothing lies between its records: the next LastId is its
    last uid. A page out of order, or of one record, proves nothing: the same LastId is read on by offset, and the mark
    moves once, with the last page. A look-back trusts no order: it is what finds the tail to be wrong.

    `in_doubt`: the first answer may be that to a later question of a reader that was killed or has failed.
    """
    high, begun = HighWater(mark), None
    theirs = of_number(number)
    ask = CdrsAsk(limit=limit, after_uid=after_uid, number=number)
    document, trusted = source.ask([ask]), origin is Origin.TAIL
    if trusted and in_doubt and follows(after_uid, batches(document)[0].cdrs):
        around = source.ask([CdrsAsk(limit=limit, after_uid=max(after_uid - 1, 0), number=number)])
        trusted = _goes_on_behind(after_uid, document, around)
    while trusted and follows(after_uid, batches(document)[0].cdrs):
        (batch,) = batches(document)
        if not theirs(batch) or not high.see(batch, document.answered_at):
            break  # another number's; or each far above all that is known: the same LastId would bring them for ever
        yield Page(origin, batch.cdrs, batch.rejects, checkpoint=high.checkpoint(stream), size=document.size)
        if begun is not None and max(cdr.started_at for cdr in batch.cdrs) > begun:
            return  # where calls arrive as fast as they are read: all that the first answer could show is in hand
        begun, after_uid = begun or document.answered_at, high.uid
        document = source.ask([CdrsAsk(limit=limit, after_uid=after_uid, number=number)])
    mark, page = high.uid, None
    for batch, answered_at, believed, size in by_offset(source, document, after_uid, limit, number):
        if believed:
            high.see(batch, answered_at)
        if len(batch):
            if page is not None:
                yield page
            page = Page(origin, batch.cdrs, batch.rejects, size=size)
    high.believe_leap(source, limit=limit, number=number)
    if page is not None:
        yield replace(page, checkpoint=high.checkpoint(stream)) if high.uid > mark else page


def by_offset(
    source: Source, document: Document, after_uid: int, limit: int, number: str | None
) -> Iterator[tuple[Batch, datetime, bool, int]]:
    """Every answer to one LastId, in whatever order it comes: when it was given, whether it is believed, its bytes."""
    theirs = of_number(number)
    offsets = Offsets(
        f"LastId {after_uid}",
        lambda found: theirs(found) and all(one.uid is None or one.uid > after_uid for one in found.records()),
    )
    while True:
        (batch,) = batches(document)
        yield batch, document.answered_at, offsets.take(batch, document.answered_at), document.size
        if offsets.ended:
            return
        document = source.ask([CdrsAsk(limit=limit, offset=offsets.position, after_uid=after_uid, number=number)])


def _goes_on_behind(uid: int, document: Document, around: Document) -> bool:
    """Whether an answer begins with the call next to one, as another answer shows, which begins with that one."""
    (page,), (shown,) = batches(document), batches(around)
    return [cdr.uid for cdr in shown.cdrs[:2]] == [uid, page.cdrs[0].uid]


def follows(uid: int, cdrs: Sequence[Cdr]) -> bool:
    """Whether several calls come in ascending order after a uid."""
    return len(cdrs) > 1 and cdrs[0].uid > uid and all(a.uid < b.uid for a, b in pairwise(cdrs))
