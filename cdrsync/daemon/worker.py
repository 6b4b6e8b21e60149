"""One account's work, a page at a turn, the most urgent first."""

from __future__ import annotations

import contextlib
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from cdrsync.daemon.jobs import Jobs, Times
from cdrsync.daemon.recovery import Recovery, Then
from cdrsync.daemon.tasks import LONG, NEVER, URGENT, Task, Timetable
from cdrsync.daemon.work import Work
from cdrsync.errors import CdrsyncError, Retry, Stop
from cdrsync.monitor import logs
from cdrsync.monitor.activity import Phase
from cdrsync.wiring import accounts

if TYPE_CHECKING:
    from cdrsync.config import AccountSettings, Settings
    from cdrsync.monitor.activity import Activity
    from cdrsync.monitor.metrics import Metrics
    from cdrsync.wiring.database import Database

SOON = 0.5  # seconds that a thread may wait for its turn at the operator
STUMBLED = 60.0  # seconds after an error in dealing with an error


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
        first: float = 0.0,
    ) -> None:
        self.account = account
        self.parked: Stop | None = None
        self.stop_asked = threading.Event()
        self.ended = False
        self._database = database
        self._activity = activity
        self._timetable = Timetable(account, alone=len(settings.accounts) == 1)
        self._begin = partial(
            Work,
            settings,
            account,
            database,
            timetable=self._timetable,
            stop=self.stop_asked,
            activity=activity,
            metrics=metrics,
            alive=self._alive,
        )
        self._work: Work | None = None
        self._ours: bool | None = None  # or another replica's; None: not known yet
        self._standing_by = False
        self._ready = False  # the lease is held and the position is the database's
        self._not_before = first  # monotonic: the database may be tried
        self._told = False  # somebody has asked for a poll since the last one began
        self._brake = accounts.brake(settings, account)
        self._recovery = Recovery(account.name, activity, metrics)
        self._jobs = Jobs(self._timetable, self._recovery.backoff)
        self._beat = time.monotonic()

    # ── from other threads ─────────────────────────────────────────────────────────────────────────────────────────

    def poll_now(self) -> None:
        """Poll in the next turn, also where the account is parked."""
        self._timetable.mark(Task.POLL)
        self._recovery.backoff.hurry()
        self._told = True
        self._brake.open()
        if self.parked is not None:
            self._not_before = 0.0

    def assign(self, *, ours: bool) -> bool:
        """Work on the account, or leave it to another replica after the page in hand; say whether that is new."""
        new, self._ours = ours != self._ours, ours
        self._standing_by = self._standing_by and not ours
        return new

    def silent_for(self) -> float:
        """Seconds since the last progress: an answer of the API or a turn."""
        return time.monotonic() - self._beat

    # ── turns ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def times(self) -> Times:
        """When the next turns are wanted."""
        if self.stop_asked.is_set():
            return Times(0.0, NEVER, begun=False)
        if not self._ours:
            return Times(NEVER if self._standing_by or self._ours is None else 0.0, NEVER, begun=False)
        if not self._ready:
            return Times(self._not_before, NEVER, begun=False)
        opens = self._brake.opens_at()
        return Times(max(self._jobs.at(URGENT), opens), max(self._jobs.at(LONG), opens), self._jobs.begun(LONG))

    def turn(self, *, long: bool) -> None:
        """Do one page of urgent or of long work. What goes wrong is dealt with when this returns."""
        self._alive()
        task = None
        try:
            if not self._ours:
                self._stand_by()
            elif not self._ready or self._work is None:
                self._get_ready()
            elif self._brake.opens_at() <= time.monotonic() + SOON:  # else no thread waits for the end of a rest
                kind = LONG if long else URGENT
                new = not self._jobs.begun(kind)
                job = self._jobs.go_on(kind, self._work.pages)
                if job is None:
                    return
                task = job.task
                self._told = self._told and not (new and task is Task.POLL)
                if next(job.pages, None) is None:
                    self._ended(task)
        except Exception as error:  # noqa: BLE001 - recovery says what each means
            self._deal_with(task, error)

    def give_way(self) -> None:
        """Put long work back to the end of the queue: it goes on where it was, as the database knows it."""
        self._jobs.drop(LONG)

    def stumbled(self) -> None:
        """After an error in dealing with an error: begin anew, later."""
        self._jobs.forget()
        self._ready, self._not_before = False, time.monotonic() + STUMBLED

    def end(self) -> None:
        """Let go of everything."""
        self.ended = True
        with contextlib.suppress(CdrsyncError):
            self._jobs.stop()
        self._jobs.drop()
        with contextlib.suppress(CdrsyncError):
            if self._work is not None:
                self._work.close()
        with contextlib.suppress(CdrsyncError):
            self._database.replica.release([self.account.name])
        self._activity.publish(self.account.name, phase=Phase.STOPPED, lease_held=False, next_runs={})

    def _get_ready(self) -> None:
        """Schema, lease and position; then everything may be due."""
        self._told = False
        if self._work is None:
            self._work = self._begin()
        self._timetable.begin(self._work.take_up())
        self._ready = True
        self._recovery.succeeded(None)
        self._activity.publish(self.account.name, lease_held=True)
        logs.get(self.account.name).info("lease taken")

    def _stand_by(self) -> None:
        """Let another replica have the account."""
        self._jobs.drop()
        self._ready, self.parked, self._standing_by = False, None, True
        if self._work is None:
            self._database.replica.release([self.account.name])  # it was claimed with all others, and never used
        else:
            self._work.leave()
        nothing = dict.fromkeys(("last_success", "read_until", "last_error", "last_error_kind", "failing_since"))
        self._activity.publish(self.account.name, phase=Phase.STANDING_BY, lease_held=False, next_runs={}, **nothing)
        logs.get(self.account.name).info("standing by", message="another replica works on it")

    def _ended(self, task: Task) -> None:
        """The job is done: what it interrupted goes on."""
        self._jobs.leave(task)
        if not self._told:
            self._timetable.ended(task)
        if not self.stop_asked.is_set():
            self._recovery.succeeded(task)
        if task is Task.POLL:
            self.parked = None
        self._show_idle()

    def _deal_with(self, task: Task | None, error: Exception) -> None:
        if self.stop_asked.is_set() and isinstance(error, Retry):
            return  # the source gave up because it was told to
        decision = self._recovery.after(task, error)
        if task is not None and decision.then is Then.SKIP:
            self._jobs.leave(task)
            self._show_idle()
            return
        self._jobs.drop()
        if isinstance(error, Stop) and decision.then is Then.PARK:
            self.parked = error
        if decision.reopen:
            self._ready, self._not_before = False, time.monotonic() + (0.0 if self._told else decision.seconds)

    def _show_idle(self) -> None:
        self._activity.publish(self.account.name, phase=self._jobs.phase(), next_runs=self._timetable.next_runs())

    def _alive(self) -> None:
        self._beat = time.monotonic()
