"""Clocks that step, nights of 23 and 25 hours, and midnight: on the operator's side and on ours."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import delete, select

from cdrsync.audit.audit import Audit
from cdrsync.model import Period, Verdict, WallClock, Window
from cdrsync.store.schema.tables import cdr
from cdrsync.sync.steps import Sync
from tests.fault.fresh import fresh
from tests.fault.trouble import SQLITE
from tests.support.clock import LONDON
from tests.support.operator import Settings
from tests.support.rig import rig

if TYPE_CHECKING:
    from tests.conftest import Database
    from tests.support.rig import Rig

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
SPRING = "2024-03-31T00:30:00+00:00"  # half an hour before the clocks go forward
AUTUMN = "2024-10-27T00:30:00+01:00"  # half an hour before the first pass through the repeated hour


def step_our_clock(r: Rig, offset: float) -> Sync:
    """The same sync on a host whose clock is wrong by so many seconds."""

    def wrong() -> datetime:
        return r.clock() + timedelta(seconds=offset)

    r.store._clock = wrong
    return Sync(r.source, r.store, r.sync._settings, clock=wrong)


def run(sync: Sync) -> int:
    return sum(saved.inserted + saved.updated for saved in sync.catch_up())


@SQLITE
@pytest.mark.parametrize("offset", [-3 * DAY, -2 * HOUR, -5 * MINUTE, 5 * MINUTE, 2 * HOUR, 2 * DAY])
def test_the_hosts_clock_steps_while_it_runs(migrated: Database, offset: float) -> None:
    """Forwards, backwards, by minutes or days, and back again: nothing is lost, and nothing raises a false alarm."""
    operator = Settings(rate=0.01, late_share=0.1, late_delay=(5.0, HOUR), end_date_included=False)
    with rig(migrated.url, operator, calls=300) as r:
        r.run()
        for shown in (0.0, offset, offset, 0.0):
            r.clock.advance(20 * MINUTE)
            run(step_our_clock(r, shown))
        r.world.configure(rate=0)
        for _ in range(9):
            r.clock.advance(10 * MINUTE)
            run(step_our_clock(r, 0.0))
        assert r.assert_equal() == len(r.world.records()) > 300


@SQLITE
@pytest.mark.parametrize("offset", [-2 * DAY, -HOUR, HOUR, 2 * DAY])
def test_the_first_run_ever_on_a_host_whose_clock_is_wrong(migrated: Database, offset: float) -> None:
    """The newest calls are found all the same; once the clock is right, so is the table."""
    with rig(migrated.url, calls=300) as r:
        run(step_our_clock(r, offset))
        r.world.add()
        r.clock.advance(DAY + HOUR)
        run(step_our_clock(r, 0.0))
        assert r.assert_equal() == 301


@pytest.mark.parametrize("migrated", ["sqlite", "postgresql", "mariadb"], indirect=True)
@pytest.mark.parametrize("days", [3, 4000])
def test_history_read_under_a_clock_that_was_ahead_stays_read(migrated: Database, days: int) -> None:
    """What is read again is not unread since a moment to come, and a backfill reads all that it is told to."""
    with rig(migrated.url, calls=300, days=9, sweep_days=5) as r:
        run(step_our_clock(r, days * DAY))
        sync = step_our_clock(r, 0.0)
        for _ in range(3):
            r.clock.advance(DAY + HOUR)
            run(sync)
            assert sync.position.history().complete
            assert sync.position.pending_days() == []
        window = Window(r.clock().date() - timedelta(days=9), r.clock().date() - timedelta(days=6))
        assert sum(saved.unchanged for saved in sync.backfill(window)) > 30
        assert r.assert_equal() == 300


@SQLITE
@pytest.mark.parametrize("days", [-365, -7, -1, 1, 7, 365])
def test_an_audit_on_a_host_whose_clock_is_days_off(migrated: Database, days: int) -> None:
    """The operator's day is another one: what is compared with it is no gap, and a call that is missing still is."""
    with rig(migrated.url, calls=300) as r:
        r.run()
        sync = step_our_clock(r, days * DAY)
        r.source._exchange._clock = sync._clock
        audit = Audit(r.source, r.ledger, sync.position, timezone=LONDON, page_size=100)
        report = audit.run(list(Period))
        assert (report.gaps, report.proven) == ([], True)
        (day,) = audit.run([Period.DAY]).findings
        assert day.verdict is Verdict.UNAUDITED
        assert "the operator's clock says 2024-05-23, this machine's" in day.problem
        with r.engine.begin() as connection:
            connection.execute(delete(cdr).where(cdr.c.uid == r.world.records()[0].uid))
        assert not audit.run([Period.ALL]).clean


@pytest.mark.parametrize("night", [SPRING, AUTUMN])
@pytest.mark.parametrize(
    ("migrated", "order"),
    [("sqlite", "ascending"), ("sqlite", "descending"), ("postgresql", "descending"), ("mariadb", "ascending")],
    indirect=["migrated"],
)
def test_the_nights_when_the_clocks_change(migrated: Database, night: str, order: str) -> None:
    """Three hours of arrivals across the change, then the days read again: every `started_at` is the true instant."""
    operator = Settings(rate=0.02, date_order="ascending" if order == "ascending" else "descending")
    with rig(migrated.url, operator, now=night, calls=200, days=2) as r:
        for _ in range(12):
            r.run()
            r.clock.advance(15 * MINUTE)
        r.world.configure(rate=0)
        r.clock.advance(DAY)
        r.run()
        assert r.assert_equal() == len(r.world.records()) > 300
        with r.engine.connect() as connection:
            marks = set(connection.execute(select(cdr.c.wall_clock)).scalars())
        repeated = {WallClock.REPEATED_FIRST.value, WallClock.REPEATED_SECOND.value}
        assert marks == ({None} if night == SPRING else {None, *repeated})


@SQLITE
@pytest.mark.parametrize("latency", [1.0, 2.5])
@pytest.mark.parametrize("included", [True, False])
@pytest.mark.parametrize("start", ["2024-05-20", "today", "all"])
def test_midnight_anywhere_in_a_first_run(migrated: Database, latency: float, start: str, *, included: bool) -> None:
    """Each answer brings the day's end nearer, until it falls between two of them: every call is held."""
    operator = Settings(latency=latency, rate=0.5, end_date_included=included)
    first = start if start in ("today", "all") else datetime.fromisoformat(start).date()
    for seconds in (1, 4, 9):
        with (
            fresh(migrated.server) as url,
            rig(url, operator, now="2024-05-22T23:59:00+01:00", calls=200, days=1.5, start=first, page_size=30) as r,
        ):
            r.clock.advance(60 - seconds)
            since = None if start != "today" else r.sync.position.today()
            r.run()
            r.world.configure(rate=0)
            r.clock.advance(HOUR)
            r.run()
            assert r.assert_equal(since=since) > 20
