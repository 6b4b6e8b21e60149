"""The chart of calls per hour: today before yesterday, as bars of an SVG that stretches to any width."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cdrsync.monitor.status import HOURS

if TYPE_CHECKING:
    from collections.abc import Sequence

SLOT = 10.0  # width of an hour in the drawing; its height is 100
HEIGHT = 100.0
WIDE, NARROW = 8.4, 4.2  # yesterday's and today's bars
STEPS = (2, 3, 4, 5, 6, 8, 10, 12, 16)  # the scale ends at one of these times a power of ten, and has a whole half


class Bar(NamedTuple):
    """One bar, in the drawing's units."""

    x: float
    y: float
    width: float
    height: float


class Hour(NamedTuple):
    """One line of the chart's table."""

    label: str  # 14:00
    today: int | None  # None: still to come
    yesterday: int


class HoursChart(NamedTuple):
    """Everything that the drawing and its table need."""

    today: list[Bar]
    yesterday: list[Bar]
    now: float  # where the present is, on the x axis
    top: int  # the scale's end
    half: int
    hours: list[Hour]
    summary: str


def view(today: Sequence[int], yesterday: Sequence[int], now_hours: float) -> HoursChart:
    """The chart; `now_hours` is the time of day in hours, on the account's wall clock."""
    top = _scale(max([*today, *yesterday, 1]))
    current = min(int(now_hours), HOURS - 1)
    hours = [
        Hour(f"{hour:02}:00", today[hour] if hour <= current or today[hour] else None, yesterday[hour])
        for hour in range(HOURS)
    ]
    return HoursChart(
        today=_bars(today, NARROW, top),
        yesterday=_bars(yesterday, WIDE, top),
        now=round(now_hours * SLOT, 2),
        top=top,
        half=top // 2,
        hours=hours,
        summary=_summary(today, yesterday),
    )


def _bars(counts: Sequence[int], width: float, top: int) -> list[Bar]:
    return [
        Bar(round(hour * SLOT + (SLOT - width) / 2, 2), round(HEIGHT - height, 2), width, round(height, 2))
        for hour, count in enumerate(counts)
        # A single call beside a thousand must still be seen.
        if count > 0 and (height := max(1.0, HEIGHT * count / top))
    ]


def _scale(highest: int) -> int:
    power = 1
    while True:
        for top in (step * power for step in STEPS):
            if top >= highest and top % 2 == 0:
                return top
        power *= 10


def _summary(today: Sequence[int], yesterday: Sequence[int]) -> str:
    if not any(today):
        return f"No call today so far; {sum(yesterday):,} yesterday."
    busiest = max(range(HOURS), key=lambda hour: today[hour])
    return (
        f"{sum(today):,} calls today, most of them from {busiest:02}:00 to {busiest + 1:02}:00 ({today[busiest]:,}); "
        f"{sum(yesterday):,} yesterday."
    )
