"""The summary `call_day`: what makes readers' totals quick, and never wrong.

The ledger says of each day whether the summary has it (`coverage.summed`); what is there is right. Whoever changes a
call, or what is known of a number, takes the day away in the same transaction, and the views count it anew. So nothing
ever has to be summed, and everything may be, by anyone, at any time.

Of what a day's rows say, only the kinds of destinations come from elsewhere: from the table `number`. They are of the
account's `numbering`, which `coverage.numbering` repeats for the day. Who changes kinds counts it on, in the same
transaction, and the views count the destinations of all days anew: nothing has to be taken away, and whoever is summing
meanwhile with the kinds of before says so.

Months are a second level above the days, for totals over years. A month's rows are there, and its days marked
(`coverage.in_month`), only while all of its days are summed: who changes a day takes the month away, too.
"""

from __future__ import annotations

import calendar
import functools
import itertools
from datetime import date
from typing import TYPE_CHECKING

from sqlalchemy import Date, and_, bindparam, delete, func, literal, or_, select, text, update

from cdrsync.store.schema.tables import account, call_day, coverage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from sqlalchemy import ColumnElement, Select, TextClause
    from sqlalchemy.engine import Connection

CALLS_AT_ONCE = 5_000
"""Of one transaction, or one day's: some hundredths of a second. Fewer are not worth the plans of their statements."""

DAYS_AT_ONCE = 200
MONTHS_AT_ONCE = 3
BY_DESTINATION = "destination"
BY_DAY = ("day", "hour", "number", BY_DESTINATION)
BY_MONTH = "number-month"

_SUM = """
INSERT INTO call_day (account_id, split, call_date, place, {column}, {figures})
SELECT
    account_id, '{split}', call_date, ROW_NUMBER() OVER (PARTITION BY call_date ORDER BY {column}), {column}, {figures}
FROM ({{counted: {column}; {expression}; {{cdr_by_day}} {join}
        WHERE cdr.account_id = :account_id AND cdr.call_date IN :days}}) AS counted
"""
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
_SUM_MONTH = """
INSERT INTO call_day (account_id, split, call_date, place, called_number, {figures})
SELECT account_id, 'number-month', :first, ROW_NUMBER() OVER (ORDER BY called_number), called_number, {figures}
FROM (
    SELECT account_id, called_number, {{sum_of_figures}}
    FROM call_day
    WHERE account_id = :account_id AND split = 'number' AND call_date BETWEEN :first AND :last
    GROUP BY account_id, called_number
) AS counted
"""
_KEYS = ("account_id", "split", "call_date", "place", "call_hour", "called_number", "destination_kind")
_FIGURES = ", ".join(column.name for column in call_day.columns if column.name not in _KEYS)

_OF_DESTINATIONS = _SUM.format(
    split=BY_DESTINATION,
    column="destination_kind",
    expression="{destination_kind}",
    join="LEFT JOIN number AS destination ON destination.number = cdr.dialled",
    figures=_FIGURES,
)
_OF_A_DAY = (
    _SUM.format(split="hour", column="call_hour", expression="{hour: cdr.call_time}", join="", figures=_FIGURES),
    _SUM.format(split="number", column="called_number", expression="cdr.bnumber", join="", figures=_FIGURES),
    _OF_DESTINATIONS,
    _SUM_HOURS.format(figures=_FIGURES),
)


def mark(connection: Connection, account_id: int, days: Collection[date]) -> None:
    """Take these days away: calls of theirs change. Waits for whoever is summing them."""
    if not days:
        return
    months = months_of(days)
    of_account = coverage.c.account_id == account_id
    theirs = coverage.c.call_date.between(min(months), _last_of(max(months)))
    in_order = select(coverage.c.call_date).where(of_account, theirs).order_by(coverage.c.call_date)
    connection.execute(in_order.with_for_update()).all()  # as all do who lock days: nobody waits for each other
    open_months(connection, account_id, months)
    connection.execute(update(coverage).where(of_account, coverage.c.call_date.in_(days)).values(summed=False))
    open_days(connection, account_id, days)


def renumber(connection: Connection) -> None:
    """Have destinations counted anew, as kinds of numbers change now. Before they do: nobody waits in a ring."""
    connection.execute(update(account).values(numbering=account.c.numbering + 1))


def months_of(days: Iterable[date]) -> set[date]:
    """The first day of the month of each."""
    return {day.replace(day=1) for day in days}


def open_months(connection: Connection, account_id: int, months: Iterable[date]) -> None:
    """Take away what was summed of these months: days of them change now."""
    for first in sorted(months):
        connection.execute(
            update(coverage).where(_month(account_id, first), coverage.c.in_month).values(in_month=False)
        )
        connection.execute(delete(call_day).where(*_rows(account_id, [BY_MONTH]), call_day.c.call_date == first))


def open_days(connection: Connection, account_id: int, days: Collection[date]) -> None:
    """Take away what was summed of these days, which the ledger says are not. After it was told: it is their lock."""
    if days:
        # The splits are named for the primary key's sake.
        connection.execute(delete(call_day).where(*_rows(account_id, BY_DAY), call_day.c.call_date.in_(days)))


def is_due(connection: Connection, account_id: int) -> bool:
    """Whether a day or a month is not summed, or a day's destinations are of an earlier numbering."""
    numbering = _numbering(account_id).scalar_subquery()
    due = or_(~coverage.c.summed, coverage.c.numbering != numbering, _whole_month(connection, account_id))
    return connection.scalar(select(literal(1)).where(coverage.c.account_id == account_id, due).limit(1)) is not None


def sum_days(connection: Connection, account_id: int) -> bool:
    """Sum the oldest days that are not, of CALLS_AT_ONCE calls or so, or else months; whether others are left."""
    # Read before any kind is: where one changes since, the days are of an earlier numbering.
    numbering = connection.execute(_numbering(account_id)).scalar_one()
    days, left = _some(connection, account_id, ~coverage.c.summed)
    if days:
        _sum(connection, account_id, days, _OF_A_DAY)
        here = (coverage.c.account_id == account_id, coverage.c.call_date.in_(days))
        connection.execute(update(coverage).where(*here).values(summed=True, numbering=numbering))
    return left or _sum_destinations(connection, account_id, numbering) or _sum_months(connection, account_id)


def _sum_destinations(connection: Connection, account_id: int, numbering: int) -> bool:
    """Sum the destinations of the oldest days that have them of an earlier numbering; whether others are left."""
    days, left = _some(connection, account_id, and_(coverage.c.summed, coverage.c.numbering != numbering))
    if days:
        of_days = call_day.c.call_date.in_(days)
        connection.execute(delete(call_day).where(*_rows(account_id, [BY_DESTINATION]), of_days))
        _sum(connection, account_id, days, [_OF_DESTINATIONS])
        here = (coverage.c.account_id == account_id, coverage.c.call_date.in_(days))
        connection.execute(update(coverage).where(*here).values(numbering=numbering))
    return left


def _some(connection: Connection, account_id: int, due: ColumnElement[bool]) -> tuple[list[date], bool]:
    """The oldest of the days that are due, locked, and whether others are left."""
    query = (
        select(coverage.c.call_date, coverage.c.calls)
        .where(coverage.c.account_id == account_id, due)
        .order_by(coverage.c.call_date)
        .limit(DAYS_AT_ONCE + 1)
        .with_for_update()  # who changes a call of these days now waits, and marks them after us
    )
    found = connection.execute(query).all()
    calls = itertools.accumulate(max(row.calls, 1) for row in found)
    days = [row.call_date for row, so_far in zip(found, calls, strict=True) if so_far <= CALLS_AT_ONCE]
    days = days[:DAYS_AT_ONCE] or [row.call_date for row in found[:1]]
    return days, len(days) < len(found)


def _sum(connection: Connection, account_id: int, days: Collection[date], templates: Iterable[str]) -> None:
    for template in templates:
        statement = _statement(template, connection.dialect.name)
        connection.execute(statement, {"account_id": account_id, "days": days})


def _numbering(account_id: int) -> Select[int]:
    return select(account.c.numbering).where(account.c.id == account_id)


def _sum_months(connection: Connection, account_id: int) -> bool:
    """Sum the oldest months that are not, once all days are; whether others are left."""
    due = select(coverage.c.call_date).where(coverage.c.account_id == account_id, _whole_month(connection, account_id))
    months = sorted(months_of(connection.execute(due).scalars()))
    for first in months[:MONTHS_AT_ONCE]:
        here = _month(account_id, first)
        held = select(coverage.c.summed).where(here).order_by(coverage.c.call_date).with_for_update()
        if not all(connection.execute(held).scalars()):  # a day was marked a moment ago
            return True
        connection.execute(delete(call_day).where(*_rows(account_id, [BY_MONTH]), call_day.c.call_date == first))
        values = {"account_id": account_id, "first": first, "last": _last_of(first)}
        connection.execute(_month_statement(connection.dialect.name), values)
        connection.execute(update(coverage).where(here).values(in_month=True))
    return len(months) > MONTHS_AT_ONCE


def _whole_month(connection: Connection, account_id: int) -> ColumnElement[bool]:
    """Days whose month is to be summed. The newest month grows with every poll, and is left to its days."""
    newest = connection.scalar(select(func.max(coverage.c.call_date)).where(coverage.c.account_id == account_id))
    first = (newest or date.min).replace(day=1)
    return and_(~coverage.c.in_month, coverage.c.call_date < first)


def _last_of(first: date) -> date:
    return first.replace(day=calendar.monthrange(first.year, first.month)[1])


def _month(account_id: int, first: date) -> ColumnElement[bool]:
    return and_(coverage.c.account_id == account_id, coverage.c.call_date.between(first, _last_of(first)))


def _rows(account_id: int, splits: Collection[str]) -> tuple[ColumnElement[bool], ...]:
    return call_day.c.account_id == account_id, call_day.c.split.in_(splits)


@functools.cache
def _month_statement(dialect: str) -> TextClause:
    from cdrsync.store.admin.views import said

    days = (bindparam("first", type_=Date), bindparam("last", type_=Date))
    return text(said(_SUM_MONTH.format(figures=_FIGURES), dialect)).bindparams(*days)


@functools.cache
def _statement(template: str, dialect: str) -> TextClause:
    from cdrsync.store.admin.views import said  # an idle start needs none of it

    return text(said(template, dialect)).bindparams(bindparam("days", expanding=True, type_=Date))
