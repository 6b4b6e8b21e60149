"""The `Store` port in memory, transactional: `save` does all of a page or nothing, and can be made to fail either side.

The same promises as the SQL store: known rows are compared and merged (an absent flag never overwrites a known one),
the high-water mark never moves backwards, days are marked as downloaded with the page that ends them.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import replace
from typing import TYPE_CHECKING

from cdrsync.errors import SequenceReset
from cdrsync.model import FLAGS, MAX_UID, Cdr, Checkpoint, Page, PageSaved, Reject, Window

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date, datetime


class AnotherCall(SequenceReset):
    """A page would overwrite a call with a different one of the same uid."""


def merged(old: Cdr, new: Cdr) -> Cdr:
    """What a row becomes when it is read again: the new values, but for flags that were not said."""
    kept = {flag: getattr(old, flag) for flag in FLAGS if getattr(new, flag) is None}
    return new._replace(**kept) if kept else new


class MemoryStore:
    """One account's tables. `before` and `after` stand on both sides of the commit and may raise."""

    def __init__(
        self,
        clock: Callable[[], datetime],
        *,
        before: Callable[[Page], None] = lambda _: None,
        after: Callable[[Page], None] = lambda _: None,
    ) -> None:
        self.rows: dict[int, Cdr] = {}
        self.rejects: dict[str, int] = {}  # raw: times seen
        self.downloaded: dict[date, datetime] = {}
        self.checkpoints: dict[str, Checkpoint] = {}
        self._uids: list[int] = []
        self._ends: list[tuple[float, int]] = []  # when each held call had ended, and its uid
        self._clock = clock
        self._before = before
        self._after = after

    def save(self, page: Page) -> PageSaved:
        """Commit a page."""
        self._before(page)
        inserted = updated = 0
        for uid, cdr in {cdr.uid: cdr for cdr in page.cdrs}.items():
            old = self.rows.get(uid)
            if old is None:
                insort(self._uids, uid)
                inserted += 1
                new = cdr
            else:
                if old.ref != cdr.ref:
                    raise AnotherCall(f"uid {uid}: {old.ref} of {old.started_at} becomes {cdr.ref} of {cdr.started_at}")
                new = merged(old, cdr)
                if new == old:
                    continue
                updated += 1
            self.rows[uid] = new
            insort(self._ends, (new.started_at.timestamp() + new.duration, uid))
        rejected = len({reject.raw for reject in page.rejects} - self.rejects.keys())
        for reject in page.rejects:
            self.rejects[reject.raw] = self.rejects.get(reject.raw, 0) + 1
        for day in page.completes:
            self.downloaded[day] = self._clock()
        high_water = None if page.checkpoint is None else self._move(page.checkpoint)
        self._after(page)
        return PageSaved(
            page.origin,
            inserted=inserted,
            updated=updated,
            unchanged=len(page) - inserted - updated - rejected,
            rejected=rejected,
            high_water_uid=high_water,
            completed=page.completes,
        )

    def _move(self, to: Checkpoint) -> int | None:
        at = None if to.lowers else self.checkpoints.get(to.stream)
        to = replace(to, lowers=False)
        if at is not None and at.high_water_uid is not None:
            if to.high_water_uid is None or to.high_water_uid < at.high_water_uid:
                to = replace(to, high_water_uid=at.high_water_uid, high_water_ended_at=at.high_water_ended_at)
            elif to.high_water_uid == at.high_water_uid and to.high_water_ended_at is None:
                to = replace(to, high_water_ended_at=at.high_water_ended_at)
        self.checkpoints[to.stream] = to
        return to.high_water_uid

    def checkpoint(self, stream: str) -> Checkpoint | None:
        """The checkpoint of a stream."""
        return self.checkpoints.get(stream)

    def look_back_uid(self, since: datetime, until: datetime) -> int | None:
        """The highest held uid below the lowest one of the calls that had not ended before `since`."""
        first, behind = (
            bisect_left(self._ends, edge) for edge in ((since.timestamp(), -1), (until.timestamp(), MAX_UID))
        )
        going_on = self._ends[first:behind]
        if not going_on:
            return self._uids[-1] if self._uids else None
        lowest = min(uid for _, uid in going_on)
        position = bisect_left(self._uids, lowest)
        return self._uids[position - 1] if position else lowest - 1

    def uids_around(self, window: Window) -> tuple[int | None, int | None]:
        """The held uids next to those of a window."""
        inside = [uid for uid, cdr in self.rows.items() if window.first <= cdr.call_date <= window.last]
        if inside:
            below = [uid for uid in self.rows if uid < min(inside)]
            above = [uid for uid in self.rows if uid > max(inside)]
        else:
            below = [uid for uid, cdr in self.rows.items() if cdr.call_date < window.first]
            above = [uid for uid, cdr in self.rows.items() if cdr.call_date > window.last]
        low, high = max(below, default=None), min(above, default=None)
        return (high, low) if low is not None and high is not None and high < low else (low, high)

    def days_downloaded(self, window: Window, *, since: datetime | None = None) -> set[date]:
        """Days of the window that a page has completed."""
        return {
            day
            for day, at in self.downloaded.items()
            if window.first <= day <= window.last and (since is None or at >= since)
        }

    def holds_calls(self, window: Window) -> bool:
        """Whether a call of the window is held."""
        return any(window.first <= cdr.call_date <= window.last for cdr in self.rows.values())


def held_as(store: MemoryStore, record: Cdr | Reject) -> bool:
    """Whether the store holds this very record: equal value by value, but for flags that the record leaves out."""
    if isinstance(record, Reject):
        return record.raw in store.rejects
    row = store.rows.get(record.uid)
    return row is not None and merged(row, record) == row
