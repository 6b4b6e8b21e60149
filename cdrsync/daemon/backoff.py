"""Which tasks fail: how long each waits, and whether it was said already."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cdrsync.daemon.tasks import NEVER, Task

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_PAUSE = 1.0  # seconds after the first failure, doubled after each
LONGEST_PAUSE = 60.0
LONGEST_WISH = 900.0  # seconds: of a longer Retry-After only so much is believed
DATABASE_PAUSE = 5.0  # the longest for one's own database, which bears more
PARKED_PAUSE = 1800.0  # seconds after an error that only a person can end, doubled …
LONGEST_PARKED_PAUSE = 86400.0  # … up to a day: a refused login that is tried often locks the account


@dataclass(slots=True)
class _Failing:
    since: float
    failures: int = 0
    not_before: float = 0.0
    passing: bool = False  # tried again by itself, soon
    kinds: set[str] = field(default_factory=set)


class Backoff:
    """One account's tasks that fail. `task` None is the way to the database: without it no task can be done.

    While polling is in passing trouble nothing else is tried: it would fail alike, and ask more of a troubled server.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = lambda: random.uniform(0.75, 1.25),  # noqa: S311 - not a secret
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._failing: dict[Task | None, _Failing] = {}
        self._parked = 0

    def __bool__(self) -> bool:
        return bool(self._failing)

    def fail(self, task: Task | None, kind: str, *, passing: bool = True, at_least: float = 0.0) -> bool:
        """Note a failure; say whether this kind is news. `at_least`: seconds to wait, by the operator's own wish."""
        news = not any(kind in failing.kinds for failing in self._failing.values())
        failing = self._failing.setdefault(task, _Failing(self._clock()))
        failing.failures += 1
        failing.kinds.add(kind)
        failing.passing = passing
        longest = DATABASE_PAUSE if task is None else LONGEST_PAUSE
        pause = min(longest, FIRST_PAUSE * 2.0 ** min(failing.failures - 1, 10)) * self._jitter()
        failing.not_before = self._clock() + max(pause, min(at_least, LONGEST_WISH)) if passing else 0.0
        return news

    def park(self, task: Task | None, kind: str) -> tuple[bool, float]:
        """Note an error that a person must end: whether it is news, and the seconds until it is tried again anyway."""
        news = self.fail(task, kind, passing=False)
        self._parked += 1
        return news, min(LONGEST_PARKED_PAUSE, PARKED_PAUSE * 2.0 ** min(self._parked - 1, 10)) * self._jitter()

    def hurry(self) -> None:
        """Wait no longer: a person, or the operator, wants the next poll now."""
        for failing in list(self._failing.values()):
            failing.not_before = 0.0

    def succeed(self, task: Task | None) -> float | None:
        """Note a success; after the last trouble the seconds for which there was any, else None."""
        if task is Task.POLL:
            self._parked = 0
        ended = self._failing.pop(task, None)
        return None if ended is None or self._failing else self._clock() - ended.since

    def at(self, task: Task | None) -> float:
        """When a task may be tried, in seconds of the clock."""
        poll = self._failing.get(Task.POLL)
        if task not in (None, Task.POLL) and poll is not None and poll.passing:
            return NEVER
        failing = self._failing.get(task)
        return 0.0 if failing is None else failing.not_before

    def wait(self, task: Task | None) -> float:
        """Return the seconds until a task may be tried again."""
        return max(0.0, self.at(task) - self._clock())
