"""UK wall clock → UTC, with the two nights when clocks change."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from cdrsync.model import WallClock
from cdrsync.source.clock import plain_offset, started_at, started_column
from tests.support.answers import LONDON


def _ref(instant: datetime) -> str:
    return f"{int(instant.timestamp()):08X}0233A34F"


_AUTUMN = date(2024, 10, 27)
_FIRST = datetime(2024, 10, 27, 0, 30, tzinfo=UTC)
_SECOND = datetime(2024, 10, 27, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("day", "clock", "ref", "instant", "how"),
    [
        (date(2013, 8, 3), time(20, 48, 40), "51FD5E980233A34F", datetime(2013, 8, 3, 19, 48, 40, tzinfo=UTC), None),
        (date(2024, 1, 1), time(0, 0), None, datetime(2024, 1, 1, tzinfo=UTC), None),
        (_AUTUMN, time(0, 59, 59), None, datetime(2024, 10, 26, 23, 59, 59, tzinfo=UTC), None),
        (_AUTUMN, time(1, 30), _ref(_FIRST), _FIRST, WallClock.REPEATED_FIRST),
        (_AUTUMN, time(1, 30), "!" + _ref(_SECOND).lower()[:13], _SECOND, WallClock.REPEATED_SECOND),
        (_AUTUMN, time(1, 30), _ref(_SECOND + timedelta(seconds=1)), _FIRST, WallClock.REPEATED_UNKNOWN),
        (_AUTUMN, time(1, 30), "!ABCDEF12345678", _FIRST, WallClock.REPEATED_UNKNOWN),
        (_AUTUMN, time(1, 30), "", _FIRST, WallClock.REPEATED_UNKNOWN),
        (_AUTUMN, time(1, 30), None, _FIRST, WallClock.REPEATED_UNKNOWN),
        (_AUTUMN, time(2, 0), _ref(_FIRST), datetime(2024, 10, 27, 2, 0, tzinfo=UTC), None),
        (date(2024, 3, 31), time(0, 59, 59), None, datetime(2024, 3, 31, 0, 59, 59, tzinfo=UTC), None),
        (date(2024, 3, 31), time(1, 30), None, datetime(2024, 3, 31, 1, 30, tzinfo=UTC), WallClock.SKIPPED),
        (date(2024, 3, 31), time(2, 0), None, datetime(2024, 3, 31, 1, 0, tzinfo=UTC), None),
    ],
)
def test_started_at(day: date, clock: time, ref: str | None, instant: datetime, how: WallClock | None) -> None:
    """`ref` decides a repeated hour where it agrees with the wall clock, and nothing else."""
    assert (instant, how) == started_at(day, clock, ref, LONDON)


@pytest.mark.parametrize(
    "zone", ["Europe/London", "Africa/Casablanca", "America/Havana", "Asia/Beirut", "Australia/Lord_Howe", "UTC"]
)
def test_the_column_is_the_same(zone: str) -> None:
    """Reading a column at once gives what reading each value gives, on every day of some years."""
    timezone = ZoneInfo(zone)
    clocks = [time(hour, minute) for hour in (0, 1, 2, 3, 12, 22, 23) for minute in (0, 15, 30, 45)]
    for days_on in range(1500):
        day = date(2022, 1, 1) + timedelta(days=days_on)
        refs: list[str | None] = [None] * len(clocks)
        expected = [started_at(day, clock, None, timezone) for clock in clocks]
        instants, how = started_column([day] * len(clocks), clocks, refs, timezone)

        assert [instant for instant, _ in expected] == instants
        assert [one and one.value for _, one in expected] == how


def test_a_page_over_the_change() -> None:
    """A page that holds the autumn night among plain days is read right for all of them."""
    days = [date(2024, 10, 26), _AUTUMN, _AUTUMN, date(2024, 10, 28)]
    refs = [None, _ref(_FIRST), _ref(_SECOND), None]
    instants, how = started_column(days, [time(1, 30)] * 4, refs, LONDON)

    assert instants == [
        datetime(2024, 10, 26, 0, 30, tzinfo=UTC),
        _FIRST,
        _SECOND,
        datetime(2024, 10, 28, 1, 30, tzinfo=UTC),
    ]
    assert how == [None, "repeated-first", "repeated-second", None]
    assert type(how[1]) is str  # drivers write an enumeration by its name


def test_days_without_a_change_have_one_offset() -> None:
    """Only the two nights of a year take the slow road."""
    year = [date(2024, 1, 1) + timedelta(days=n) for n in range(366)]

    assert [date(2024, 3, 31), _AUTUMN] == [day for day in year if plain_offset(day, LONDON) is None]
