"""Instants and times of day as text: what Python itself would write."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from cdrsync.store.databases import iso

FIRST = datetime(1990, 1, 1, tzinfo=UTC)
WHOLE_SECONDS = st.integers(0, 4 * 10**9).map(lambda seconds: FIRST + timedelta(seconds=seconds))
ANY = st.integers(0, 4 * 10**15).map(
    lambda micro: (FIRST + timedelta(microseconds=micro)).astimezone(timezone(timedelta(hours=-5)))
)


@given(st.lists(WHOLE_SECONDS) | st.lists(WHOLE_SECONDS | ANY))
def test_instants_are_written_in_utc(column: list[datetime]) -> None:
    assert iso.instants(column) == [str(instant.astimezone(UTC).replace(tzinfo=None)) for instant in column]


@given(st.lists(st.times().map(lambda clock: clock.replace(microsecond=0))) | st.lists(st.times()))
def test_times_of_day(column: list[time]) -> None:
    assert iso.clocks(column) == [str(clock) for clock in column]
