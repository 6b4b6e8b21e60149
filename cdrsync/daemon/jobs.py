"""An account's tasks under way, one urgent and one long, and which task comes next."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from cdrsync.daemon.tasks import LONG, URGENT, Task
from cdrsync.monitor.activity import PHASES, Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from cdrsync.daemon.backoff import Backoff
    from cdrsync.daemon.tasks import Timetable
    from cdrsync.model import PageSaved


class Job(NamedTuple):
    """A task under way."""

    task: Task
    pages: Generator[PageSaved]


class Times(NamedTuple):
    """When a worker wants its next turns, in seconds of the monotonic clock; `begun`: long work is under way."""

    urgent: float
    long: float
    begun: bool


class Jobs:
    """What one account does, a page at a turn. A kind of task is URGENT or LONG: at most one of each is under way."""

    def __init__(self, timetable: Timetable, backoff: Backoff) -> None:
        self._timetable = timetable
        self._backoff = backoff
        self._under_way: dict[tuple[Task, ...], Job] = {}

    def begun(self, kind: tuple[Task, ...]) -> bool:
        """Whether a task of the kind is under way."""
        return kind in self._under_way

    def at(self, kind: tuple[Task, ...]) -> float:
        """When a task of the kind wants its next turn, in seconds of the monotonic clock."""
        return 0.0 if self.begun(kind) else min(map(self._at, kind))

    def phase(self) -> Phase:
        """What is under way between two urgent tasks."""
        return PHASES[self._under_way[LONG].task] if self.begun(LONG) else Phase.IDLE

    def go_on(self, kind: tuple[Task, ...], begin: Callable[[Task], Generator[PageSaved]]) -> Job | None:
        """Give the job under way, or begin the first task that is due. None where nothing is."""
        if not self.begun(kind):
            now = time.monotonic()
            task = next((task for task in kind if self._at(task) <= now), None)
            if task is None:
                return None
            self._timetable.begun(task)
            self._under_way[kind] = Job(task, begin(task))
        return self._under_way[kind]

    def leave(self, task: Task) -> None:
        """A task is done, or left until its next time."""
        self._under_way.pop(URGENT if task in URGENT else LONG, None)

    def drop(self, *kinds: tuple[Task, ...]) -> None:
        """Leave what is under way: it begins again, soon, from the position in the database."""
        for kind in kinds or (URGENT, LONG):
            job = self._under_way.pop(kind, None)
            if job is not None:
                self._timetable.mark(job.task)
                job.pages.close()

    def stop(self) -> None:
        """Let each task see that it is to stop: it says so in the table of runs."""
        for job in self._under_way.values():
            next(job.pages, None)

    def forget(self) -> None:
        """Leave everything as it is, where even closing it may fail."""
        self._under_way.clear()

    def _at(self, task: Task) -> float:
        return max(self._timetable.at(task), self._backoff.at(task))
