"""One account's thread: does what is due, by priority, and deals with what goes wrong.

Retry   waits with growing pauses, says so once, reads its position again from the database
Skip    says so once, goes on; the task comes again at its next time
Stop    the account is parked until a person acts (new configuration by SIGHUP, or a restart)
LeaseHeld   stands by and takes over
"""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from typing import TYPE_CHECKING

from cdrsync import tuning
from cdrsync.daemon.tasks import URGENT, Due, Task
from cdrsync.daemon.troubles import Troubles
from cdrsync.errors import ApiUnreachable, CdrsyncError, DatabaseUnavailable, LeaseHeld, LeaseLost, Retry, Skip, Stop
from cdrsync.model import TAIL_STREAM, Period, utc_now
from cdrsync.monitor import logs
from cdrsync.monitor.activity import Phase
from cdrsync.sync.runs import Tally, recorded
from cdrsync.sync.steps import LOOKBACK_STREAM, SWEEP_INTERVAL, SWEEP_STREAM
from cdrsync.wiring import accounts

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from datetime import timedelta

    from cdrsync.config import AccountSettings, Settings
    from cdrsync.daemon.tasks import Schedule
    from cdrsync.model import PageSaved
    from cdrsync.monitor.activity import Activity
    from cdrsync.monitor.metrics import Metrics
    from cdrsync.source.api import RequestDone
    from cdrsync.wiring.accounts import AccountParts
    from cdrsync.wiring.database import Database

TICK = 5.0  # seconds between two signs of life of an idle worker
STANDBY_PAUSE = 2.0  # seconds between two attempts to take the lease over
LONG_WORK = 10_000  # records after which the memory for their pages is given back
BUG_KIND = "InternalError"

PHASES = {
    Task.POLL: Phase.POLLING,
    Task.LOOKBACK: Phase.LOOKING_BACK,
    Task.BACKFILL: Phase.BACKFILLING,
    Task.SWEEP: Phase.SWEEPING,
    Task.AUDIT: Phase.AUDITING,
}


class Worker(threading.Thread):
    """Keeps one account current until it is told to stop, or parks it. `parked` is the error that a person must see."""

    def __init__(
        self,
        settings: Settings,
        account: AccountSettings,
        *,
        database: Database,
        activity: Activity,
        metrics: Metrics,
        schedule: Schedule,
        after: Worker | None = None,
    ) -> None:
        super().__init__(name=f"account-{account.name}", daemon=True)
        self.account = account
        self.parked: Stop | None = None
        self._settings = settings
        self._database = database
        self._activity = activity
        self._metrics = metrics
        self._schedule = schedule
        self._after = after
        self._due = Due()
        self._stop_asked = threading.Event()
        self._ready = False  # the lease is held and the position is the database's
        self._troubles = Troubles()
        self._standing_by = False
        self._beat = time.monotonic()
        self._log = logs.get(account.name)

    # ── from other threads ─────────────────────────────────────────────────────────────────────────────────────────

    def stop(self) -> None:
        """Ask the worker to end after the page in hand."""
        self._stop_asked.set()
        self._due.wake()

    def poll_now(self) -> None:
        """Make the next poll happen now."""
        self._due.mark(Task.POLL)

    def silent_for(self) -> float:
        """Seconds since the last progress: a page, an answer of the API, a tick of an idle or waiting worker."""
        return time.monotonic() - self._beat

    # ── the thread ─────────────────────────────────────────────────────────────────────────────────────────────────

    def run(self) -> None:
        """Work until stopped or parked."""
        phase = Phase.STOPPED
        try:
            self._wait_for_predecessor()
            with accounts.parts(
                self._settings, self.account, stop=self._stop_asked, on_request=self._request_done
            ) as parts:
                while not self._stop_asked.is_set():
                    self._turn(parts)
        except Stop as error:
            self.parked = error
            phase = Phase.PARKED
            self._note(error)
            self._log.error("account parked", kind=type(error).__name__, message=error.message, hint=error.hint)
        finally:
            self._schedule.end(self.account.name)
            self._activity.publish(self.account.name, phase=phase, lease_held=False, next_runs={})

    def _wait_for_predecessor(self) -> None:
        while self._after is not None and self._after.is_alive() and not self._stop_asked.is_set():
            self._alive()
            self._after.join(TICK)
        self._after = None

    def _turn(self, parts: AccountParts) -> None:
        """Do one task, or wait for one. Whatever passes by itself was dealt with when this returns."""
        self._alive()
        try:
            if not self._ready:
                self._get_ready(parts)
            task = self._due.take(self._troubles.may())
            if task is not None:
                self._do(task, parts)
        except _Unwound:
            return
        if task is None:
            self._due.wait(self._troubles.longest_wait(TICK))
        else:
            self._activity.publish(
                self.account.name, phase=Phase.IDLE, next_runs=self._schedule.next_runs(self.account.name)
            )

    def _get_ready(self, parts: AccountParts) -> None:
        """Schema, lease and position; then everything may be due. Raises _Unwound where it can't be had yet."""
        with self._dealing_with(None):
            try:
                self._database.open(parts.store)
                self._show_position(parts)
            except LeaseHeld as error:
                self._stand_by(error)
                raise _Unwound from error
        self._ready, self._standing_by = True, False
        self._activity.publish(self.account.name, lease_held=True)
        self._schedule.begin(self.account, self._due.mark)
        self._due.mark(Task.POLL, Task.LOOKBACK, Task.BACKFILL, Task.SWEEP)
        self._log.info("lease taken")

    def _show_position(self, parts: AccountParts) -> None:
        """Publish what the database knows from earlier runs: an alert must not end because the daemon began anew."""
        name = self.account.name
        mark = parts.store.checkpoint(TAIL_STREAM)
        if mark is not None:
            self._activity.publish(name, high_water_uid=mark.high_water_uid)
        self._metrics.rejects_open(name, parts.ledger.open_rejects())
        audited_at, gaps = self._database.last_audit(name)
        if audited_at is not None:
            self._metrics.audited(name, gaps=gaps, at=audited_at.timestamp())

    def _do(self, task: Task, parts: AccountParts) -> None:
        """Do a task page by page; urgent ones are done in between. Raises _Unwound where the lease may be gone."""
        self._activity.publish(self.account.name, phase=PHASES[task])
        began = utc_now()
        with self._dealing_with(task), self._tallied(task, parts) as tally:
            if task is Task.AUDIT:
                self._audit(parts)
            with closing(self._pages(task, parts)) as steps:
                for saved in steps:
                    self._saved(saved)
                    tally.add(saved)
                    if self._stop_asked.is_set():
                        tally.outcome = "stopped"
                        return
                    if task not in URGENT:
                        self._do_urgent(task, parts)
            if task is Task.POLL:
                self._activity.publish(self.account.name, last_success=utc_now(), read_until=began)
            if task is Task.BACKFILL and tally.records:
                self._due.mark(Task.AUDIT)
            if task is Task.SWEEP and not self._stop_asked.is_set():
                self._tidy()
            if tally.rejected or task is Task.BACKFILL:
                self._metrics.rejects_open(self.account.name, parts.ledger.open_rejects())
            self._conclude(task, tally)

    def _conclude(self, task: Task, tally: Tally) -> None:
        if tally.changed:
            counts = {"inserted": tally.inserted, "updated": tally.updated, "rejected": tally.rejected}
            self._log.info(f"{task} done", **counts, seconds=round(tally.seconds(), 3))
        if tally.records >= LONG_WORK:
            tuning.give_back()

    def _tallied(self, task: Task, parts: AccountParts) -> AbstractContextManager[Tally]:
        """Return a tally; that of long work with a line in the table of runs, which would drown in polls."""
        return nullcontext(Tally()) if task in URGENT else recorded(parts.store, task.value)

    def _audit(self, parts: AccountParts) -> None:
        """Compare with the operator's totals, heal what differs, say what came of it."""
        report = parts.audit.run(list(Period), heal=True)
        days = sum(len(gap.window.days()) for gap in report.gaps)
        self._metrics.audited(self.account.name, gaps=days, at=report.audited_at.timestamp())
        if report.healed:
            healed = ", ".join(map(str, report.healed))
            self._log.warning("audit healed a gap", days=healed, records=report.records_healed)
        for gap in report.gaps:
            self._log.warning("audit found a gap", first=str(gap.window.first), problem=gap.problem)
        if report.first_proof:
            self._log.info("proven for the first time: every call that the operator counts is held")
        elif report.clean:
            self._log.info("audit done, no gap", proven=report.proven)

    def _tidy(self) -> None:
        """Forget what is older than the retention allows, and classify anew what older numbering rules classified."""
        days = 0
        for _ in accounts.prune(self._settings, self.account):
            self._alive()
            days += 1
            if self._stop_asked.is_set():
                return
        if days:
            self._log.info("old calls treated as the retention says", days=days)
        numbers = accounts.refresh_numbers(self._settings)
        if numbers:
            self._log.info("numbers classified anew", numbers=numbers)

    def _do_urgent(self, task: Task, parts: AccountParts) -> None:
        while (urgent := self._due.take(URGENT)) is not None:
            self._do(urgent, parts)
            self._activity.publish(self.account.name, phase=PHASES[task])

    def _pages(self, task: Task, parts: AccountParts) -> Generator[PageSaved]:
        yield from self._steps(task, parts)

    def _steps(self, task: Task, parts: AccountParts) -> Iterator[PageSaved]:
        sync = parts.sync
        match task:
            case Task.POLL:
                return sync.poll()
            case Task.LOOKBACK if self._overdue(parts, LOOKBACK_STREAM, self.account.lookback_interval):
                return sync.look_back()
            case Task.BACKFILL:
                return sync.backfill()
            case Task.SWEEP if self._overdue(parts, SWEEP_STREAM, SWEEP_INTERVAL):
                return sync.sweep()
            case _:
                return iter(())

    def _overdue(self, parts: AccountParts, stream: str, interval: timedelta) -> bool:
        """Say whether a stream was last read an interval ago; the schedule may be a moment early."""
        checkpoint = parts.store.checkpoint(stream)
        if checkpoint is None or checkpoint.begun_at is None:
            return True
        since: timedelta = abs(utc_now() - checkpoint.begun_at)  # abs: the host's clock may have been set back
        return since >= interval * 0.95

    # ── what happened ──────────────────────────────────────────────────────────────────────────────────────────────

    def _alive(self) -> None:
        self._beat = time.monotonic()

    def _request_done(self, done: RequestDone) -> None:
        self._alive()
        self._metrics.request_done(self.account.name, seconds=done.seconds, size=done.bytes, outcome=done.outcome)

    def _saved(self, saved: PageSaved) -> None:
        self._alive()
        name = self.account.name
        self._metrics.page_saved(name, saved)
        self._activity.count(
            name,
            inserted=saved.inserted,
            updated=saved.updated,
            rejected=saved.rejected,
            newest_call=saved.newest_started_at,
        )
        if saved.high_water_uid is not None:
            self._activity.publish(name, high_water_uid=saved.high_water_uid)
        self._log.debug("page saved", origin=saved.origin.value, records=saved.records, inserted=saved.inserted)

    # ── what goes wrong ────────────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _dealing_with(self, task: Task | None) -> Iterator[None]:
        """Note success or failure of a task; a failure that passes by itself leaves it due and raises _Unwound."""
        try:
            yield
        except _Unwound:  # an urgent task in between failed; this one goes on after it
            self._leave(task)
            raise
        except Skip as error:
            self._fail(task, error, passing=False)
            return
        except Retry as error:
            self._ready = self._ready and not isinstance(error, DatabaseUnavailable | LeaseLost)
            self._leave(task)
            if self._stop_asked.is_set():  # the source gave up because it was told to
                raise _Unwound from error
            wish = error.retry_after if isinstance(error, ApiUnreachable) else None
            self._fail(task, error, at_least=wish or 0.0)
            raise _Unwound from error
        except CdrsyncError:
            raise
        except Exception as error:
            # A bug in one account's work must not end the others': it is reported, and tried again ever more rarely.
            self._ready = False
            self._leave(task)
            self._report_bug(task, error)
            raise _Unwound from error
        if self._stop_asked.is_set():
            return
        seconds = self._troubles.succeed(task)
        if seconds is not None:
            self._log.info("recovered", after_seconds=round(seconds))
            self._activity.publish(self.account.name, last_error=None, last_error_kind=None)

    def _leave(self, task: Task | None) -> None:
        if task is not None:
            self._due.mark(task)

    def _fail(self, task: Task | None, error: CdrsyncError, *, passing: bool = True, at_least: float = 0.0) -> None:
        kind = type(error).__name__
        self._note(error)
        if self._troubles.fail(task, kind, passing=passing, at_least=at_least):
            what = f"{task or 'database'} failed" + (", will go on by itself" if passing else "")
            self._log.warning(what, kind=kind, message=error.message, hint=error.hint)
        self._after_failure(task)

    def _report_bug(self, task: Task | None, error: Exception) -> None:
        self._metrics.failed(self.account.name, BUG_KIND)
        message = logs.one_line(error)
        self._activity.publish(
            self.account.name,
            last_error=f"internal error: {message}",
            last_error_kind=BUG_KIND,
            last_error_at=utc_now(),
        )
        if self._troubles.fail(task, BUG_KIND):
            self._log.error("internal error", task=task, message=message, traceback=logs.traceback_of(error))
        self._after_failure(task)

    def _after_failure(self, task: Task | None) -> None:
        if task in (None, Task.POLL):
            self._activity.publish(self.account.name, phase=Phase.FAILING)
        if not self._ready:
            self._activity.publish(self.account.name, lease_held=False)
            self._sleep(self._troubles.wait(task))

    def _note(self, error: CdrsyncError) -> None:
        kind = type(error).__name__
        self._metrics.failed(self.account.name, kind)
        self._activity.publish(
            self.account.name, last_error=logs.redact(str(error)), last_error_kind=kind, last_error_at=utc_now()
        )

    def _stand_by(self, error: LeaseHeld) -> None:
        if not self._standing_by:
            self._standing_by = True
            self._log.info("standing by", message=error.message)
        self._activity.publish(self.account.name, phase=Phase.STANDING_BY, lease_held=False)
        self._sleep(STANDBY_PAUSE)

    def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self._stop_asked.wait(min(left, TICK)):
            self._alive()


class _Unwound(Exception):
    """What failed was dealt with; whatever was under way is to be begun again from the database's position."""
