"""The daemon's parts by themselves: troubles, due tasks, the schedule, the activity, metrics."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from threading import Event
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.exposition import generate_latest

from cdrsync.config import Inputs, load
from cdrsync.daemon.tasks import URGENT, Due, Schedule, Task
from cdrsync.daemon.troubles import LONGEST_PAUSE, Troubles
from cdrsync.model import Origin, PageSaved
from cdrsync.monitor.activity import AccountState, Activity, Phase
from cdrsync.monitor.metrics import Metrics
from tests.support.canary import LOGIN

NOW = datetime(2024, 5, 23, 8, 30, tzinfo=UTC)


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def troubles(clock: Clock) -> Troubles:
    return Troubles(clock, jitter=lambda: 1.0)


# ── troubles ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_pauses_double_up_to_a_minute() -> None:
    """An hour's outage costs some sixty tries."""
    clock = Clock()
    found = troubles(clock)
    pauses = []
    for _ in range(9):
        found.fail(Task.POLL, "ApiUnreachable")
        pauses.append(found.wait(Task.POLL))
        clock.now += pauses[-1]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_the_operators_own_wish_is_honoured() -> None:
    """Retry-After may be longer than our pause."""
    found = troubles(Clock())
    found.fail(Task.POLL, "ApiUnreachable", at_least=120)
    assert found.wait(Task.POLL) == 120


def test_a_kind_of_failure_is_news_once() -> None:
    """Whichever task meets it; again only after everything was well."""
    found = troubles(Clock())
    assert found.fail(Task.BACKFILL, "ApiUnreachable") is True
    assert found.fail(Task.POLL, "ApiUnreachable") is False
    assert found.fail(Task.POLL, "BadAnswer") is True
    assert found.succeed(Task.POLL) is None
    assert found.fail(Task.POLL, "ApiUnreachable") is False
    found.succeed(Task.POLL)
    found.succeed(Task.BACKFILL)
    assert found.fail(Task.POLL, "ApiUnreachable") is True


def test_the_end_of_the_last_trouble_is_told_with_its_length() -> None:
    """`recovered after_seconds=…`."""
    clock = Clock()
    found = troubles(clock)
    found.fail(Task.POLL, "ApiUnreachable")
    clock.now += 3600
    assert found.succeed(Task.SWEEP) is None
    assert found.succeed(Task.POLL) == 3600
    assert found.succeed(Task.POLL) is None
    assert not found


def test_while_polling_fails_nothing_else_is_tried() -> None:
    """It would fail alike, and ask more of a troubled server."""
    clock = Clock()
    found = troubles(clock)
    found.fail(Task.POLL, "ApiUnreachable")
    assert found.may() == ()
    clock.now += 1
    assert found.may() == (Task.POLL,)


def test_a_failing_sweep_does_not_stop_the_polls() -> None:
    """Only itself, for a while."""
    found = troubles(Clock())
    found.fail(Task.SWEEP, "InternalError")
    assert found.may() == (Task.POLL, Task.LOOKBACK, Task.BACKFILL, Task.AUDIT)


def test_a_refused_poll_waits_for_its_next_time_and_stops_nothing() -> None:
    """A Skip: the others go on."""
    found = troubles(Clock())
    found.fail(Task.POLL, "RequestRefused", passing=False)
    assert found.may() == tuple(Task)


@given(st.lists(st.sampled_from(Task), min_size=1, max_size=60))
def test_no_pause_is_longer_than_a_minute(failures: list[Task]) -> None:
    """However often it fails."""
    clock = Clock()
    found = troubles(clock)
    for task in failures:
        found.fail(task, "X")
        assert found.wait(task) <= LONGEST_PAUSE
    assert found.longest_wait(5.0) <= 5.0


# ── due tasks and the schedule ─────────────────────────────────────────────────────────────────────────────────────


def test_tasks_are_taken_by_urgency_and_once() -> None:
    """Marked twice, done once; polls before all."""
    due = Due()
    due.mark(Task.AUDIT, Task.SWEEP)
    due.mark(Task.POLL)
    due.mark(Task.POLL)
    assert due.take(URGENT) is Task.POLL
    assert due.take(URGENT) is None
    assert [due.take(), due.take(), due.take()] == [Task.SWEEP, Task.AUDIT, None]


def test_the_schedule_follows_the_configuration() -> None:
    """Intervals from now on, the audit by the account's wall clock; what is off is not scheduled."""
    environ = {
        "CDRSYNC_USERNAME": LOGIN.username,
        "CDRSYNC_PASSWORD": LOGIN.password,
        "CDRSYNC_VKEY": LOGIN.vkey,
        "CDRSYNC_LOOKBACK_INTERVAL": "0",
        "CDRSYNC_SWEEP_DAYS": "0",
    }
    (account,) = load(Inputs(environ=environ)).accounts
    schedule = Schedule()
    try:
        before = datetime.now(UTC)
        schedule.begin(account, lambda _: None)
        runs = schedule.next_runs("default")
        assert set(runs) == {"poll", "backfill", "audit"}
        assert timedelta(seconds=59) <= runs["poll"] - before <= timedelta(seconds=120)
        assert runs["audit"].astimezone(ZoneInfo("Europe/London")).time() == time(4, 30)
        schedule.end("default")
        assert schedule.next_runs("default") == {}
    finally:
        schedule.close()


def test_the_schedule_marks_tasks_due() -> None:
    """And goes on doing so."""
    environ = {
        "CDRSYNC_USERNAME": LOGIN.username,
        "CDRSYNC_PASSWORD": LOGIN.password,
        "CDRSYNC_VKEY": LOGIN.vkey,
        "CDRSYNC_POLL_INTERVAL": "1s",
    }
    (account,) = load(Inputs(environ=environ)).accounts
    schedule = Schedule()
    marked: list[Task] = []
    twice = Event()

    def mark(task: Task) -> None:
        marked.append(task)
        if len(marked) == 2:
            twice.set()

    try:
        schedule.begin(account, mark)
        assert twice.wait(30)
        assert marked[:2] == [Task.POLL, Task.POLL]
    finally:
        schedule.close()


# ── activity and metrics ───────────────────────────────────────────────────────────────────────────────────────────


def test_lag_is_what_may_be_missing() -> None:
    """Counted from the beginning of the last complete poll; unknown before it."""
    assert AccountState("a").lag(NOW) is None
    assert AccountState("a", read_until=NOW - timedelta(seconds=14)).lag(NOW) == 14


def test_history_does_not_make_the_youngest_call_older() -> None:
    """A backfill brings older calls after the newest ones: the page and the metric go on showing the youngest."""
    activity = Activity(lambda: NOW)
    activity.reset(["default"])
    for newest in (None, NOW - timedelta(minutes=3), NOW - timedelta(days=40), None):
        activity.count("default", inserted=1, updated=0, rejected=0, newest_call=newest)
    (state,) = activity.snapshot().accounts
    assert (state.newest_call, state.inserted) == (NOW - timedelta(minutes=3), 4)


def test_the_board_keeps_what_it_knows_of_accounts_that_stay() -> None:
    """A new configuration forgets only accounts that are gone."""
    activity = Activity(lambda: NOW)
    activity.reset(["a", "b"])
    activity.publish("a", phase=Phase.IDLE, high_water_uid=7)
    activity.publish("gone", phase=Phase.IDLE)
    activity.reset(["c", "a"])
    assert [(s.name, s.high_water_uid) for s in activity.snapshot().accounts] == [("c", None), ("a", 7)]


def test_metrics_have_the_names_that_alerts_and_dashboards_use() -> None:
    """And no label that could carry a caller's number."""
    activity = Activity(lambda: NOW)
    activity.reset(["default"])
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
    metrics.request_done("default", seconds=0.2, size=1000, outcome="ok")
    metrics.failed("default", "LoginRefused")
    metrics.rejects_open("default", 2)
    metrics.audited("default", gaps=1, at=NOW.timestamp())
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
        'cdrsync_api_request_seconds_count{account="default"}': "1.0",
        'cdrsync_api_request_seconds_sum{account="default"}': "0.2",
        'cdrsync_api_bytes_total{account="default"}': "1000.0",
        'cdrsync_rejects_open{account="default"}': "2.0",
        'cdrsync_gaps{account="default"}': "1.0",
        'cdrsync_last_audit_timestamp_seconds{account="default"}': "1.716453e+09",
        'cdrsync_doorbells_total{outcome="accepted"}': "1.0",
    }


@pytest.mark.parametrize("outcome", ["accepted", "refused", "limited"])
def test_doorbells_are_counted_by_outcome(outcome: str) -> None:
    """A flood of wrong tokens shows."""
    metrics = Metrics(Activity())
    metrics.doorbell(outcome)
    assert metrics.registry.get_sample_value("cdrsync_doorbells_total", {"outcome": outcome}) == 1
