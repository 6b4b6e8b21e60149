"""One account's work, a page at a turn, the most urgent first."""

from __future__ import annotations

import contextlib
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from cdrsync.daemon.recovery import Recovery, Then
from cdrsync.daemon.tasks import LONG, NEVER, URGENT, Task, Timetable
from cdrsync.daemon.work import Work
from cdrsync.errors import CdrsyncError, Retry, Stop
from cdrsync.model import utc_now
from cdrsync.monitor import logs
from cdrsync.monitor.activity import Phase
from cdrsync.wiring import accounts

if TYPE_CHECKING:
    from collections.abc import Generator

    from cdrsync.config import AccountSettings, Settings
    from cdrsync.model import PageSaved
    from cdrsync.monitor.activity import Activity
    from cdrsync.monitor.metrics import Metrics
    from cdrsync.source.api import RequestDone
    from cdrsync.wiring.accounts import AccountParts
    from cdrsync.wiring.database import Database

SOON = 0.5  # seconds that a thread may wait for its turn at the operator
STUMBLED = 60.0  # seconds after an error in dealing with an error

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


class Times(NamedTuple):
    """When a worker wants its next turns, in seconds of the monotonic clock; `begun`: long work is under way."""

    urgent: float
    long: float
    begun: bool


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
        self._settings = settings
        self._database = database
        self._activity = activity
        self._metrics = metrics
        self._timetable = Timetable(account, alone=len(settings.accounts) == 1)
        self._opened = contextlib.ExitStack()
        self._work: Work | None = None
        self._parts: AccountParts | None = None
        self._ours: bool | None = None  # or another replica's; None: not known yet
        self._standing_by = False
        self._ready = False  # the lease is held and the position is the database's
        self._not_before = first  # monotonic: the database may be tried
        self._told = False  # somebody has asked for a poll since the last one began
        self._urgent: Job | None = None
        self._long: Job | None = None
        self._brake = accounts.brake(settings, account)
        self._recovery = Recovery(account.name, activity, metrics)
        self._beat = time.monotonic()

    # ── from other threads ─────────────────────────────────────────────────────────────────────────────────────────

    def poll_now(self) -> None:
        """Poll in the next turn, also where the account is parked."""
        self._timetable.mark(Task.POLL)
        self._recovery.troubles.hurry()
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
        begun = self._long is not None
        urgent = 0.0 if self._urgent else min(map(self._at, URGENT))
        long = 0.0 if begun else min(map(self._at, LONG))
        opens = self._brake.opens_at()
        return Times(max(urgent, opens), max(long, opens), begun)

    def turn(self, *, long: bool) -> None:
        """Do one page of urgent or of long work. What goes wrong is dealt with when this returns."""
        self._alive()
        task = None
        try:
            if not self._ours:
                self._stand_by()
                return
            if not self._ready:
                self._get_ready()
                return
            if self._brake.opens_at() > time.monotonic() + SOON:
                return  # the operator has asked for a rest meanwhile: no thread waits for its end
            job = self._long_job() if long else self._urgent_job()
            if job is None:
                return
            task = job.task
            if next(job.pages, None) is None:
                self._ended(task)
        except Exception as error:  # noqa: BLE001 - recovery says what each means
            self._deal_with(task, error)

    def give_way(self) -> None:
        """Put long work back to the end of the queue: it goes on where it was, as the database knows it."""
        if self._long is not None:
            self._long.pages.close()
            self._timetable.mark(self._long.task)
            self._long = None

    def stumbled(self) -> None:
        """After an error in dealing with an error: begin anew, later."""
        self._urgent = self._long = None
        self._ready, self._not_before = False, time.monotonic() + STUMBLED

    def end(self) -> None:
        """Let go of everything."""
        self.ended = True
        with contextlib.suppress(CdrsyncError):
            for job in filter(None, (self._urgent, self._long)):
                next(job.pages, None)  # it sees that it is to stop, and says so in the table of runs
        self._drop_jobs()
        with contextlib.suppress(CdrsyncError):
            self._opened.close()
        self._activity.publish(self.account.name, phase=Phase.STOPPED, lease_held=False, next_runs={})

    def _at(self, task: Task) -> float:
        return max(self._timetable.at(task), self._recovery.troubles.at(task))

    def _get_ready(self) -> None:
        """Schema, lease and position; then everything may be due."""
        self._told = False
        if self._parts is None or self._work is None:
            self._parts = self._opened.enter_context(
                accounts.parts(
                    self._settings,
                    self.account,
                    self._database.replica,
                    stop=self.stop_asked,
                    on_request=self._request_done,
                    briefly=True,
                )
            )
            self._work = Work(
                self._settings,
                self.account,
                self._parts,
                timetable=self._timetable,
                stop=self.stop_asked,
                activity=self._activity,
                metrics=self._metrics,
            )
        self._database.open(self._parts.store)
        self._timetable.begin(self._work.show_position(self._database))
        self._ready = True
        self._recovery.succeeded(None)
        self._activity.publish(self.account.name, lease_held=True)
        logs.get(self.account.name).info("lease taken")

    def _stand_by(self) -> None:
        """Let another replica have the account."""
        self._drop_jobs()
        self._ready, self.parked, self._standing_by = False, None, True
        if self._parts is not None:
            self._parts.store.close()
        nothing = dict.fromkeys(("last_success", "read_until", "last_error", "last_error_kind", "last_error_at"))
        self._activity.publish(self.account.name, phase=Phase.STANDING_BY, lease_held=False, next_runs={}, **nothing)
        logs.get(self.account.name).info("standing by", message="another replica works on it")

    def _urgent_job(self) -> Job | None:
        if self._urgent is None:
            self._urgent = self._begin(URGENT)
        return self._urgent

    def _long_job(self) -> Job | None:
        if self._long is None:
            self._long = self._begin(LONG)
        return self._long

    def _begin(self, among: tuple[Task, ...]) -> Job | None:
        now = time.monotonic()
        task = next((task for task in among if self._at(task) <= now), None)
        if task is None or self._work is None:
            return None
        self._timetable.begun(task)
        self._told = self._told and task is not Task.POLL
        self._activity.publish(self.account.name, phase=PHASES[task])
        return Job(task, self._work.pages(task))

    def _ended(self, task: Task) -> None:
        """The job is done: what it interrupted goes on."""
        if task in URGENT:
            self._urgent = None
        else:
            self._long = None
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
        if decision.then is Then.SKIP:
            self._urgent, self._long = (None, self._long) if task in URGENT else (self._urgent, None)
            self._show_idle()
            return
        self._drop_jobs()
        if isinstance(error, Stop) and decision.then is Then.PARK:
            self.parked = error
        if decision.seconds:
            next_try = utc_now() + timedelta(seconds=decision.seconds)
            self._activity.publish(self.account.name, next_runs={"next try": next_try})
        if decision.reopen:
            self._ready, self._not_before = False, time.monotonic() + (0.0 if self._told else decision.seconds)
            self._activity.publish(self.account.name, lease_held=False)

    def _drop_jobs(self) -> None:
        """Leave what is under way: it begins again from the position in the database."""
        for job in filter(None, (self._urgent, self._long)):
            job.pages.close()
            self._timetable.mark(job.task)
        self._urgent = self._long = None

    def _show_idle(self) -> None:
        phase = PHASES[self._long.task] if self._long else Phase.IDLE
        self._activity.publish(self.account.name, phase=phase, next_runs=self._timetable.next_runs())

    def _alive(self) -> None:
        self._beat = time.monotonic()

    def _request_done(self, done: RequestDone) -> None:
        self._alive()
        self._metrics.request_done(self.account.name, seconds=done.seconds, size=done.bytes, outcome=done.outcome)
