"""The daemon's parts by themselves: backoff and the timetable."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdrsync.config import Inputs, load
from cdrsync.daemon.backoff import DATABASE_PAUSE, LONGEST_PARKED_PAUSE, LONGEST_PAUSE, LONGEST_WISH, Backoff
from cdrsync.daemon.recovery import Recovery
from cdrsync.daemon.tasks import NEVER, Task, Timetable, place
from cdrsync.errors import LoginRefused
from cdrsync.monitor.activity import AccountState, Activity
from cdrsync.monitor.metrics import Metrics
from tests.support.canary import LOGIN
from tests.support.clock import Clock

NOW = datetime(2024, 5, 23, 8, 30, tzinfo=UTC)


def backoff(clock: Clock) -> Backoff:
    return Backoff(clock.seconds, jitter=lambda: 1.0)


# ── backoff ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_pauses_double_up_to_a_minute() -> None:
    """An hour's outage costs some sixty tries."""
    clock = Clock()
    found = backoff(clock)
    pauses = []
    for _ in range(9):
        found.fail(Task.POLL, "ApiUnreachable")
        pauses.append(found.wait(Task.POLL))
        clock.advance(pauses[-1])
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_the_operators_own_wish_is_honoured() -> None:
    """Retry-After may be longer than our pause."""
    found = backoff(Clock())
    found.fail(Task.POLL, "ApiUnreachable", at_least=120)
    assert found.wait(Task.POLL) == 120


def test_a_kind_of_failure_is_news_once() -> None:
    """Whichever task meets it; again only after everything was well."""
    found = backoff(Clock())
    assert found.fail(Task.BACKFILL, "ApiUnreachable") is True
    assert found.fail(Task.POLL, "ApiUnreachable") is False
    assert found.fail(Task.POLL, "BadAnswer") is True
    assert found.succeed(Task.POLL) is None
    assert found.fail(Task.POLL, "ApiUnreachable") is False
    found.succeed(Task.POLL)
    found.succeed(Task.BACKFILL)
    assert found.fail(Task.POLL, "ApiUnreachable") is True


def test_what_failed_before_a_reload_is_told_no_longer_than_it_fails() -> None:
    """A password is mended and SIGHUP sent: the page's trouble ends with the new worker's first poll, not never."""
    activity = Activity()
    activity.reset([AccountState("main")])
    before, after = (Recovery("main", activity, Metrics(activity)) for _ in range(2))
    before.after(Task.POLL, LoginRefused("the operator refused the login"))
    after.succeeded(None)
    assert activity.snapshot().accounts[0].last_error_kind == "LoginRefused"  # nobody has asked the operator yet
    after.succeeded(Task.POLL)
    assert activity.snapshot().accounts[0].last_error is None


def test_the_end_of_the_last_trouble_is_told_with_its_length() -> None:
    """`recovered after_seconds=…`."""
    clock = Clock()
    found = backoff(clock)
    found.fail(Task.POLL, "ApiUnreachable")
    clock.advance(3600)
    assert found.succeed(Task.SWEEP) is None
    assert found.succeed(Task.POLL) == 3600
    assert found.succeed(Task.POLL) is None
    assert not found


def test_while_polling_fails_nothing_else_is_tried() -> None:
    """It would fail alike, and ask more of a troubled server."""
    clock = Clock()
    found = backoff(clock)
    found.fail(Task.POLL, "ApiUnreachable")
    assert found.wait(Task.POLL) == 1
    assert [found.at(task) for task in Task if task is not Task.POLL] == [NEVER] * 4
    found.succeed(Task.POLL)
    assert [found.at(task) for task in Task] == [0.0] * 5


def test_a_failing_sweep_does_not_stop_the_polls() -> None:
    """Only itself, for a while."""
    found = backoff(Clock())
    found.fail(Task.SWEEP, "InternalError")
    assert [task for task in Task if found.wait(task)] == [Task.SWEEP]


def test_a_refused_poll_waits_for_its_next_time_and_stops_nothing() -> None:
    """A Skip: the others go on."""
    found = backoff(Clock())
    found.fail(Task.POLL, "RequestRefused", passing=False)
    assert [found.wait(task) for task in Task] == [0] * 5


@given(st.lists(st.sampled_from(Task), min_size=1, max_size=60))
def test_no_pause_is_longer_than_a_minute(failures: list[Task]) -> None:
    """However often it fails."""
    clock = Clock()
    found = backoff(clock)
    for task in failures:
        found.fail(task, "X")
        assert min(found.wait(task), found.wait(Task.POLL)) <= LONGEST_PAUSE


def test_pauses_for_ones_own_database_end_at_five_seconds() -> None:
    """It bears more than the operator's server."""
    found = backoff(Clock())
    for _ in range(9):
        found.fail(None, "DatabaseUnavailable")
    assert found.wait(None) == DATABASE_PAUSE == 5


def test_of_a_long_wish_a_quarter_of_an_hour_is_believed_and_a_person_need_not_wait() -> None:
    """`Retry-After: 999999999` would silence the account for 31 years."""
    found = backoff(Clock())
    found.fail(Task.POLL, "ApiUnreachable", at_least=999999999)
    assert found.wait(Task.POLL) == LONGEST_WISH == 900
    found.hurry()
    assert found.wait(Task.POLL) == 0


def test_a_refused_login_is_tried_again_ever_more_rarely() -> None:
    """Half an hour, doubled up to a day; told once; from the beginning after a success."""
    found = backoff(Clock())
    tries = [found.park(Task.POLL, "LoginRefused") for _ in range(8)]
    assert [news for news, _ in tries] == [True] + [False] * 7
    assert [seconds / 3600 for _, seconds in tries] == [0.5, 1, 2, 4, 8, 16, 24, 24]
    assert tries[-1][1] == LONGEST_PARKED_PAUSE
    found.succeed(Task.POLL)
    assert found.park(Task.POLL, "LoginRefused") == (True, 1800)


# ── the timetable ──────────────────────────────────────────────────────────────────────────────────────────────────


class Times:
    """A timetable on clocks that a test moves, each by itself."""

    def __init__(self, *, alone: bool = True, audited_at: datetime | None = NOW, **keys: str) -> None:
        login = {"USERNAME": LOGIN.username, "PASSWORD": LOGIN.password, "VKEY": LOGIN.vkey}
        environ = {f"CDRSYNC_{name}": value for name, value in {**login, **keys}.items()}
        (account,) = load(Inputs(environ=environ)).accounts
        self.clock = Clock()
        self.wall = NOW
        self.table = Timetable(account, alone=alone, clock=self.clock.seconds, wall=lambda: self.wall)
        self.table.begin(audited_at)

    def due(self) -> list[Task]:
        return [task for task in Task if self.table.at(task) <= self.clock.seconds()]

    def do(self, task: Task) -> float:
        """Do a task; the seconds until it is due again."""
        self.table.begun(task)
        return self.table.at(task) - self.clock.seconds()


def test_everything_may_be_due_at_the_start() -> None:
    """But what the configuration switches off, and an audit that was made."""
    assert Times().due() == [Task.POLL, Task.LOOKBACK, Task.BACKFILL, Task.SWEEP]
    assert Times(LOOKBACK_INTERVAL="0", SWEEP_DAYS="0").due() == [Task.POLL, Task.BACKFILL]


def test_a_poll_that_takes_longer_than_its_interval_leaves_time_for_others() -> None:
    """Half of what it took, and never more than an interval; a quick one changes nothing."""
    times = Times()
    for took, rest in ((90.0, 45.0), (600.0, 60.0)):
        times.do(Task.POLL)
        times.clock.advance(took)
        assert times.due()[0] is Task.POLL
        times.table.ended(Task.POLL)
        assert times.table.at(Task.POLL) - times.clock.seconds() == pytest.approx(rest)
        times.clock.set(times.table.at(Task.POLL))
    due = times.clock.seconds() + times.do(Task.POLL)
    times.clock.advance(1.0)
    times.table.ended(Task.POLL)
    assert times.table.at(Task.POLL) == due


def test_an_interval_is_kept_in_the_accounts_own_place() -> None:
    """However late a poll was: many accounts never come to ask at once."""
    times = Times()
    assert 60 * 0.1 < times.do(Task.POLL) <= 60 * 1.1
    for late in (0.0, 3.0, 200.0):
        times.clock.set(times.table.at(Task.POLL) + late)
        assert times.due()[0] is Task.POLL
        times.do(Task.POLL)
        assert times.table.at(Task.POLL) % 60 == pytest.approx(place("default") * 60)
        assert 6 < times.table.at(Task.POLL) - times.clock.seconds() <= 66


@pytest.mark.parametrize("step", [timedelta(hours=s) for s in (-87600, -24, -1, 1, 24, 87600)])
def test_a_step_of_the_wall_clock_moves_no_poll(step: timedelta) -> None:
    """An hour, a day, ten years, either way."""
    times = Times()
    wait = times.do(Task.POLL)
    times.wall += step
    assert times.table.at(Task.POLL) == times.clock.seconds() + wait
    assert times.table.next_runs()["poll"] == times.wall + timedelta(seconds=wait)


def test_marked_tasks_are_due_at_once_and_once() -> None:
    """A doorbell; before the timetable has begun it waits for nothing."""
    times = Times()
    for task in Task:
        times.do(task)
    assert times.due() == []
    times.table.mark(Task.POLL, Task.AUDIT)
    times.table.mark(Task.POLL)
    assert times.due() == [Task.POLL, Task.AUDIT]
    times.do(Task.POLL)
    times.do(Task.AUDIT)
    assert times.due() == []


@pytest.mark.parametrize(
    ("last", "due"),
    [
        (None, True),  # never
        (NOW - timedelta(days=4), True),  # the machine was off at audit_time
        (datetime(2024, 5, 23, 3, 29, tzinfo=UTC), True),  # the minute before today's
        (datetime(2024, 5, 23, 3, 31, tzinfo=UTC), False),
        (NOW + timedelta(days=3650), True),  # the clock was ahead when that was written
    ],
)
def test_a_missed_audit_is_made_up_once(last: datetime | None, *, due: bool) -> None:
    """audit_time is 04:30 in London, now is 09:30 there."""
    times = Times(audited_at=last)
    assert (Task.AUDIT in times.due()) is due
    times.do(Task.AUDIT)
    assert Task.AUDIT not in times.due()
    assert times.table.next_runs()["audit"].astimezone(ZoneInfo("Europe/London")).time() == time(4, 30)


@pytest.mark.parametrize("last", [None, NOW - timedelta(days=4), NOW + timedelta(days=3650)])
def test_a_missed_audit_was_due_before_anybody_looked(last: datetime | None) -> None:
    """One that is due by the clock of the look itself would never be due for who has read the clock before."""
    times = Times(audited_at=last)
    times.clock.tick = 1e-6
    before = times.clock.seconds()
    assert times.table.at(Task.AUDIT) < before


def test_the_audit_follows_the_wall_clock_wherever_it_steps() -> None:
    """Due when the day's time has come, once; and once where the last one turns out to be of a clock that was ahead."""
    times = Times()
    audits = []
    for hours in (0, 24, -24, 3, 24, 87600, -87600, 2, 24):
        times.wall += timedelta(hours=hours)
        times.clock.advance(400)
        if Task.AUDIT in times.due():
            audits.append(hours)
            times.do(Task.AUDIT)
    assert audits == [24, -24, 24, 87600, -87600, 24]


def test_audits_of_many_accounts_are_spread_over_an_hour() -> None:
    """By the account's name."""
    at = Times(alone=False).table.next_runs()["audit"].astimezone(ZoneInfo("Europe/London"))
    assert at.replace(hour=4, minute=30, second=0, microsecond=0) <= at
    assert at - at.replace(hour=4, minute=30, second=0, microsecond=0) == pytest.approx(
        timedelta(hours=place("default")), abs=timedelta(seconds=1)
    )


def test_places_are_spread() -> None:
    """A thousand accounts leave no sixth of an interval without its share."""
    sixths = [int(place(f"account{n}") * 6) for n in range(1000)]
    assert min(sixths.count(n) for n in range(6)) > 120
