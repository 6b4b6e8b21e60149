"""The summary `call_day`: what makes readers' totals quick, and never wrong.

The ledger says of each day whether the summary has it as it is (`coverage.summed`). Whoever changes a call, or what is
known of a number, says in the same transaction that it has not; the views count such a day anew. So nothing ever has to
be summed, and everything may be, by anyone, at any time.
"""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING

from sqlalchemy import Date, bindparam, delete, literal, select, text, update

from cdrsync.store.schema.tables import call_day, coverage

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import date

    from sqlalchemy import TextClause
    from sqlalchemy.engine import Connection

CALLS_AT_ONCE = 5_000
"""Of one transaction, or one day's: some hundredths of a second. Fewer are not worth the plans of their statements."""

DAYS_AT_ONCE = 200

_SUM = """
INSERT INTO call_day (account_id, split, call_date, place, {column}, {figures})
SELECT
    account_id, '{split}', call_date, ROW_NUMBER() OVER (PARTITION BY call_date ORDER BY {column}), {column}, {figures}
FROM ({{counted: {column}; {expression}; cdr {join} WHERE cdr.account_id = :account_id AND cdr.call_date IN :days}})
    AS counted
"""
_SPLITS = (
    ("hour", "call_hour", "{hour: cdr.call_time}", ""),
    ("number", "called_number", "cdr.bnumber", ""),
    (
        "destination",
        "destination_kind",
        "{destination_kind}",
        "LEFT JOIN number AS destination ON destination.number = cdr.dialled",
    ),
)
_SUM_HOURS = """
INSERT INTO call_day (account_id, split, call_date, place, {figures})
SELECT account_id, 'day', call_date, 1, {figures}
FROM (
    SELECT account_id, call_date, {{sum_of_figures}}
    FROM call_day
    WHERE account_id = :account_id AND split = 'hour' AND call_date IN :days
    GROUP BY account_id, call_date
) AS counted
"""
SPLITS = ("day", *(split for split, *_ in _SPLITS))
_KEYS = ("account_id", "split", "call_date", "place", "call_hour", "called_number", "destination_kind")
_FIGURES = ", ".join(column.name for column in call_day.columns if column.name not in _KEYS)


def mark(connection: Connection, account_id: int, days: Collection[date]) -> None:
    """Say that calls of these days have changed. Waits for whoever is summing them."""
    here = (coverage.c.account_id == account_id, coverage.c.call_date.in_(days))
    connection.execute(update(coverage).where(*here).values(summed=False))


def mark_all(connection: Connection) -> None:
    """Say that what is known of numbers has changed. Before it changes: in this order nobody waits for each other."""
    connection.execute(update(coverage).values(summed=False))


def is_due(connection: Connection, account_id: int) -> bool:
    """Whether a day is not summed."""
    due = select(literal(1)).where(coverage.c.account_id == account_id, ~coverage.c.summed)
    return connection.scalar(due.limit(1)) is not None


def sum_days(connection: Connection, account_id: int) -> bool:
    """Sum the oldest days that are not, of CALLS_AT_ONCE calls or so; whether others are left."""
    due = (
        select(coverage.c.call_date, coverage.c.calls)
        .where(coverage.c.account_id == account_id, ~coverage.c.summed)
        .order_by(coverage.c.call_date)
        .limit(DAYS_AT_ONCE + 1)
        .with_for_update()  # who changes a call of these days now waits, and marks them after us
    )
    found = connection.execute(due).all()
    calls = itertools.accumulate(max(row.calls, 1) for row in found)
    days = [row.call_date for row, so_far in zip(found, calls, strict=True) if so_far <= CALLS_AT_ONCE]
    days = days[:DAYS_AT_ONCE] or [row.call_date for row in found[:1]]
    if not days:
        return False
    # The splits are named for the primary key's sake.
    old = (call_day.c.account_id == account_id, call_day.c.split.in_(SPLITS), call_day.c.call_date.in_(days))
    connection.execute(delete(call_day).where(*old))
    for statement in _statements(connection.dialect.name):
        connection.execute(statement, {"account_id": account_id, "days": days})
    here = (coverage.c.account_id == account_id, coverage.c.call_date.in_(days))
    connection.execute(update(coverage).where(*here).values(summed=True))
    return len(days) < len(found)


@functools.cache
def _statements(dialect: str) -> tuple[TextClause, ...]:
    from cdrsync.store.admin.views import said  # an idle start needs none of it

    templates = [
        _SUM.format(split=split, column=column, expression=expression, join=join, figures=_FIGURES)
        for split, column, expression, join in _SPLITS
    ]
    templates.append(_SUM_HOURS.format(figures=_FIGURES))
    days = bindparam("days", expanding=True, type_=Date)
    return tuple(text(said(template, dialect)).bindparams(days) for template in templates)
