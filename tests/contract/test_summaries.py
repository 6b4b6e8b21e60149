"""Whatever is saved, changed, erased, healed or summed, in whatever order: every view says what the calls say."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, insert, select, update

from cdrsync.store import forgetting, numbering, summaries
from cdrsync.store.admin import migrate
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.numbering import classify
from cdrsync.store.schema import tables
from tests.support.clock import NOW
from tests.support.examples import FIRST, page
from tests.support.eyes import Eyes, seen
from tests.support.stores import OwnStore
from tests.support.two_accounts import CALLERS, DAYS, NUMBERS, TwoAccounts, disagreements

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cdrsync.store.spelling import NumberFacts
    from tests.conftest import Database


@pytest.fixture(params=range(2))
def accounts(request: pytest.FixtureRequest, migrated: Database, eyes: Eyes) -> Iterator[TwoAccounts]:
    made = TwoAccounts(migrated.url, eyes.engine, request.param)
    yield made
    made.close()


def test_views_agree_with_the_calls_at_every_moment(accounts: TwoAccounts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saves, changes, erasures, retention, heals, new numbering rules and summing, at random, in two accounts.

    Summing comes seldom to its end: some days and some months are summed, others not.
    """
    monkeypatch.setattr(summaries, "DAYS_AT_ONCE", 40)
    monkeypatch.setattr(summaries, "MONTHS_AT_ONCE", 2)
    done: list[str] = []
    for store in accounts.stores:
        accounts.save(store, map(accounts.call, range(1, 100)))
    for _ in range(20):
        done.append(accounts.step(accounts.random.choice(accounts.stores)))
        assert disagreements(accounts.engine) == [], done
    for store in accounts.stores:
        while store.sum_days(look=True):
            pass
    assert disagreements(accounts.engine) == [], done
    with accounts.engine.connect() as connection:
        assert connection.scalar(select(tables.coverage.c.calls).where(~tables.coverage.c.summed).limit(1)) is None
        left = connection.execute(select(tables.coverage.c.call_date).where(~tables.coverage.c.in_month)).scalars()
        assert len(summaries.months_of(left)) == 1  # the newest


def test_views_agree_while_an_account_is_forgotten(
    migrated: Database, eyes: Eyes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its calls go piece by piece; with each its days and months leave the summary."""
    monkeypatch.setattr(forgetting, "PIECE", 80)
    accounts = TwoAccounts(migrated.url, eyes.engine, 4)
    for store in accounts.stores:
        accounts.save(store, map(accounts.call, range(1, 200)))
        while store.sum_days():
            pass
    found: list[str] = []
    accounts.stores[0].forget(lambda _: found.extend(disagreements(eyes.engine)))
    assert found + disagreements(eyes.engine) == []
    accounts.close()


def test_a_month_is_read_as_a_month(migrated: Database, eyes: Eyes) -> None:
    """Totals of all years come from months, but for the newest; who changes a day takes its month away."""
    store = OwnStore(migrated.url, "main")
    store.open()
    later = FIRST._replace(
        uid=FIRST.uid + 1,
        ref="",
        call_date=FIRST.call_date + timedelta(days=40),
        started_at=FIRST.started_at + timedelta(days=40),
    )
    store.save(page(FIRST, later))
    while store.sum_days():
        pass
    with eyes.engine.begin() as connection:
        of_months = tables.call_day.c.split == summaries.BY_MONTH
        connection.execute(update(tables.call_day).where(of_months).values(calls=70))
    calls = "SELECT calls FROM numbers"
    assert [row["calls"] for row in seen(eyes.engine, calls)] == [71]
    store.save(page(later._replace(duration=1)))  # of the newest month: the older one is as it was
    assert [row["calls"] for row in seen(eyes.engine, calls)] == [71]
    store.save(page(FIRST._replace(duration=1)))
    assert [row["calls"] for row in seen(eyes.engine, calls)] == [2]
    while store.sum_days():
        pass
    store.close()
    assert [row["calls"] for row in seen(eyes.engine, calls)] == [2]
    with eyes.engine.connect() as connection:
        assert connection.execute(select(tables.call_day.c.calls).where(of_months)).scalars().all() == [1]


def test_days_that_are_summed_are_not_counted_again(migrated: Database, eyes: Eyes) -> None:
    """The views read the summary: a figure changed behind its back shows."""
    store = OwnStore(migrated.url, "main")
    store.open()
    store.save(page(FIRST))
    store.sum_days()
    store.close()
    with eyes.engine.begin() as connection:
        connection.execute(update(tables.call_day).values(calls=77))
    for view in ("calls_daily", "calls_hourly", "numbers_daily", "destinations_daily", "numbers"):
        assert [row["calls"] for row in seen(eyes.engine, f"SELECT calls FROM {view}")] == [77], view


def test_rules_that_say_the_same_leave_the_summary(migrated: Database, eyes: Eyes) -> None:
    """Another edition of the numbering rules: only one that says otherwise has destinations counted anew."""
    store = OwnStore(migrated.url, "main", classify=classify)
    store.open()
    store.save(page(FIRST))
    store.sum_days()
    store.close()
    days = select(tables.coverage.c.numbering == tables.account.c.numbering, tables.coverage.c.summed)
    here = days.where(tables.coverage.c.account_id == tables.account.c.id)
    for version, kind, left in (("same", None, True), ("others", "a new kind", False)):

        def edition(number: str, version: str = version, kind: str | None = kind) -> NumberFacts:
            facts = classify(number)
            return facts._replace(rules_version=version, kind=kind or facts.kind)

        assert numbering.refresh(eyes.engine, edition, version) > 0
        with eyes.engine.connect() as connection:
            assert connection.execute(here).all() == [(left, True)]
        assert disagreements(eyes.engine) == []


@pytest.mark.parametrize("seed", range(3))
def test_views_are_right_between_any_two_transactions_of_new_numbering_rules(
    migrated: Database, eyes: Eyes, seed: int
) -> None:
    """New rules come in batches; before each the views are looked at, and some days are summed, or a call changes."""
    accounts = TwoAccounts(migrated.url, eyes.engine, seed)
    for store in accounts.stores:
        accounts.save(store, map(accounts.call, range(1, 150)))
        while store.sum_days(look=True):
            pass
    found: list[str] = []
    asked = 0

    def edition(number: str) -> NumberFacts:
        nonlocal asked
        asked += 1
        if asked % 2:  # each batch has two: this is between their transactions
            store = accounts.random.choice(accounts.stores)
            if accounts.random.random() < 0.7:
                store.sum_days(look=True)
            else:
                accounts.save(store, [accounts.call(accounts.random.randrange(1, 150))])
            found.extend(disagreements(eyes.engine))
        return accounts.facts(number, "other")

    accounts.rules = 1
    assert numbering.refresh(eyes.engine, edition, "other", batch=2) >= len(CALLERS) + len(NUMBERS)
    assert found + disagreements(eyes.engine) == []
    for store in accounts.stores:
        while store.sum_days(look=True):
            pass
    assert disagreements(eyes.engine) == []
    with eyes.engine.connect() as connection:
        due = [
            summaries.is_due(connection, account_id) for account_id in connection.scalars(select(tables.account.c.id))
        ]
    assert due == [False, False]
    accounts.close()


def test_who_sums_while_kinds_change_says_so(migrated: Database, eyes: Eyes) -> None:
    """A transaction that began with the kinds of before ends after those of the new rules: its sums do not count."""
    store = OwnStore(migrated.url, "main", classify=classify)
    store.open()
    store.save(page(FIRST._replace(dialled="447512345678")))
    edition = lambda number: classify(number)._replace(kind="a new kind", rules_version="other")  # noqa: E731
    with ThreadPoolExecutor(1) as others:
        with store._session.transaction() as connection:
            assert summaries.sum_days(connection, store._session.account_id) is False
            refreshed = others.submit(numbering.refresh, eyes.engine, edition, "other")
            wait([refreshed], 0.5)  # PostgreSQL lets it go first; the others have it wait
        assert refreshed.result() > 0
    assert disagreements(eyes.engine) == []
    assert [row["destination_kind"] for row in seen(eyes.engine, "SELECT * FROM destinations_daily")] == ["a new kind"]
    store.close()


def test_nothing_is_summed_twice_or_lost_beside_who_erases(migrated: Database, eyes: Eyes) -> None:
    """The daemon sums while another process erases: whatever they interleave, the views are right afterwards."""
    accounts = TwoAccounts(migrated.url, eyes.engine, 1)
    store = accounts.stores[0]
    accounts.save(store, map(accounts.call, range(1, 600)))
    failures: list[BaseException] = []
    every_day = [FIRST.call_date + timedelta(days=n) for n in range(DAYS)]

    def erase() -> None:
        try:
            for caller in CALLERS[:3]:
                accounts.eraser(store).erase_number(caller or "")
            for _ in accounts.eraser(store).prune(FIRST.call_date + timedelta(days=20), "delete"):
                pass
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            failures.append(error)

    erasing = threading.Thread(target=erase)
    erasing.start()
    while erasing.is_alive():
        with store._session.transaction() as connection:  # as if a page had come: there is always something to sum
            summaries.mark(connection, store._session.account_id, every_day)
        store._summed = False
        store.sum_days()
        erasing.join(0.02)  # as long as a page takes to come: SQLite gives who waits no turn by itself
    erasing.join()
    assert failures == []
    store._summed = False
    while store.sum_days():
        pass
    assert disagreements(eyes.engine) == []
    accounts.close()


def test_a_few_days_are_looked_up_by_their_days(tmp_path: Path) -> None:
    """On SQLite, without statistics: a poll sums the calls of its days, and does not look at all others."""
    engine = open_engine(f"sqlite:///{tmp_path}/calls.db")
    migrate.upgrade(engine)
    plans: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def explained(*said: Any) -> None:
        _, cursor, statement, parameters, *_ = said
        if "INSERT INTO call_day" in statement and "cdr" in statement:
            asked = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.append("; ".join(row[3] for row in asked if " cdr " in row[3]))

    with engine.begin() as connection:
        connection.execute(insert(tables.account).values(id=1, name="main", created_at=NOW))
        day = {"account_id": 1, "call_date": FIRST.call_date, "calls": 1, "duration": 1, "charge": Decimal(1)}
        connection.execute(insert(tables.coverage).values(verdict="gap", **day))
        summaries.sum_days(connection, 1)
    engine.dispose()
    assert plans == ["SEARCH cdr USING INDEX ix_cdr_day (call_date=? AND account_id=?)"] * 3
