"""A clock that a test sets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

LONDON = ZoneInfo("Europe/London")
NOW = datetime(2026, 5, 10, 12, tzinfo=UTC)


class Clock:
    """Time that moves only when told. Called, it is an instant (UTC); `seconds` is the same in Unix seconds.

    A text without an offset is UK wall clock time.
    """

    def __init__(self, now: str | float | datetime = NOW) -> None:
        self.set(now)
        self.tick = 0.0  # seconds that pass at each look

    def __call__(self) -> datetime:
        return datetime.fromtimestamp(self.seconds(), UTC)

    def seconds(self) -> float:
        self._seconds += self.tick
        return self._seconds

    def advance(self, seconds: float = 0.0, **more: float) -> None:
        """Let time pass; `more` as timedelta's."""
        self._seconds += timedelta(**more).total_seconds() + seconds

    def set(self, now: str | float | datetime) -> None:
        """Jump, backwards too, as a host's clock may."""
        if isinstance(now, str):
            now = datetime.fromisoformat(now)
        if isinstance(now, datetime):
            now = (now if now.tzinfo else now.replace(tzinfo=LONDON)).timestamp()
        self._seconds = float(now)
