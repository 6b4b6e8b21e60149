"""What the daemon knows of its accounts, and the metrics that tell it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.exposition import generate_latest

from cdrsync.model import Origin, PageSaved
from cdrsync.monitor import logs
from cdrsync.monitor.activity import AccountState, Activity, Phase
from cdrsync.monitor.metrics import Figures, Metrics
from cdrsync.monitor.status import Summary
from cdrsync.source.exchange import RequestDone

NOW = datetime(2024, 5, 23, 8, 30, tzinfo=UTC)


def test_lag_is_what_may_be_missing() -> None:
    """Counted from the beginning of the last complete poll; unknown before it."""
    assert AccountState("a").lag(NOW) is None
    assert AccountState("a", read_until=NOW - timedelta(seconds=14)).lag(NOW) == 14


def test_history_does_not_make_the_youngest_call_older() -> None:
    """A backfill brings older calls after the newest ones: the page and the metric go on showing the youngest."""
    activity = Activity(lambda: NOW, lambda: 5.0)
    activity.reset([AccountState("default")])
    for newest in (None, NOW - timedelta(minutes=3), NOW - timedelta(days=40), None):
        activity.saved("default", PageSaved(Origin.BACKFILL, inserted=1, newest_started_at=newest))
    (state,) = activity.snapshot().accounts
    assert (state.newest_call, state.inserted) == (NOW - timedelta(minutes=3), 4)


def test_a_trouble_has_lasted_since_its_first_error() -> None:
    """Not since the latest attempt; a success ends it, and the next one is another."""
    moment = [NOW]
    activity = Activity(lambda: moment[0], lambda: (moment[0] - NOW) / timedelta(seconds=1))
    activity.reset([AccountState("default")])
    began = []
    for error in ("away", "refused", "refused", None, "away"):
        moment[0] += timedelta(hours=1)
        activity.publish("default", last_error=error, **({"failing_since": moment[0]} if error else {}))
        (state,) = activity.snapshot().accounts
        began.append(state.failing_since if state.last_error else None)
    first, later = NOW + timedelta(hours=1), NOW + timedelta(hours=5)
    assert began == [first, first, first, None, later]


def test_the_board_keeps_what_it_knows_of_accounts_that_stay() -> None:
    """A new configuration forgets only accounts that are gone."""
    activity = Activity(lambda: NOW, lambda: 5.0)
    activity.reset([AccountState("a"), AccountState("b")])
    activity.publish("a", phase=Phase.IDLE, high_water_uid=7)
    activity.publish("gone", phase=Phase.IDLE)
    activity.reset([AccountState("c"), AccountState("a")])
    assert [(s.name, s.high_water_uid) for s in activity.snapshot().accounts] == [("c", None), ("a", 7)]


def test_metrics_have_the_names_that_alerts_and_dashboards_use() -> None:
    """And no label that could carry a caller's number."""
    activity = Activity(lambda: NOW, lambda: 5.0)
    activity.reset([AccountState("default")])
    metrics = Metrics(activity)
    activity.publish(
        "default",
        phase=Phase.PARKED,
        last_success=NOW,
        read_until=NOW - timedelta(seconds=2),
        last_error_kind="LoginRefused",
        high_water_uid=108139023,
    )
    metrics.page_saved("default", PageSaved(Origin.TAIL, inserted=3, unchanged=1))
    metrics.request_done("default", RequestDone(seconds=0.2, bytes=1000, outcome="ok"))
    metrics.failed("default", "LoginRefused")
    summary = Summary(name="default", calls=5, rejects_open=2, gaps=(NOW.date(),), audited_at=NOW)
    metrics.database = lambda: Figures([summary], None)
    metrics.doorbell("accepted")
    text = generate_latest(metrics.registry).decode()
    shown = dict(line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("cdrsync_"))
    assert {name: shown[name] for name in shown if "bucket" not in name and "build" not in name} == {
        'cdrsync_last_success_timestamp_seconds{account="default"}': "1.716453e+09",
        'cdrsync_lag_seconds{account="default"}': "2.0",
        'cdrsync_high_water_uid{account="default"}': "1.08139023e+08",
        'cdrsync_lease_held{account="default"}': "0.0",
        'cdrsync_login_refused{account="default"}': "1.0",
        'cdrsync_parked{account="default"}': "1.0",
        'cdrsync_cdrs_total{account="default",result="inserted"}': "3.0",
        'cdrsync_cdrs_total{account="default",result="unchanged"}': "1.0",
        'cdrsync_pages_total{account="default",origin="tail"}': "1.0",
        'cdrsync_failures_total{account="default",kind="LoginRefused"}': "1.0",
        'cdrsync_api_requests_total{account="default",outcome="ok"}': "1.0",
        "cdrsync_api_request_seconds_count": "1.0",
        "cdrsync_api_request_seconds_sum": "0.2",
        'cdrsync_api_bytes_total{account="default"}': "1000.0",
        'cdrsync_rejects_open{account="default"}': "2.0",
        'cdrsync_gaps{account="default"}': "1.0",
        'cdrsync_last_audit_timestamp_seconds{account="default"}': "1.716453e+09",
        'cdrsync_calls_held{account="default"}': "5.0",
        'cdrsync_audit_unsure{account="default"}': "0.0",
        'cdrsync_doorbells_total{outcome="accepted"}': "1.0",
        "cdrsync_reload_refused": "0.0",
        "cdrsync_log_lines_dropped_total": f"{float(logs.dropped())}",
    }


def test_a_replica_that_is_cut_off_holds_no_lease() -> None:
    """Another one may have taken it: of two that said so the alert CdrsyncTwoWriters would fire."""
    activity = Activity(lambda: NOW, lambda: 5.0)
    activity.reset([AccountState("default")])
    activity.publish("default", lease_held=True)
    metrics = Metrics(activity)
    for cut_off, value in ((None, 1.0), (16.0, 0.0), (None, 1.0)):
        activity.cut_off = lambda cut_off=cut_off: cut_off  # type: ignore[misc]
        assert activity.snapshot().cut_off == cut_off
        assert metrics.registry.get_sample_value("cdrsync_lease_held", {"account": "default"}) == value


@pytest.mark.parametrize("outcome", ["accepted", "refused", "limited"])
def test_doorbells_are_counted_by_outcome(outcome: str) -> None:
    """A flood of wrong tokens shows."""
    metrics = Metrics(Activity())
    metrics.doorbell(outcome)
    assert metrics.registry.get_sample_value("cdrsync_doorbells_total", {"outcome": outcome}) == 1
