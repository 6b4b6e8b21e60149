"""What goes wrong, task by task: how long to wait, and whether it was said already."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cdrsync.daemon.tasks import Task

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_PAUSE = 1.0  # seconds after the first failure, doubled after each
LONGEST_PAUSE = 60.0


@dataclass(slots=True)
class _Trouble:
    since: float
    failures: int = 0
    not_before: float = 0.0
    passing: bool = False  # tried again by itself, soon
    kinds: set[str] = field(default_factory=set)


class Troubles:
    """An account's tasks that fail. `task` None is the way to the database: without it no task can be done.

    While polling is in passing trouble nothing else is tried: it would fail alike, and ask more of a troubled server.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = lambda: random.uniform(0.75, 1.25),  # noqa: S311 - not a secret
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._troubles: dict[Task | None, _Trouble] = {}

    def __bool__(self) -> bool:
        return bool(self._troubles)

    def fail(self, task: Task | None, kind: str, *, passing: bool = True, at_least: float = 0.0) -> bool:
        """Note a failure; say whether this kind is news. `at_least`: seconds to wait, by the operator's own wish."""
        news = not any(kind in trouble.kinds for trouble in self._troubles.values())
        trouble = self._troubles.setdefault(task, _Trouble(self._clock()))
        trouble.failures += 1
        trouble.kinds.add(kind)
        trouble.passing = passing
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(trouble.failures - 1, 10)) * self._jitter()
        trouble.not_before = self._clock() + max(pause, at_least) if passing else 0.0
        return news

    def succeed(self, task: Task | None) -> float | None:
        """Note a success; after the last trouble the seconds for which there was any, else None."""
        ended = self._troubles.pop(task, None)
        return None if ended is None or self._troubles else self._clock() - ended.since

    def may(self) -> tuple[Task, ...]:
        """Return the tasks that may be tried now."""
        now = self._clock()
        poll = self._troubles.get(Task.POLL)
        wanted = (Task.POLL,) if poll is not None and poll.passing else tuple(Task)
        return tuple(task for task in wanted if self._not_before(task) <= now)

    def wait(self, task: Task | None) -> float:
        """Return the seconds until a task may be tried again."""
        return max(0.0, self._not_before(task) - self._clock())

    def longest_wait(self, at_most: float) -> float:
        """Return the seconds until another task may be tried, `at_most` where none waits."""
        now = self._clock()
        waits = [trouble.not_before - now for trouble in self._troubles.values() if trouble.not_before > now]
        return min([at_most, *waits])

    def _not_before(self, task: Task | None) -> float:
        trouble = self._troubles.get(task)
        return 0.0 if trouble is None else trouble.not_before
