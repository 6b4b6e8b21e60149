"""The views agree with each other and with the tables, call by call and in every sum, and keep accounts apart."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from cdrsync.store.numbering import classify
from cdrsync.store.schema import tables
from tests.support.examples import FIRST, page
from tests.support.eyes import Eyes, seen
from tests.support.small_account import ANSWERED
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from cdrsync.store.save import SqlStore
    from tests.conftest import Database


def test_call_reasons_and_calls_agree(filled: SqlStore, eyes: Eyes) -> None:
    """Every published code has a provenance, and a call with it has the same label; others are unknown."""
    listed = seen(eyes.engine, "SELECT * FROM call_reasons ORDER BY column_name, code")
    assert [(row["column_name"], row["code"], row["label"]) for row in listed] == [
        ("reason", 1, "completed"),
        ("reason", 2, "unknown"),
        ("reason", 1015, "unknown"),
        ("reason_q805", 0, "unknown"),
        ("reason_q805", 1, "completed"),
        ("reason_q805", 487, "request terminated (SIP)"),
    ]
    assert all(row["provenance"] for row in listed)
    codes = [*(row["code"] for row in listed), 16, -1]
    filled.save(page(*(FIRST._replace(uid=1000 + n, reason=c, reason_q805=c) for n, c in enumerate(codes))))
    labels = {(row["column_name"], row["code"]): row["label"] for row in listed}
    for column in ("reason", "reason_q805"):
        found = seen(eyes.engine, f"SELECT {column} AS code, {column}_label AS label FROM calls WHERE uid >= 1000")
        assert [labels.get((column, row["code"]), "unknown") for row in found] == [row["label"] for row in found]


@pytest.mark.usefixtures("filled")
def test_accounts_are_apart(eyes: Eyes, migrated: Database) -> None:
    """The same uid in two accounts is a call of each, in every total."""
    other = OwnStore(migrated.url, "other", classify=classify)
    other.open()
    other.save(page(ANSWERED))
    other.close()
    for view in ("calls_daily", "calls_hourly", "numbers", "coverage_daily"):
        rows = seen(eyes.engine, f"SELECT account, SUM(calls) AS calls FROM {view} GROUP BY account ORDER BY account")
        assert [(row["account"], int(row["calls"])) for row in rows] == [("main", 5), ("other", 1)]


def test_every_aggregate_agrees_with_the_rows(filled: SqlStore, eyes: Eyes) -> None:
    """Daily, hourly and number totals, calls and the ledger add up to what the base table holds, to the last digit."""
    costs = ("0.001", "0.0075", "123.456789", "0.999999", "-0.000003")
    many = [
        FIRST._replace(
            uid=5000 + n,
            call_date=FIRST.call_date + timedelta(days=n % 40),
            started_at=FIRST.started_at + timedelta(days=n % 40),
            bnumber=f"12458301{n % 7}",
            duration=n,
            user_cost=Decimal(costs[n % 5]),
        )
        for n in range(1000)
    ]
    filled.save(page(*many))
    with eyes.engine.connect() as connection:
        rows = connection.execute(select(tables.cdr.c.duration, tables.cdr.c.user_cost)).all()
    cost = sum(row.user_cost for row in rows)
    exact = (len(rows), sum(row.duration for row in rows), f"{cost.normalize():f}", int(cost * 10**6))
    assert exact[0] == 1005
    for view in ("calls_daily", "calls_hourly", "numbers", "coverage_daily"):
        found = seen(eyes.engine, f"SELECT calls, duration, cost, cost_micros FROM {view}")
        assert exact == (
            sum(row["calls"] for row in found),
            sum(row["duration"] for row in found),
            f"{sum((Decimal(row['cost']) for row in found), Decimal(0)).normalize():f}",
            sum(row["cost_micros"] for row in found),
        )
    found = seen(eyes.engine, "SELECT duration, cost, cost_micros FROM calls")
    assert exact[1:] == (
        sum(row["duration"] for row in found),
        f"{sum((Decimal(row['cost']) for row in found), Decimal(0)).normalize():f}",
        sum(row["cost_micros"] for row in found),
    )
