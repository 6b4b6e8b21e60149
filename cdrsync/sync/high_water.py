"""The high-water mark: which uids it follows, and what would prove it wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import TYPE_CHECKING

from cdrsync.errors import SequenceReset
from cdrsync.model import MAX_UID, Batch, Cdr, Checkpoint, Page

if TYPE_CHECKING:
    from collections.abc import Iterable

PLAUSIBLE_STEP = 10_000_000
"""How far above the last known uid one record alone may move the high-water mark. The platform hands out about one uid
a second, so this is some four months; a garbled uid must not carry the mark past all calls to come."""

RESET_MARGIN = timedelta(hours=2)
"""A call that began this long after the high-water mark came to be, yet has a lower uid, proves a new uid sequence."""


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
