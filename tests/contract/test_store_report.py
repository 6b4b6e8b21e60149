"""What the reports say, on every database alike."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

from cdrsync.model import Checkpoint, Reject
from cdrsync.store.report import AccountReport, ChangeReport, RejectReport, Report, RunReport
from tests.contract.conftest import FIRST, Clock, Eyes, calls, page

if TYPE_CHECKING:
    from cdrsync.store.sql import SqlStore

DAY = date(2013, 8, 3)


def test_an_account_that_has_done_nothing(store: SqlStore, eyes: Eyes, clock: Clock) -> None:
    """Zeros and Nones, no error."""
    assert store.calls_held() == 0
    (report,) = Report(eyes.engine).accounts()
    assert report.holder is not None
    assert report == AccountReport(
        "main", report.holder, clock.now, {}, None, 0, 0, Decimal(0), None, None, 0, {}, None, 0, 0
    )


def test_an_account_at_work(store: SqlStore, eyes: Eyes, clock: Clock) -> None:
    """Checkpoints, ledger, rejects and changes."""
    cdrs = calls(5)
    tail = Checkpoint("tail", cdrs[-1].uid, cdrs[-1].started_at)
    store.save(page(*cdrs, checkpoint=tail, completes=(DAY, date(2013, 8, 4)), rejects=[Reject(1, "<CDR/>", "bad")]))
    store.save(page(FIRST._replace(user_cost=Decimal("0.25"), duration=60)))
    (report,) = Report(eyes.engine).accounts()
    assert report.checkpoints == {"tail": tail}
    assert report.newest_call == cdrs[-1].started_at
    assert (report.calls, report.duration, report.charge) == (5, 304, Decimal("0.75"))
    assert (report.first_day, report.last_day, report.days_downloaded) == (DAY, date(2013, 8, 4), 2)
    assert report.verdicts == {"unaudited": 2}
    assert (report.rejects_open, report.changes) == (1, 2)
    assert Report(eyes.engine).changes("main") == [
        ChangeReport("main", FIRST.uid, clock.now, "user_cost", "0.125", "0.25"),
        ChangeReport("main", FIRST.uid, clock.now, "duration", "61", "60"),
    ]


def test_rejects_are_listed_and_shown(store: SqlStore, eyes: Eyes, clock: Clock) -> None:
    """Open ones, all of them, or one by its number."""
    report = Report(eyes.engine)
    store.save(page(rejects=[Reject(FIRST.uid, "<CDR>1</CDR>", "bad"), Reject(None, "<CDR/>", "worse")]))
    store.save(page(FIRST))
    (still_open,) = report.rejects()
    assert still_open == RejectReport(still_open.id, "main", None, "worse", "<CDR/>", 1, clock.now, clock.now, None)
    assert report.reject(still_open.id) == still_open
    assert report.reject(10**6) is None
    assert len(report.rejects("main", open_only=False)) == 2
    assert report.rejects("nobody") == []


def test_runs_are_listed_newest_first(store: SqlStore, eyes: Eyes, clock: Clock) -> None:
    """A run that was not ended was killed, or goes on."""
    first = store.begin_run("backfill")
    begun = clock.now
    clock.forward(minutes=5)
    store.end_run(first, inserted=7, rejected=1)
    second = store.begin_run("tail")
    assert Report(eyes.engine).runs("main") == [
        RunReport(second, "main", "tail", clock.now, None, None, 0, 0, 0, 0, None),
        RunReport(first, "main", "backfill", begun, clock.now, "ok", 7, 0, 0, 1, None),
    ]
