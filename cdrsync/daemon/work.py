"""What each task of an account does, a page at a time, and what is told of it."""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from cdrsync import tuning
from cdrsync.daemon.failures import Failures
from cdrsync.daemon.jobs import PHASES
from cdrsync.daemon.tasks import URGENT, Task
from cdrsync.model import TAIL_STREAM, Checkpoint, Origin, Page, Period, utc_now
from cdrsync.monitor import logs
from cdrsync.sync.position import DEEP_SWEEP_STREAM, LOOKBACK_STREAM, POLLED_STREAM, SWEEP_STREAM
from cdrsync.sync.runs import recorded
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
    from cdrsync.sync.runs import Tally
    from cdrsync.wiring.accounts import AccountParts
    from cdrsync.wiring.database import Database

SUMMING_SECONDS = 2.0  # after a poll
LONG_WORK = 10_000  # records after which the memory for their pages is given back
TRACE_SECONDS = 60.0  # between two traces of polls that bring nothing
HISTORY_SECONDS = 60.0  # between two lines that say how far history is read


class Work:
    """One account's tasks on its parts. Raises whatever goes wrong; `stop` ends a task after the page in hand."""

    def __init__(
        self,
        settings: Settings,
        account: AccountSettings,
        parts: AccountParts,
        database: Database,
        *,
        timetable: Timetable,
        stop: threading.Event,
        activity: Activity,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._account = account
        self._parts = parts
        self._database = database
        self._timetable = timetable
        self._stop = stop
        self._activity = activity
        self._metrics = metrics
        self._log = logs.get(parts.name)
        self._history_told = time.monotonic()
        self._trace_left = -math.inf
        self._failures = Failures(parts.store)

    def take_up(self) -> datetime | None:
        """Get schema and lease, and publish what the database knows: no alert ends because the daemon began anew.

        Return when the last audit was.
        """
        name = self._parts.name
        self._database.open(self._parts.store)
        mark = self._parts.store.checkpoint(TAIL_STREAM)
        if mark is not None:
            self._activity.publish(name, high_water_uid=mark.high_water_uid)
        self._metrics.rejects_open(name, self._parts.ledger.open_rejects())
        audited_at, gaps, newest_call = self._database.last_audit(name)
        self._activity.publish(name, newest_call=newest_call)
        if audited_at is not None:
            self._metrics.audited(name, gaps=gaps, at=audited_at.timestamp())
        return audited_at

    def leave(self) -> None:
        """Let another replica have the account."""
        self._parts.store.close()

    def pages(self, task: Task) -> Generator[PageSaved]:
        """Do a task: an item for each commit."""
        began = time.monotonic()
        self._activity.publish(self._parts.name, phase=PHASES[task])
        with self._tallied(task) as tally:
            if task is Task.AUDIT:
                self._audit()
            with closing(self._steps(task)) as steps:
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
            self._activity.publish(self._parts.name, last_success=now, read_until=asked)
            self._sum(SUMMING_SECONDS)
            if not tally.changed:
                self._leave_trace(asked)
        if task is Task.BACKFILL and tally.records:
            self._timetable.mark(Task.AUDIT)
        if task is Task.SWEEP:
            self._tidy()
        if task in (Task.BACKFILL, Task.SWEEP):
            self._sum(math.inf, look=True)
        if tally.rejected or task is Task.BACKFILL:
            self._metrics.rejects_open(self._parts.name, self._parts.ledger.open_rejects())

    def _leave_trace(self, asked: datetime) -> None:
        """Write that a poll brought nothing, once a minute."""
        if time.monotonic() - self._trace_left >= TRACE_SECONDS:
            self._trace_left = time.monotonic()
            checkpoint = Checkpoint(POLLED_STREAM, begun_at=asked, done=True)
            self._parts.store.save(Page(Origin.TAIL, [], checkpoint=checkpoint))

    def _tallied(self, task: Task) -> AbstractContextManager[Tally]:
        """Return a tally; that of long work with a line in the table of runs, which would drown in polls."""
        return self._failures.tally(task.value) if task in URGENT else recorded(self._parts.store, task.value)

    def _steps(self, task: Task) -> Generator[PageSaved]:
        sync = self._parts.sync
        match task:
            case Task.POLL:
                yield from sync.poll()
            case Task.LOOKBACK if sync.position.due(LOOKBACK_STREAM):
                yield from sync.look_back()
            case Task.BACKFILL:
                yield from sync.backfill()
                if sync.position.due(DEEP_SWEEP_STREAM):
                    yield from sync.deep_sweep()
            case Task.SWEEP if sync.position.due(SWEEP_STREAM):
                yield from sync.sweep()

    def _audit(self) -> None:
        """Compare with the operator's totals, heal what differs, say what came of it."""
        report = self._parts.audit.run(list(Period), heal=True)
        days = sum(len(gap.window.days()) for gap in report.gaps)
        self._metrics.audited(self._parts.name, gaps=days, at=report.audited_at.timestamp())
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
        name = self._parts.name
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


@contextmanager
def opened(
    settings: Settings,
    account: AccountSettings,
    database: Database,
    *,
    stop: threading.Event,
    metrics: Metrics,
    alive: Callable[[], None],
    **told: Any,
) -> Iterator[Work]:
    """An account's work with all that it needs; `alive` is called at each answer of the API."""

    def answered(done: RequestDone) -> None:
        alive()
        metrics.request_done(account.name, seconds=done.seconds, size=done.bytes, outcome=done.outcome)

    with accounts.parts(settings, account, database.replica, stop=stop, on_request=answered, briefly=True) as parts:
        yield Work(settings, account, parts, database, stop=stop, metrics=metrics, **told)
