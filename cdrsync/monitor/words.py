"""Figures as people read them."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime, tzinfo

SHORT, MINUTE, HOUR, DAY = 10, 60, 3600, 86400  # seconds; below SHORT the tenths are shown
PENNY = Decimal("0.01")


def span(seconds: float) -> str:
    """A length of time in two units at most: `0.4 s`, `42 s`, `1 min 5 s`, `25 min`, `3 h 20 min`, `2 days 4 h`."""
    if 0 < seconds < SHORT:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    whole = max(0, round(seconds))
    if whole < MINUTE:
        return f"{whole} s"
    if whole < 10 * MINUTE:
        return _two(whole // MINUTE, "min", whole % MINUTE, "s")
    if whole < HOUR:
        return f"{whole // MINUTE} min"
    if whole < 2 * DAY:
        return _two(whole // HOUR, "h", whole % HOUR // MINUTE, "min")
    return _two(whole // DAY, "days", whole % DAY // HOUR, "h")


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large} {large_unit}" + (f" {small} {small_unit}" if small else "")


def ago(then: datetime, now: datetime) -> str:
    """How long ago, or how soon: `12 s ago`, `in 4 min`."""
    seconds = round((now - then).total_seconds())
    if seconds == 0:
        return "now"
    return f"{span(seconds)} ago" if seconds > 0 else f"in {span(-seconds)}"


def pounds(amount: Decimal) -> str:
    """An exact amount, with two decimals at least: `£1,234.50`, `-£0.005`."""
    exact = amount.quantize(PENNY) if amount == amount.quantize(PENNY) else amount.normalize()
    return f"{'-' if exact < 0 else ''}£{abs(exact):,f}"


def wall(instant: datetime, zone: tzinfo) -> str:
    """The clock in the account's time zone: `Mon 24 Nov 2025, 14:05:09`."""
    return f"{instant.astimezone(zone):%a %-d %b %Y, %H:%M:%S}"


def some(names: Collection[str], most: int = 8) -> str:
    """Names in one line, however many there are: `a, b, c and 997 more`."""
    more = len(names) - most
    return ", ".join(list(names)[:most]) + (f" and {more:,} more" if more > 0 else "")


def visible(text: object, *, keep: str = "") -> str:
    """The text with what can't be seen, or turns the text around it, written out as Python would: strangers sent it."""
    text = str(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode("ascii") for c in text)
