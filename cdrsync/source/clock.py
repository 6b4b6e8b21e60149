"""UK wall clock → UTC.

`calldate` and `calltime` are what a clock on the wall showed. In the night when clocks go back one hour is shown
twice; there, and only there, `ref` decides. What it says is undocumented, so it counts only where it falls on that very
wall clock time.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from cdrsync.model import WallClock, instant_in

if TYPE_CHECKING:
    from collections.abc import Sequence
    from zoneinfo import ZoneInfo


def started_at(day: date, clock: time, ref: str | None, timezone: ZoneInfo) -> tuple[datetime, WallClock | None]:
    """Give the instant (aware, UTC) of a wall clock time in `timezone`, and how it follows; None where that is plain.

    A time shown twice is read as `ref` says, or as the first pass where `ref` agrees with neither. A time that no clock
    showed (the night when clocks go forward) is read with the offset before the jump.
    """
    first, second = (datetime.combine(day, clock, timezone).replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    if first >= second:
        return first, None if first == second else WallClock.SKIPPED
    instant = instant_in(ref)
    if instant == second:
        return second, WallClock.REPEATED_SECOND
    return first, WallClock.REPEATED_FIRST if instant == first else WallClock.REPEATED_UNKNOWN


def started_column(
    days: Sequence[date], clocks: Sequence[time], refs: Sequence[str | None], timezone: ZoneInfo
) -> tuple[list[datetime], list[str | None]]:
    """`started_at` of many records: the same answers, at a fraction of the cost on days without a change of clocks."""
    offsets = {day: plain_offset(day, timezone) for day in set(days)}
    combine = datetime.combine
    if None not in offsets.values():
        plain = [combine(day, clock, UTC) - offsets[day] for day, clock in zip(days, clocks, strict=True)]  # type: ignore[operator] # no None among them
        return plain, [None] * len(plain)
    pairs = [started_at(*one, timezone) for one in zip(days, clocks, refs, strict=True)]
    return [instant for instant, _ in pairs], [how.value if how else None for _, how in pairs]


@lru_cache(maxsize=4096)  # eleven years of days
def plain_offset(day: date, timezone: ZoneInfo) -> timedelta | None:
    """Give the one UTC offset of a whole day, None where clocks change in it or at one of its ends."""
    edges = [datetime.combine(one, time(0), timezone) for one in (day, day + timedelta(days=1))]
    offsets = {edge.replace(fold=fold).utcoffset() for edge in edges for fold in (0, 1)}
    return offsets.pop() if len(offsets) == 1 else None
