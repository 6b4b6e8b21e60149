"""Instants and times of day as the text that SQLite stores and MySQL reads, many at a time.

Python takes two microseconds to write out one instant. Calls begin on full seconds, and a page is of few days: so the
text is put together from three tables.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import time

_date = datetime.date
_microsecond = attrgetter("microsecond")


def instants(column: Sequence[datetime]) -> list[str]:
    """`YYYY-MM-DD HH:MM:SS[.ffffff]` in UTC of aware instants."""
    if {instant.tzinfo for instant in column} != {UTC}:  # those of `decode` are all in UTC
        column = [instant.astimezone(UTC) for instant in column]
    if any(map(_microsecond, column)):
        return [text[: -len("+00:00")] for text in map(str, column)]
    days = list(map(_date, column))
    day_texts = {day: f"{day} " for day in set(days)}
    return list(map(str.__add__, map(day_texts.__getitem__, days), _clocks(column)))


def clocks(column: Sequence[time]) -> list[str]:
    """`HH:MM:SS[.ffffff]` of times of day."""
    return list(map(str, column)) if any(map(_microsecond, column)) else _clocks(column)


def _clocks(column: Sequence[datetime] | Sequence[time]) -> list[str]:
    minutes, seconds = _minutes(), _seconds()
    return [minutes[one.hour * 60 + one.minute] + seconds[one.second] for one in column]


@cache
def _minutes() -> list[str]:
    return [f"{hour:02}:{minute:02}" for hour in range(24) for minute in range(60)]


@cache
def _seconds() -> list[str]:
    return [f":{second:02}" for second in range(60)]
