"""What to do after an error: told once and decided here, done by the worker."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from cdrsync.daemon.backoff import Backoff
from cdrsync.daemon.tasks import Task
from cdrsync.errors import ApiUnreachable, CdrsyncError, DatabaseUnavailable, LeaseHeld, LeaseLost, Retry, Skip, Stop
from cdrsync.model import utc_now
from cdrsync.monitor import logs
from cdrsync.monitor.activity import Phase

if TYPE_CHECKING:
    from cdrsync.monitor.activity import Activity
    from cdrsync.monitor.metrics import Metrics

STANDBY_PAUSE = 2.0  # seconds between two attempts to take the lease over
BUG_KIND = "InternalError"


class Then(StrEnum):
    """What a worker does after an error."""

    AGAIN = "again"  # the same task, from the position in the database
    SKIP = "skip"  # the other tasks; this one comes again at its next time
    STAND_BY = "stand by"  # nothing: another instance holds the lease
    PARK = "park"  # nothing until a person acts, or a long time has passed


@dataclass(frozen=True, slots=True)
class Decision:
    """`reopen`: the lease may be gone, and is taken again first, in `seconds`."""

    then: Then
    seconds: float = 0.0
    reopen: bool = False


class Recovery:
    """One account's errors. `task` None is the way to the database and the lease."""

    def __init__(self, account: str, activity: Activity, metrics: Metrics) -> None:
        self.backoff = Backoff()
        self._account = account
        self._activity = activity
        self._metrics = metrics
        self._standing_by = False
        self._log = logs.get(account)

    def after(self, task: Task | None, error: Exception) -> Decision:
        """Tell of an error where it is news, and say what to do."""
        decision = self._decided(task, error)
        if decision.seconds:
            next_try = utc_now() + timedelta(seconds=decision.seconds)
            self._activity.publish(self._account, next_runs={"next try": next_try})
        if decision.reopen:
            self._activity.publish(self._account, lease_held=False)
        return decision

    def _decided(self, task: Task | None, error: Exception) -> Decision:
        match error:
            case LeaseHeld():
                return self._stand_by(error)
            case Stop():
                self._note(error)
                news, seconds = self.backoff.park(task, type(error).__name__)
                if news:
                    self._log.error("account parked", kind=type(error).__name__, message=error.message, hint=error.hint)
                self._activity.publish(self._account, phase=Phase.PARKED)
                return Decision(Then.PARK, seconds, reopen=True)
            case Skip():
                self._fail(task, error, passing=False)
                return Decision(Then.SKIP)
            case Retry():
                wish = error.retry_after if isinstance(error, ApiUnreachable) else None
                self._fail(task, error, at_least=wish or 0.0)
                return self._again(task, reopen=isinstance(error, DatabaseUnavailable | LeaseLost))
            case _:
                # A bug in one account's work must not end the others': it is tried again, ever more rarely.
                self._report_bug(task, error)
                return self._again(task, reopen=True)

    def succeeded(self, task: Task | None) -> None:
        """Note a success; tell of it where it ends the last trouble."""
        self._standing_by = False
        seconds = self.backoff.succeed(task)
        if seconds is not None:
            self._log.info("recovered", after_seconds=round(seconds))
        if seconds is not None or (task is not None and not self.backoff):  # the worker before a reload may have failed
            self._activity.publish(self._account, last_error=None, last_error_kind=None)

    def _again(self, task: Task | None, *, reopen: bool) -> Decision:
        return Decision(Then.AGAIN, self.backoff.wait(task), reopen=reopen or task is None)

    def _stand_by(self, error: LeaseHeld) -> Decision:
        if not self._standing_by:
            self._standing_by = True
            self._log.info("standing by", message=error.message)
        self._activity.publish(self._account, phase=Phase.STANDING_BY)
        return Decision(Then.STAND_BY, STANDBY_PAUSE, reopen=True)

    def _fail(self, task: Task | None, error: CdrsyncError, *, passing: bool = True, at_least: float = 0.0) -> None:
        self._note(error)
        kind = type(error).__name__
        if self.backoff.fail(task, kind, passing=passing, at_least=at_least):
            what = f"{task or 'database'} failed" + (", will go on by itself" if passing else "")
            self._log.warning(what, kind=kind, message=error.message, hint=error.hint)
        if passing and task in (None, Task.POLL):
            self._activity.publish(self._account, phase=Phase.FAILING)

    def _report_bug(self, task: Task | None, error: Exception) -> None:
        message = logs.one_line(error)
        self._metrics.failed(self._account, BUG_KIND)
        self._activity.publish(
            self._account,
            phase=Phase.FAILING,
            last_error=f"internal error: {message}",
            last_error_kind=BUG_KIND,
            failing_since=utc_now(),
        )
        if self.backoff.fail(task, BUG_KIND):
            self._log.error("internal error", task=task, message=message, traceback=logs.traceback_of(error))

    def _note(self, error: CdrsyncError) -> None:
        kind = type(error).__name__
        self._metrics.failed(self._account, kind)
        self._activity.publish(
            self._account, last_error=logs.redact(str(error)), last_error_kind=kind, failing_since=utc_now()
        )
