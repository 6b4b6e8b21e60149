"""What an account's worker has to do, and when.

Waiting is by the monotonic clock, so that a step of the host's clock neither delays nor hastens anything. The wall
clock says only whether the audit of today is due.
"""

from __future__ import annotations

import hashlib
import threading
import time
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from cdrsync.model import utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from cdrsync.config import AccountSettings

UPKEEP_INTERVAL = 3600.0  # seconds: how often unfinished history and a due sweep are looked for in the database
AUDIT_SPREAD = timedelta(hours=1)  # after audit_time, in which the audits of many accounts begin
LOOK_AT_CLOCK = 300.0  # seconds between two looks at a wall clock that may have stepped
SOON = 0.1  # of an interval: a task that was done early is not done again so soon
REST = 0.5  # of the time that a task took, where it took longer than its interval: the others have it
NEVER = float("inf")


class Task(StrEnum):
    """A worker's tasks, the most urgent first."""

    POLL = "poll"
    LOOKBACK = "look-back"
    BACKFILL = "backfill"
    SWEEP = "sweep"
    AUDIT = "audit"


URGENT = (Task.POLL, Task.LOOKBACK)
"""Tasks that are done between two pages of a longer one."""

LONG = (Task.BACKFILL, Task.SWEEP, Task.AUDIT)


class Timetable:
    """When one account's tasks fall due, in seconds of `clock`; nothing does before `begin`. Safe from any thread.

    Each account has its own moment in every interval, so that many don't ask at once. What is late is done once.
    """

    def __init__(
        self,
        account: AccountSettings,
        *,
        alone: bool = True,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], datetime] = utc_now,
    ) -> None:
        self._clock = clock
        self._wall = wall
        self._place = place(account.name)
        self._audits = daily(account)
        self._audit_after = timedelta() if alone else AUDIT_SPREAD * self._place
        self._audited_at: datetime | None = None
        self._next_after: tuple[datetime, datetime] | None = None  # the last audit, and when the next one falls due
        self._every = {Task.POLL: account.poll_interval.total_seconds(), Task.BACKFILL: UPKEEP_INTERVAL}
        if account.lookback and account.lookback_interval:
            self._every[Task.LOOKBACK] = account.lookback_interval.total_seconds()
        if account.sweep_days:
            self._every[Task.SWEEP] = UPKEEP_INTERVAL
        self._due: dict[Task, float] = {}
        self._begun: dict[Task, float] = {}
        self._lock = threading.Lock()

    def begin(self, audited_at: datetime | None) -> None:
        """Everything may be due; the audit where its last one, at `audited_at`, was before its latest time."""
        now = self._clock()
        with self._lock:
            self._audited_at = audited_at
            self._due = dict.fromkeys(self._every, now)

    def mark(self, *tasks: Task) -> None:
        """Make tasks due now, once the timetable has begun."""
        with self._lock:
            if self._due:
                self._due.update(dict.fromkeys(tasks, self._clock()))

    def at(self, task: Task) -> float:
        """When a task falls due, in seconds of the clock."""
        with self._lock:
            due = self._due.get(task, NEVER)
            if task is Task.AUDIT and due == NEVER:
                return min(self._next_audit(), self._clock() + LOOK_AT_CLOCK) if self._due else NEVER
            return due

    def begun(self, task: Task) -> None:
        """Note that a task is being done: it falls due again at its next time."""
        now = self._clock()
        with self._lock:
            self._begun[task] = now
            if task is Task.AUDIT:
                self._audited_at = self._wall()
            interval = self._every.get(task, NEVER)
            if interval == NEVER:
                self._due.pop(task, None)
                return
            wait = interval - (now - self._place * interval) % interval
            self._due[task] = now + (wait if wait > interval * SOON else wait + interval)

    def ended(self, task: Task) -> None:
        """Note that a task is done. One that takes longer than its interval is not begun again before others had time.

        With a slow operator polls would else follow each other without an end, and history be never read.
        """
        now = self._clock()
        with self._lock:
            took = now - self._begun.pop(task, now)
            if task in self._due and took:
                rest = min(took * REST, self._every.get(task, NEVER))
                self._due[task] = max(self._due[task], now + rest)

    def next_runs(self, tasks: Iterable[Task] = Task) -> dict[str, datetime]:
        """When tasks fall due, by the wall clock as it is now, UTC."""
        now, wall = self._clock(), self._wall()
        times = {task: self.at(task) for task in tasks}
        if times.get(Task.AUDIT, NEVER) != NEVER:
            times[Task.AUDIT] = self._next_audit()
        return {task.value: wall + timedelta(seconds=max(0.0, at - now)) for task, at in times.items() if at != NEVER}

    def _next_audit(self) -> float:
        """When the audit falls due, or fell due, if the wall clock goes on as it does now."""
        if self._audits is None:
            return NEVER
        wall, last = self._wall(), self._audited_at
        if last is None or last > wall + timedelta(hours=1):  # the latter: the clock was ahead then
            return 0.0
        if self._next_after is None or self._next_after[0] != last:
            due: datetime = self._audits.get_next_fire_time(None, last - self._audit_after + timedelta.resolution)
            self._next_after = last, due + self._audit_after
        return self._clock() + (self._next_after[1] - wall).total_seconds()


def daily(account: AccountSettings) -> Any:
    """The days' audit times on the account's wall clock, clock changes included; None where it has no audit.

    APScheduler knows when; it does not wait, since it waits by the wall clock.
    """
    if account.audit_time is None:
        return None
    from apscheduler.triggers.cron import CronTrigger

    return CronTrigger(hour=account.audit_time.hour, minute=account.audit_time.minute, timezone=account.timezone)


def place(name: str) -> float:
    """An account's place in every interval, from 0 to 1, the same on every machine."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64
