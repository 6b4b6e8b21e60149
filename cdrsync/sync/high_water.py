"""The high-water mark: which uids it follows, and what would prove it wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from cdrsync.model import Batch, Cdr, CdrsAsk, Checkpoint, Page, instant_in
from cdrsync.sync.ports import batches

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cdrsync.sync.ports import Source

PLAUSIBLE_STEP = 10_000_000
"""How far above the last known uid records may move the high-water mark without more proof. The platform hands out
about one uid a second, so this is some four months; garbled uids must not carry the mark past all calls to come."""

PLAUSIBLE_RATE = 10
"""Uids a second that may lie between two calls, beside that step: an account may be quiet for a year."""

PLAUSIBLE_UID = 10**15
"""So high no uid is believed that has no other beside it: the platform would need thirty million years."""

LEAP_CALLS = 3
"""Calls that have to agree before a leap of the operator's sequence is believed."""

RESET_MARGIN = timedelta(hours=2)
"""A call that began this long after the high-water mark came to be, yet has a lower uid, shows a new uid sequence."""


@dataclass(slots=True)
class HighWater:
    """The highest uid seen, and when it came to be by the operator's clock: what a Checkpoint of a tail carries.

    Whether uids are handed out when a call begins, ends or is written down: every call up to it had begun by then. A
    call far above all others is stored, but the mark stays below it, so that it comes again with each question, until
    `believe_leap` has proven that the operator's sequence has leapt.
    """

    uid: int  # -1: none yet
    seen_at: datetime | None = None
    _far: dict[int, Cdr] = field(default_factory=dict)  # calls far above all others
    _newest: datetime | None = None  # start of the youngest call that is not

    def see(self, batch: Batch, answered_at: datetime) -> bool:
        """Rise to the highest uid among the records that is believed; answers whether there was a higher one."""
        before = self.uid
        above = {cdr.uid: cdr for cdr in batch.cdrs if cdr.uid > before}
        if before < 0 or self._far or max(above, default=before) > before + PLAUSIBLE_STEP:
            groups = _groups(before, self._far | above)
            near = _first(groups) if before < 0 else groups[0]
            self.uid = max(near, default=before)
            self._far = {uid: cdr for group in groups for uid, cdr in group.items() if uid > self.uid}
        else:
            near = above
            self.uid = max(above, default=before)
        starts = [cdr.started_at for cdr in batch.cdrs if cdr.uid not in self._far]
        self._newest = max([*starts, *([self._newest] if self._newest else [])], default=None)
        for reject in batch.rejects:
            if reject.uid is not None and self.uid < reject.uid <= self.uid + PLAUSIBLE_STEP:
                self.uid = reject.uid
        if self.uid > before:
            self.seen_at = answered_at
        return self.uid > before

    def believe_leap(self, source: Source, *, limit: int, number: str | None) -> None:
        """Follow a leap of the operator's sequence where enough calls agree, and come again when they are asked for."""
        while leap := next((group for group in _groups(self.uid, self._far)[1:] if self._agree(group.values())), None):
            document = source.ask([CdrsAsk(limit=limit, after_uid=min(leap) - 1, number=number)])
            (batch,) = batches(document)
            again = [cdr for cdr in batch.cdrs if cdr.uid in leap and cdr.started_at == leap[cdr.uid].started_at]
            if len(again) < LEAP_CALLS:
                return
            self.uid, self.seen_at = max(leap), document.answered_at
            self._far = {uid: cdr for uid, cdr in self._far.items() if uid > self.uid}

    def _agree(self, calls: Iterable[Cdr]) -> bool:
        """Whether calls can be those of a sequence that goes on higher: none of the lower ones is younger."""
        leapt = list(calls)
        first = min(cdr.started_at for cdr in leapt)
        return (
            len(leapt) >= LEAP_CALLS
            and (self._newest is None or self._newest <= first + RESET_MARGIN)
            and all(instant_in(cdr.ref) in (None, cdr.started_at) for cdr in leapt)
        )

    def checkpoint(self, stream: str) -> Checkpoint:
        """The checkpoint that is true once everything seen is committed."""
        return Checkpoint(stream, high_water_uid=self.uid, high_water_ended_at=self.seen_at)


def _groups(uid: int, calls: dict[int, Cdr]) -> list[dict[int, Cdr]]:
    """The calls by ascending uid, in groups within which no step is too long; the first one begins near `uid`."""
    groups: list[dict[int, Cdr]] = [{}]
    last, began = uid, None
    for one, cdr in sorted(calls.items()):
        quiet = 0.0 if began is None else max(0.0, (cdr.started_at - began).total_seconds())
        if one - last > PLAUSIBLE_STEP + PLAUSIBLE_RATE * quiet:
            groups.append({})
        groups[-1][one] = cdr
        last, began = one, cdr.started_at
    return groups


def _first(groups: Sequence[dict[int, Cdr]]) -> dict[int, Cdr]:
    """Of the first calls ever: the largest group, the lowest of several; none that is but one impossible uid."""
    largest = max(groups, key=len)
    return {} if len(largest) < LEAP_CALLS and min(largest, default=0) > PLAUSIBLE_UID else largest


def fallen(page: Page, mark: Checkpoint | None, now: datetime) -> Cdr | None:
    """A call that began clearly after the high-water mark came to be and yet has a lower uid.

    A call that is said to begin in the future shows nothing but a mistake.
    """
    if mark is None or mark.high_water_uid is None or mark.high_water_ended_at is None or not page.cdrs:
        return None
    after, before = mark.high_water_ended_at + RESET_MARGIN, now + RESET_MARGIN
    if max(cdr.started_at for cdr in page.cdrs) <= after:
        return None
    uid = mark.high_water_uid
    return next((cdr for cdr in page.cdrs if cdr.uid < uid and after < cdr.started_at < before), None)
