"""What is due at which moment of the sandbox's time."""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Timeline:
    """Actions and their moments (Unix seconds)."""

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
