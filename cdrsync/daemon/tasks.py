"""What an account's worker has to do, and when: the schedule marks tasks due, the worker takes them by priority."""

from __future__ import annotations

import threading
from datetime import UTC, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cdrsync.config import AccountSettings

UPKEEP_INTERVAL = timedelta(hours=1)  # how often unfinished history and a due sweep are looked for in the database


class Task(StrEnum):
    """A worker's tasks, the most urgent first."""

    POLL = "poll"
    LOOKBACK = "look-back"
    BACKFILL = "backfill"
    SWEEP = "sweep"
    AUDIT = "audit"


URGENT = (Task.POLL, Task.LOOKBACK)
"""Tasks that are done between two pages of a longer one."""


class Due:
    """The tasks that are due. Marking one twice before it is done means doing it once."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._tasks: set[Task] = set()
        self._news = False

    def mark(self, *tasks: Task) -> None:
        """Mark tasks due."""
        with self._changed:
            self._tasks.update(tasks)
        self.wake()

    def take(self, among: tuple[Task, ...] = tuple(Task)) -> Task | None:
        """Take the most urgent task due of these, None where none is."""
        with self._changed:
            task = next((task for task in Task if task in self._tasks and task in among), None)
            if task is not None:
                self._tasks.remove(task)
            return task

    def wait(self, seconds: float) -> None:
        """Wait until a task is marked or `wake` is called, since the last wait; at most `seconds`."""
        with self._changed:
            self._changed.wait_for(lambda: self._news, seconds)
            self._news = False

    def wake(self) -> None:
        """End a wait."""
        with self._changed:
            self._news = True
            self._changed.notify_all()


class Schedule:
    """The times at which tasks fall due. APScheduler in memory: the checkpoints in the database are the state.

    A run that is late is made once, however late: the scheduler's default would drop it silently.
    """

    def __init__(self) -> None:
        from apscheduler.executors.debug import DebugExecutor
        from apscheduler.schedulers.background import BackgroundScheduler

        self._scheduler: Any = BackgroundScheduler(
            timezone=UTC,
            executors={"default": DebugExecutor()},  # marking a task is nothing that needs a thread of its own
            job_defaults={"coalesce": True, "misfire_grace_time": None},
        )
        self._scheduler.start()

    def begin(self, account: AccountSettings, mark: Callable[[Task], None]) -> None:
        """Mark this account's tasks due, from one interval from now on."""
        every = {Task.POLL: account.poll_interval, Task.BACKFILL: UPKEEP_INTERVAL}
        if account.lookback and account.lookback_interval:
            every[Task.LOOKBACK] = account.lookback_interval
        if account.sweep_days:
            every[Task.SWEEP] = UPKEEP_INTERVAL
        for task, interval in every.items():
            self._add(account, task, mark, trigger="interval", seconds=interval.total_seconds())
        if account.audit_time is not None:
            hour, minute = account.audit_time.hour, account.audit_time.minute
            self._add(account, Task.AUDIT, mark, trigger="cron", hour=hour, minute=minute, timezone=account.timezone)

    def end(self, name: str) -> None:
        """Take an account out of the schedule."""
        for task in Task:
            if self._scheduler.get_job(f"{name}:{task}"):
                self._scheduler.remove_job(f"{name}:{task}")

    def next_runs(self, name: str) -> dict[str, datetime]:
        """When this account's tasks fall due next, UTC."""
        jobs = {task.value: self._scheduler.get_job(f"{name}:{task}") for task in Task}
        return {task: job.next_run_time.astimezone(UTC) for task, job in jobs.items() if job and job.next_run_time}

    def close(self) -> None:
        """Mark nothing any more."""
        self._scheduler.shutdown(wait=False)

    def _add(self, account: AccountSettings, task: Task, mark: Callable[[Task], None], **when: Any) -> None:
        self._scheduler.add_job(mark, args=(task,), id=f"{account.name}:{task}", replace_existing=True, **when)
