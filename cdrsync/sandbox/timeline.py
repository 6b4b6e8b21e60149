"""Time in the sandbox: a clock that tests can turn, and what is due at which moment."""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING

from cdrsync.sandbox.calls import unix

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime


class ManualClock:
    """Unix seconds that move only when told. Give it to `World(clock=…)`, and `clock.advance` as its `sleep`."""

    def __init__(self, instant: str | float | datetime) -> None:
        self._now = unix(instant)

    def __call__(self) -> float:
        """Now."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now += seconds

    def set(self, instant: str | float | datetime) -> None:
        """Jump, backwards too, as a host's clock may."""
        self._now = unix(instant)


class Timeline:
    """Actions and their moments (Unix seconds). Not thread-safe: `World` holds its lock around it."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = count()

    def at(self, moment: float, action: Callable[[float], None]) -> None:
        """Have `action(moment)` called by the first `run` at or after that moment."""
        heapq.heappush(self._due, (moment, next(self._order), action))

    def run(self, now: float) -> None:
        """Everything due, oldest first, including what that brings about."""
        while self._due and self._due[0][0] <= now:
            moment, _, action = heapq.heappop(self._due)
            action(moment)
