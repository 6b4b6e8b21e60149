"""Figures as people read them."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

MINUTE, HOUR, DAY = 60, 3600, 86400  # seconds
PENNY = Decimal("0.01")


def span(seconds: float) -> str:
    """A length of time in its two largest units: `42 s`, `7 min`, `3 h 20 min`, `2 days 4 h`."""
    whole = max(0, round(seconds))
    if whole < 2 * MINUTE:
        return f"{whole} s"
    if whole < HOUR:
        return f"{whole // MINUTE} min"
    if whole < 2 * DAY:
        return _two(whole // HOUR, "h", whole % HOUR // MINUTE, "min")
    return _two(whole // DAY, "days", whole % DAY // HOUR, "h")


def _two(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large} {large_unit}" + (f" {small} {small_unit}" if small else "")


def ago(then: datetime, now: datetime) -> str:
    """How long ago, or how soon: `12 s ago`, `in 4 min`."""
    seconds = (now - then).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{span(seconds)} ago" if seconds > 0 else f"in {span(-seconds)}"


def pounds(amount: Decimal) -> str:
    """An exact amount, with two decimals at least: `£1,234.50`, `-£0.005`."""
    exact = amount.quantize(PENNY) if amount == amount.quantize(PENNY) else amount.normalize()
    return f"{'-' if exact < 0 else ''}£{abs(exact):,f}"


def wall(instant: datetime, zone: tzinfo) -> str:
    """The clock in the account's time zone: `Mon 24 Nov 2025, 14:05:09`."""
    return f"{instant.astimezone(zone):%a %-d %b %Y, %H:%M:%S}"
