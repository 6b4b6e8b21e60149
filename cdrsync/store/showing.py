"""What the status page shows of an account, read without its lease. Small queries, each answered by an index."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import Integer, String, and_, cast, func, select

from cdrsync.comparison import AMONG_OTHERS, SECONDS_PER_MINUTE, Figures
from cdrsync.model import Period, Verdict
from cdrsync.status import HOURS, DayLine, OperatorToday, Records, RejectLine
from cdrsync.store.engine import translated
from cdrsync.store.ledger import established
from cdrsync.store.runs import latest_runs
from cdrsync.store.tables import account, cdr, coverage, operator_totals, reject

if TYPE_CHECKING:
    from datetime import date, datetime, tzinfo

    from sqlalchemy.engine import Connection, Engine

    from cdrsync.comparison import Readings

LINES = 10  # of rejects and of runs
NOBODY = -1  # no row has this number: an account that was never synced


def records(engine: Engine, name: str, *, now: datetime, timezone: tzinfo) -> Records:
    """Everything that the page shows of one account. Raises DatabaseUnavailable."""
    today = now.astimezone(timezone).date()
    with translated(), engine.connect() as connection:
        account_id = connection.scalar(select(account.c.id).where(account.c.name == name)) or NOBODY
        figures, ledger = _ledger(connection, account_id, today)
        hours = _hours(connection, account_id, today)
        open_rejects = and_(reject.c.account_id == account_id, reject.c.resolved_at.is_(None))
        latest = select(reject).where(open_rejects).order_by(reject.c.last_seen_at.desc(), reject.c.id.desc())
        return Records(
            today=today,
            held_today=figures,
            operator_today=_operator_today(connection, account_id, today, timezone),
            hours_today=hours[today],
            hours_yesterday=hours[today - timedelta(days=1)],
            ledger=ledger,
            rejects_open=connection.scalar(select(func.count()).select_from(reject).where(open_rejects)) or 0,
            rejects=tuple(
                RejectLine(row.id, row.uid, row.problem, row.seen, row.first_seen_at)
                for row in connection.execute(latest.limit(LINES))
            ),
            runs=latest_runs(connection, account_id, LINES),
        )


def _ledger(connection: Connection, account_id: int, today: date) -> tuple[Figures, tuple[DayLine, ...]]:
    query = select(coverage).where(coverage.c.account_id == account_id).order_by(coverage.c.call_date)
    figures = Figures(0, 0, Decimal(0))
    lines = []
    for row in connection.execute(query):
        if row.call_date == today:
            figures = Figures(row.calls, row.duration, row.charge)
        lines.append(
            DayLine(
                row.call_date,
                row.calls,
                Verdict(row.verdict),
                downloaded=row.downloaded_at is not None,
                operator_calls=row.operator_calls,
                note=row.note,
            )
        )
    return figures, tuple(lines)


def _hours(connection: Connection, account_id: int, today: date) -> dict[date, tuple[int, ...]]:
    """Calls of today and yesterday, by hour of the wall clock as sent."""
    yesterday = today - timedelta(days=1)
    # The text of a time begins with its hour in every dialect.
    hour = cast(func.substr(cast(cdr.c.call_time, String(8)), 1, 2), Integer)
    query = (
        select(cdr.c.call_date, hour, func.count())
        .where(cdr.c.account_id == account_id, cdr.c.call_date.between(yesterday, today))
        .group_by(cdr.c.call_date, hour)
    )
    counts: dict[date, list[int]] = {yesterday: [0] * HOURS, today: [0] * HOURS}
    for day, at, calls in connection.execute(query):
        counts[day][at] = calls
    return {day: tuple(calls) for day, calls in counts.items()}


def _operator_today(connection: Connection, account_id: int, today: date, timezone: tzinfo) -> OperatorToday | None:
    query = (
        select(operator_totals)
        .where(
            operator_totals.c.account_id == account_id,
            operator_totals.c.period == Period.DAY.value,
            operator_totals.c.number.is_(None),
        )
        .order_by(operator_totals.c.fetched_at.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    if row is None or row.fetched_at.astimezone(timezone).date() != today:
        return None
    readings = established(connection, account_id)
    return OperatorToday(row.fetched_at, _calls(row, readings), _duration(row, readings), row.charge)


def _calls(row: Any, readings: Readings) -> int | None:
    parts = [row.answered, row.missed]
    if readings.calls != AMONG_OTHERS:  # where nothing is established: all three
        parts.append(row.voicemail)
    return None if None in parts else sum(parts)


def _duration(row: Any, readings: Readings) -> int | None:
    if row.minutes_no_format is None or readings.duration is None:
        return None
    return int(row.minutes_no_format * (SECONDS_PER_MINUTE if readings.duration == "minutes" else 1))
