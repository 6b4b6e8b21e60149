"""What each task of an account does, a page at a time, and what is told of it."""

from __future__ import annotations

import contextlib
import math
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from cdrsync import tuning
from cdrsync.daemon.tasks import URGENT, Task
from cdrsync.errors import CdrsyncError
from cdrsync.model import Checkpoint, Origin, Page, Period, utc_now
from cdrsync.monitor import logs
from cdrsync.monitor.activity import PHASES
from cdrsync.sync.runs import Run, Tally, recorded
from cdrsync.sync.streams import Stream
from cdrsync.wiring import accounts

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Generator, Iterator
    from datetime import datetime

    from cdrsync.config import AccountSettings, Settings
    from cdrsync.daemon.tasks import Timetable
    from cdrsync.model import PageSaved
    from cdrsync.monitor.activity import Activity
    from cdrsync.monitor.metrics import Metrics
    from cdrsync.source.exchange import RequestDone
    from cdrsync.sync.runs import RunLog
    from cdrsync.wiring.database import Database

SUMMING_SECONDS = 2.0  # after a poll
LONG_WORK = 10_000  # records after which the memory for their pages is given back
TRACE_SECONDS = 60.0  # between two traces of polls that bring nothing
AGAIN_SECONDS = 3600.0  # after which the same failure gets another line in the table of runs
HISTORY_SECONDS = 60.0  # between two lines that say how far history is read


class Work:
    """One account's tasks on its parts. Raises whatever goes wrong; `stop` ends a task after the page in hand.

    `alive` is called at each answer of the API.
    """

    def __init__(
        self,
        settings: Settings,
        account: AccountSettings,
        database: Database,
        *,
        timetable: Timetable,
        stop: threading.Event,
        activity: Activity,
        metrics: Metrics,
        alive: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._account = account
        self._database = database
        self._timetable = timetable
        self._stop = stop
        self._activity = activity
        self._metrics = metrics
        self._alive = alive
        self._log = logs.get(account.name)
        self._history_told = time.monotonic()
        self._trace_left = -math.inf
        self._opened = contextlib.ExitStack()
        parts = accounts.parts(settings, account, database.replica, stop=stop, on_request=self._answered, briefly=True)
        self._parts = self._opened.enter_context(parts)
        self._failures = Failures(self._parts.store)

    def take_up(self) -> datetime | None:
        """Get schema and lease, and publish what the database knows. Return when the last audit was."""
        name = self._account.name
        self._database.open(self._parts.store)
        mark = self._parts.store.checkpoint(Stream.TAIL)
        if mark is not None:
            self._activity.publish(name, high_water_uid=mark.high_water_uid)
        audited_at, newest_call = self._database.last_audit(name)
        self._activity.publish(name, newest_call=newest_call)
        return audited_at

    def leave(self) -> None:
        """Let another replica have the account."""
        self._parts.store.close()

    def close(self) -> None:
        """Let go of everything."""
        self._opened.close()

    def pages(self, task: Task) -> Generator[PageSaved]:
        """Do a task: an item for each commit."""
        began = time.monotonic()
        self._activity.publish(self._account.name, phase=PHASES[task])
        with self._tallied(task) as tally:
            if task is Task.AUDIT:
                self._audit()
            with contextlib.closing(self._steps(task)) as steps:
                for saved in steps:
                    self._saved(saved)
                    tally.add(saved)
                    if task is Task.BACKFILL:
                        self._tell_history(tally)
                    yield saved
                    if self._stop.is_set():
                        tally.outcome = "stopped"
                        return
            self._finish(task, tally, began)
        if tally.changed:
            counts = {"inserted": tally.inserted, "updated": tally.updated, "rejected": tally.rejected}
            self._log.info(f"{task} done", **counts, seconds=round(tally.seconds(), 3))
        if tally.records >= LONG_WORK:
            tuning.give_back()

    def _tell_history(self, tally: Tally) -> None:
        """Say how far history is read, once a minute."""
        now = time.monotonic()
        if now < self._history_told + HISTORY_SECONDS:
            return
        self._history_told = now
        read = self._parts.sync.position.history()
        pace = tally.records / max(1.0, tally.seconds())
        self._log.info(
            "reading history", days_read=read.read, of=read.wanted, calls=tally.records, a_second=round(pace)
        )

    def _finish(self, task: Task, tally: Tally, began: float) -> None:
        """What comes after the last page of a task."""
        if task is Task.POLL:
            now = utc_now()
            asked = now - timedelta(seconds=time.monotonic() - began)
            self._activity.publish(self._account.name, last_success=now, read_until=asked)
            self._sum(SUMMING_SECONDS)
            if not tally.changed:
                self._leave_trace(asked)
        if task is Task.BACKFILL and tally.records:
            self._timetable.mark(Task.AUDIT)
        if task is Task.SWEEP:
            self._tidy()
        if task in (Task.BACKFILL, Task.SWEEP):
            self._sum(math.inf, look=True)

    def _leave_trace(self, asked: datetime) -> None:
        """Write that a poll brought nothing, once a minute."""
        if time.monotonic() - self._trace_left >= TRACE_SECONDS:
            self._trace_left = time.monotonic()
            checkpoint = Checkpoint(Stream.POLLED, begun_at=asked, done=True)
            self._parts.store.save(Page(Origin.TAIL, [], checkpoint=checkpoint))

    def _tallied(self, task: Task) -> contextlib.AbstractContextManager[Tally]:
        """Return a tally; that of long work with a line in the table of runs."""
        return self._failures.tally(task.value) if task in URGENT else recorded(self._parts.store, task.value)

    def _steps(self, task: Task) -> Generator[PageSaved]:
        sync = self._parts.sync
        match task:
            case Task.POLL:
                yield from sync.poll()
            case Task.LOOKBACK if sync.position.due(Stream.LOOKBACK):
                yield from sync.look_back()
            case Task.BACKFILL:
                yield from sync.backfill()
                if sync.position.due(Stream.DEEP_SWEEP):
                    yield from sync.deep_sweep()
            case Task.SWEEP if sync.position.due(Stream.SWEEP):
                yield from sync.sweep()

    def _audit(self) -> None:
        """Compare with the operator's totals, heal what differs, say what came of it."""
        report = self._parts.audit.run(list(Period), heal=True)
        if report.healed:
            healed = ", ".join(map(str, report.healed))
            self._log.warning("audit healed a gap", days=healed, records=report.records_healed)
        for gap in report.gaps:
            self._log.warning("audit found a gap", first=str(gap.window.first), problem=gap.problem)
        if report.first_proof:
            self._log.info("proven for the first time: every call that the operator counts is held")
        elif report.clean:
            self._log.info("audit done, no gap", proven=report.proven)

    def _sum(self, seconds: float, *, look: bool = False) -> None:
        """Bring the summary up to date, for so long at most: what is left waits for the next poll."""
        until = time.monotonic() + seconds
        while self._parts.store.sum_days(look=look) and time.monotonic() < until and not self._stop.is_set():
            pass

    def _tidy(self) -> None:
        """Forget what is older than the retention allows, and classify anew what older numbering rules classified."""
        days = 0
        for _ in accounts.prune(self._settings, self._account):
            days += 1
            if self._stop.is_set():
                return
        if days:
            self._log.info("old calls treated as the retention says", days=days)
        numbers = accounts.refresh_numbers(self._settings)
        if numbers:
            self._log.info("numbers classified anew", numbers=numbers)

    def _saved(self, saved: PageSaved) -> None:
        self._metrics.page_saved(self._account.name, saved)
        self._activity.saved(self._account.name, saved)
        self._log.debug("page saved", origin=saved.origin.value, records=saved.records, inserted=saved.inserted)

    def _answered(self, done: RequestDone) -> None:
        self._alive()
        self._metrics.request_done(self._account.name, done)


class Failures:
    """The failed polls of one account: a line for each kind of failure an hour, and one for the success after it.

    Other polls leave no line in the table of runs, which they would drown.
    """

    def __init__(self, log: RunLog, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._told: dict[str, float] = {}  # kind of failure → when it got its line

    @contextlib.contextmanager
    def tally(self, origin: str) -> Iterator[Tally]:
        """A tally of a piece of work whose failure, or first success after failures, gets a line."""
        tally = Tally()
        try:
            yield tally
        except CdrsyncError as error:
            kind, now = type(error).__name__, self._clock()
            if now - self._told.get(kind, -AGAIN_SECONDS) >= AGAIN_SECONDS:
                self._told[kind] = now
                self._write(origin, kind, error.message)
            raise
        if self._told:
            self._told.clear()
            self._write(origin, tally.outcome, None)

    def _write(self, origin: str, outcome: str, message: str | None) -> None:
        run = Run(self._log, origin)
        run.outcome = outcome
        with contextlib.suppress(CdrsyncError):  # the failure may be the database's
            run.end(message=message, always=True)
