"""The whole way from the operator to the table, under each answer to what the operator leaves open.

Every test ends in the same comparison: the table against the sandbox's own records, value by value. Some 300 records
each, over many small pages; `CATCH_UP_RECORDS=30000` in the environment makes it more.
"""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select

from cdrsync.errors import DatabaseUnavailable
from cdrsync.model import Origin
from cdrsync.store.schema.tables import cdr, cdr_change, reject
from cdrsync.sync.steps import Sync
from cdrsync.sync.streams import Stream
from tests.support.operator import Fault, Settings
from tests.support.rig import rig

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cdrsync.model import Page
    from tests.conftest import Database
    from tests.support.rig import Rig

RECORDS = int(os.environ.get("CATCH_UP_RECORDS", "300"))
PAGE = 40  # so that each day has several
HOUR = 3600
DAY = 24 * HOUR

UNKNOWN = {
    "as the page prints it": Settings(),
    "newest day and call first": Settings(date_order="descending"),
    "EndDate not included": Settings(end_date_included=False),
    "EndDate not included, newest first": Settings(end_date_included=False, date_order="descending"),
    "a smaller limit than asked": Settings(limit_clamp=37),
    "a smaller limit, newest first": Settings(limit_clamp=37, date_order="descending", end_date_included=False),
    "tail shuffled": Settings(last_id_order="shuffled"),
    "tail descending": Settings(last_id_order="descending"),
    "tail newest page first": Settings(last_id_order="newest-first"),
    "tail newest page first, a smaller limit": Settings(last_id_order="newest-first", limit_clamp=11),
    "empty page as one tag": Settings(empty_page="self-closing"),
    "empty page without CDRs": Settings(empty_page="absent"),
    "flags absent": Settings(absent_flags_share=0.9),
    "hostile texts": Settings(hostile_share=0.2, unknown_elements_share=0.2),
    "records that can't be typed": Settings(untypeable_share=0.1),
}


IN_THE_ROWS = {  # what reaches the database; in which order and how many at a time pages come does not
    "as the page prints it",
    "flags absent",
    "hostile texts",
    "records that can't be typed",
}


def days_held(r: Rig) -> int:
    with r.engine.connect() as connection:
        return int(connection.scalar(select(func.count(func.distinct(cdr.c.call_date)))) or 0)


def live(r: Rig, seconds: float, *, steps: int) -> None:
    """Let time pass, with a run after each step of it."""
    for _ in range(steps):
        r.clock.advance(seconds / steps)
        r.run()


def equal(database: Database, operator: Settings) -> None:
    """History at once; then two hours of new calls in two runs; a run more finds nothing to do."""
    with rig(database.url, operator, calls=RECORDS, days=3, page_size=PAGE) as r:
        r.run()
        assert r.assert_equal() == sum(call.raw is None for call in r.world.records())
        r.world.configure(rate=0.02)
        live(r, 2 * HOUR, steps=2)
        r.world.configure(rate=0)
        r.run()
        unreadable = sum(call.raw is not None for call in r.world.records())
        assert r.assert_equal() == len(r.world.records()) - unreadable > RECORDS * 0.85
        with r.engine.connect() as connection:
            assert connection.scalar(select(func.count()).select_from(reject)) == unreadable
        assert r.run() == 0


@pytest.mark.parametrize("setting", sorted(IN_THE_ROWS))
def test_equal_on_each_database(migrated: Database, setting: str) -> None:
    equal(migrated, UNKNOWN[setting])


@pytest.mark.parametrize("migrated", ["sqlite"], indirect=True)
@pytest.mark.parametrize("setting", [name for name in UNKNOWN if name not in IN_THE_ROWS])
def test_equal_under_every_setting_of_the_unknown(migrated: Database, setting: str) -> None:
    equal(migrated, UNKNOWN[setting])


MOVING = Settings(
    rate=0.1,
    latency=1.5,
    late_share=0.1,
    late_delay=(5.0, 2.0 * HOUR),
    change_share=0.1,
    change_delay=(10.0, 20.0 * HOUR),
    limit_clamp=25,
    end_date_included=False,
)


def moving(database: Database, operator: Settings) -> None:
    """Calls arrive while each answer is on its way; some are late, some change: in the end nothing differs."""
    with rig(database.url, operator, calls=RECORDS // 2, days=3) as r:
        r.run()
        live(r, HOUR, steps=2)
        r.world.configure(rate=0, late_share=0, change_share=0)
        r.clock.advance(DAY)
        r.run()  # with the daily sweep
        counters = r.world.counters()
        assert counters["visible"] == counters["issued"] == r.assert_equal()
        assert min(counters[name] for name in ("live", "late", "appeared_later", "changed")) > 0
        assert r.run() == 0


def test_arrivals_late_and_changed_records_while_pages_are_read(migrated: Database) -> None:
    """On each database, in the order that is hardest to read: newest first, uids handed out when calls begin."""
    hardest = replace(MOVING, date_order="descending", last_id_order="newest-first", appear="at-start")
    moving(migrated, hardest)


@pytest.mark.parametrize("migrated", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("appear", "by_date", "by_last_id"),
    [
        ("at-end", "ascending", "ascending"),
        ("at-end", "descending", "shuffled"),
        ("at-end", "ascending", "descending"),
        ("at-end", "descending", "newest-first"),
        ("at-start", "descending", "ascending"),
        ("at-start", "ascending", "shuffled"),
        ("at-start", "descending", "descending"),
        ("at-start", "ascending", "newest-first"),
    ],
)
def test_arrivals_in_every_order(migrated: Database, appear: Any, by_date: Any, by_last_id: Any) -> None:
    """All orders in which pages may come and uids may be handed out, each with each order of the other kind."""
    moving(migrated, replace(MOVING, date_order=by_date, last_id_order=by_last_id, appear=appear))


@pytest.mark.parametrize(
    ("delay", "seen_after", "by"),
    [(30, 2 * HOUR, "look-back"), (1.5 * HOUR, 2 * HOUR, "look-back"), (30 * HOUR, 2 * DAY, "sweep")],
)
def test_a_late_record_is_picked_up_within_its_horizon(
    migrated: Database, delay: float, seen_after: float, by: str
) -> None:
    """Visible seconds or hours after higher ids: the look-back finds it; days after: the daily sweep."""
    with rig(migrated.url, calls=300, days=2) as r:
        late = r.world.add_late(delay, duration=62)
        r.run()
        above = r.world.add()
        r.run("poll")
        assert above.uid > late.uid
        live(r, seen_after, steps=12 if by == "look-back" else 4)
        assert r.assert_equal() == 302


@pytest.mark.parametrize("age", [HOUR, 3 * DAY])
def test_a_changed_record_is_picked_up_with_its_history(migrated: Database, age: int) -> None:
    """Re-rated within the look-back or within the days of the sweep: the new value, and what it was before."""
    with rig(migrated.url, calls=300, days=4) as r:
        old = r.world.add(started=int(r.clock.seconds()) - age, duration=62, user_cost=Decimal("0.100"))
        r.run()
        r.world.change(old.uid, user_cost=Decimal("0.123"))
        live(r, 1.9 * HOUR if age == HOUR else 1.5 * DAY, steps=8)
        assert r.assert_equal() == 301
        with r.engine.connect() as connection:
            rows = connection.execute(select(cdr_change.c.uid, cdr_change.c.column_name)).all()
        assert [tuple(row) for row in rows] == [(old.uid, "user_cost")]


def test_a_first_run_that_was_cut_off_does_not_count_as_look_back_and_sweep(migrated: Database) -> None:
    """What the killed one had read already may have changed, or been joined by late records, before the next run."""
    with rig(migrated.url, calls=300, days=2, page_size=20) as r:
        late = r.world.add_late(HOUR, started=int(r.clock.seconds()) - DAY // 2, duration=62)
        r.world.add()  # with a higher uid, and at once
        for saved in r.sync.catch_up():
            if saved.high_water_uid is not None:
                break  # killed when the newest calls were read
        yesterday, today = r.world.records()[100], r.world.records()[-1]
        r.run("backfill")
        for old in (yesterday, today):
            r.world.change(old.uid, user_cost=Decimal("0.123"))
        r.clock.advance(5 * HOUR)
        r.run()
        assert late.uid < today.uid
        assert r.assert_equal() == 302


@pytest.mark.parametrize("migrated", ["sqlite"], indirect=True)
@pytest.mark.parametrize("ended", ["killed", "failed"])
def test_an_answer_that_an_earlier_run_did_not_save_proves_nothing(migrated: Database, ended: str) -> None:
    """A run that ends early has asked for pages ahead. One of them may come once more, as if it were the next one."""
    with rig(migrated.url, calls=RECORDS, days=3, page_size=5) as r:
        r.run()
        for _ in range(20):
            r.world.add()
        failures = [DatabaseUnavailable("it went away")]

        def failing_once(streams: Sequence[Iterator[Page]]) -> Iterator[Page]:
            asked = [page for stream in streams for page in stream]
            if failures:
                raise failures.pop()
            yield from asked

        failed = Sync(r.source, r.store, r.settings, clock=r.clock, read_ahead=failing_once)
        with pytest.raises(DatabaseUnavailable):
            list(failed.poll())
        r.world.faults.script(Fault.REPEATED_PAGE)
        list((r.under().sync if ended == "killed" else failed).poll())
        assert r.world.faults.fired[Fault.REPEATED_PAGE] == 1
        r.assert_equal()


def test_no_call_today(migrated: Database) -> None:
    """The newest calls are days old: found step by step into the past, and the tail goes on from there."""
    with rig(migrated.url, now="2024-05-20T12:00:00+01:00", calls=200, days=2, start=date(2024, 5, 1)) as r:
        r.clock.set("2024-05-23T12:00:00+01:00")
        r.run()
        checkpoint = r.store.checkpoint(Stream.TAIL)
        assert checkpoint is not None
        assert checkpoint.high_water_uid == r.world.records()[-1].uid
        r.world.add()
        r.run("poll")
        assert r.assert_equal() == 201


def test_an_empty_account(migrated: Database) -> None:
    """Nothing, run after run, then the first call ever."""
    with rig(migrated.url) as r:
        for _ in range(3):
            assert r.run() == 0
            r.clock.advance(HOUR)
        r.world.add()
        assert r.run() == 1
        assert r.assert_equal() == 1


@pytest.mark.parametrize("seconds", [1, 3, 6, 10])
def test_midnight_during_a_bootstrap(migrated: Database, seconds: int) -> None:
    """The day changes between two pages of the first read, with calls before, over and after midnight."""
    operator = Settings(latency=1.0, rate=1.0, end_date_included=False, date_order="descending")
    with rig(migrated.url, operator, now="2024-05-22T23:59:30+01:00", calls=500, days=1, start=date(2024, 5, 21)) as r:
        r.clock.advance(30 - seconds)
        r.run()
        r.world.configure(rate=0)
        r.clock.advance(HOUR)
        r.run()
        assert r.assert_equal(since=date(2024, 5, 21)) == len(r.world.records())


def test_today_is_the_day_of_the_first_poll(migrated: Database) -> None:
    """With start_date "today" nothing older is asked for, and that day stays complete after midnight."""
    with rig(migrated.url, now="2024-05-22T23:59:50+01:00", calls=500, days=2, start="today") as r:
        r.run()
        r.world.add(started=int(r.clock.seconds()), duration=5)
        r.clock.advance(HOUR)
        r.run()
        assert days_held(r) == 1
        assert r.assert_equal(since=date(2024, 5, 22)) > 100


def test_repeated_runs_from_the_start_write_nothing(migrated: Database) -> None:
    """All days read again and again: every row unchanged."""
    with rig(migrated.url, calls=RECORDS, days=3) as r:
        r.run()
        for _ in range(2):
            saved = list(
                r.sync.read_days([r.sync.position.today() - timedelta(days=n) for n in range(4)], Origin.SWEEP)
            )
            assert sum(one.inserted + one.updated for one in saved) == 0
            assert sum(one.unchanged for one in saved) >= RECORDS
        assert r.assert_equal() == RECORDS
