"""One account's work, a page at a turn, the most urgent first."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from cdrsync.daemon.recovery import Recovery, Then
from cdrsync.daemon.tasks import URGENT, Due, Task
from cdrsync.daemon.work import Work
from cdrsync.errors import Retry, Stop
from cdrsync.monitor import logs
from cdrsync.monitor.activity import Phase
from cdrsync.wiring import accounts

if TYPE_CHECKING:
    from collections.abc import Generator

    from cdrsync.config import AccountSettings, Settings
    from cdrsync.daemon.tasks import Schedule
    from cdrsync.model import PageSaved
    from cdrsync.monitor.activity import Activity
    from cdrsync.monitor.metrics import Metrics
    from cdrsync.source.api import RequestDone
    from cdrsync.wiring.accounts import AccountParts
    from cdrsync.wiring.database import Database

TICK = 5.0  # seconds between two signs of life of an idle worker

PHASES = {
    Task.POLL: Phase.POLLING,
    Task.LOOKBACK: Phase.LOOKING_BACK,
    Task.BACKFILL: Phase.BACKFILLING,
    Task.SWEEP: Phase.SWEEPING,
    Task.AUDIT: Phase.AUDITING,
}


class Job(NamedTuple):
    """A task under way."""

    task: Task
    pages: Generator[PageSaved]


class Worker:
    """Keeps one account current, by one thread at a time. `parked` is the error that a person must see."""

    def __init__(
        self,
        settings: Settings,
        account: AccountSettings,
        *,
        database: Database,
        activity: Activity,
        metrics: Metrics,
        schedule: Schedule,
    ) -> None:
        self.account = account
        self.due = Due()
        self.parked: Stop | None = None
        self.stop_asked = threading.Event()
        self._settings = settings
        self._database = database
        self._activity = activity
        self._metrics = metrics
        self._schedule = schedule
        self._opened = contextlib.ExitStack()
        self._work: Work | None = None
        self._parts: AccountParts | None = None
        self._ready = False  # the lease is held and the position is the database's
        self._not_before = 0.0  # monotonic: the database may be tried again
        self._jobs: list[Job] = []  # under way: at most a long one, then an urgent one that goes before it
        self._recovery = Recovery(account.name, activity, metrics)
        self._beat = time.monotonic()

    # ── from other threads ─────────────────────────────────────────────────────────────────────────────────────────

    def stop(self) -> None:
        """Ask the worker to end after the page in hand."""
        self.stop_asked.set()
        self.due.wake()

    def silent_for(self) -> float:
        """Seconds since the last progress: an answer of the API or a turn."""
        return time.monotonic() - self._beat

    # ── turns ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def turn(self) -> float:
        """Do one page. Return the seconds until the next turn, which comes sooner where something falls due.

        What goes wrong is dealt with when this returns.
        """
        self._alive()
        task = None
        try:
            if not self._ready:
                if (left := self._not_before - time.monotonic()) > 0:
                    return min(left, TICK)
                self._get_ready()
            job = self._most_urgent()
            if job is None:
                return self._recovery.troubles.longest_wait(TICK)
            task = job.task
            self._activity.publish(self.account.name, phase=PHASES[task])
            if next(job.pages, None) is None:
                self._jobs.remove(job)
                if not self.stop_asked.is_set():
                    self._recovery.succeeded(task)
                self._show_idle()
        except Exception as error:  # noqa: BLE001 - recovery says what each means
            self._deal_with(task, error)
        return 0.0

    def end(self) -> None:
        """Let go of everything."""
        self._schedule.end(self.account.name)
        if not self.parked:
            with contextlib.suppress(Retry):
                for job in self._jobs:
                    next(job.pages, None)  # it sees that it is to stop, and says so in the table of runs
        self._drop_jobs()
        self._opened.close()
        phase = Phase.PARKED if self.parked else Phase.STOPPED
        self._activity.publish(self.account.name, phase=phase, lease_held=False, next_runs={})

    def _get_ready(self) -> None:
        """Schema, lease and position; then everything may be due."""
        if self._parts is None or self._work is None:
            self._parts = self._opened.enter_context(
                accounts.parts(self._settings, self.account, stop=self.stop_asked, on_request=self._request_done)
            )
            self._work = Work(
                self._settings,
                self.account,
                self._parts,
                due=self.due,
                stop=self.stop_asked,
                activity=self._activity,
                metrics=self._metrics,
            )
        self._database.open(self._parts.store)
        self._work.show_position(self._database)
        self._ready = True
        self._recovery.succeeded(None)
        self._activity.publish(self.account.name, lease_held=True)
        self._schedule.begin(self.account, self.due.mark)
        self.due.mark(Task.POLL, Task.LOOKBACK, Task.BACKFILL, Task.SWEEP)
        logs.get(self.account.name).info("lease taken")

    def _most_urgent(self) -> Job | None:
        """Return an urgent job before a long one; either goes on with what is under way before it takes a new task."""
        under_way = self._jobs[-1] if self._jobs else None
        if under_way is not None and under_way.task in URGENT:
            return under_way
        among = URGENT if under_way is not None else tuple(Task)
        task = self.due.take(tuple(one for one in self._recovery.troubles.may() if one in among))
        if task is None or self._work is None:
            return under_way
        self._jobs.append(Job(task, self._work.pages(task)))
        return self._jobs[-1]

    def _deal_with(self, task: Task | None, error: Exception) -> None:
        if self.stop_asked.is_set() and isinstance(error, Retry):
            return  # the source gave up because it was told to
        decision = self._recovery.after(task, error)
        if decision.then is Then.SKIP and task is not None:
            self._jobs.pop()  # the one that failed
            self._show_idle()
            return
        self._drop_jobs()
        if isinstance(error, Stop) and decision.then is Then.PARK:
            self.parked = error
        if decision.reopen:
            self._ready, self._not_before = False, time.monotonic() + decision.seconds
            self._activity.publish(self.account.name, lease_held=False)

    def _drop_jobs(self) -> None:
        """Leave what is under way: it begins again from the position in the database."""
        for job in self._jobs:
            job.pages.close()
            self.due.mark(job.task)
        self._jobs.clear()

    def _show_idle(self) -> None:
        runs = self._schedule.next_runs(self.account.name)
        self._activity.publish(self.account.name, phase=Phase.IDLE, next_runs=runs)

    def _alive(self) -> None:
        self._beat = time.monotonic()

    def _request_done(self, done: RequestDone) -> None:
        self._alive()
        self._metrics.request_done(self.account.name, seconds=done.seconds, size=done.bytes, outcome=done.outcome)
