"""Where every account stands, read without a lease: what `cdrsync status` prints."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import Integer, String, and_, cast, func, select

from cdrsync.audit.figures import AMONG_OTHERS, SECONDS_PER_MINUTE, Figures
from cdrsync.model import TAIL_STREAM, Checkpoint, LedgerDay, Period, Verdict
from cdrsync.monitor.status import HOURS, DayLine, OperatorToday, Records, RejectLine
from cdrsync.store.databases.errors import translated
from cdrsync.store.position import read_checkpoint
from cdrsync.store.reads.ledger import established
from cdrsync.store.runs import latest_runs
from cdrsync.store.schema.tables import (
    account,
    audit_result,
    cdr,
    cdr_change,
    checkpoint,
    coverage,
    operator_totals,
    reject,
)

if TYPE_CHECKING:
    from datetime import date, datetime, tzinfo

    from sqlalchemy.engine import Connection, Engine

    from cdrsync.audit.figures import Readings
    from cdrsync.monitor.status import RunLine

RUNS = 5  # of an account, that are told


@dataclass(frozen=True, slots=True)
class AuditLine:
    """The latest comparison of one period."""

    period: Period
    audited_at: datetime
    verdict: Verdict
    note: str | None


@dataclass(frozen=True, slots=True)
class Standing:
    """One account. Instants are aware, UTC."""

    name: str
    holder: str | None  # who took the lease last; whether it still has it only the lock itself can say
    held_since: datetime | None
    tails: tuple[Checkpoint, ...]  # one, or one for each number that the account is limited to
    read_at: datetime | None  # when the latest look at the operator that left a trace began
    ledger: tuple[LedgerDay, ...]  # oldest first
    rejects_open: int
    changes: int  # values that the operator changed later
    audits: tuple[AuditLine, ...]
    runs: tuple[RunLine, ...]  # the latest, newest first

    @property
    def calls(self) -> int:
        """Calls held, by the ledger."""
        return sum(day.calls for day in self.ledger)


def standings(engine: Engine) -> list[Standing]:
    """Every account that was ever synced, by name. Raises DatabaseUnavailable."""
    with translated(), engine.connect() as connection:
        return [
            Standing(
                row.name,
                row.holder,
                row.held_since,
                _tails(connection, row.id),
                _read_at(connection, row.id),
                _ledger(connection, row.id),
                _open_rejects(connection, row.id),
                _changes(connection, row.id),
                _audits(connection, row.id),
                latest_runs(connection, row.id, RUNS),
            )
            for row in connection.execute(select(account).order_by(account.c.name)).all()
        ]


def names(engine: Engine) -> list[str]:
    """The names of the accounts that were ever synced. Raises DatabaseUnavailable."""
    with translated(), engine.connect() as connection:
        return list(connection.scalars(select(account.c.name).order_by(account.c.name)))


def last_audit(engine: Engine, name: str) -> tuple[datetime | None, int]:
    """When an account was audited last (UTC), and the days with a gap since. Raises DatabaseUnavailable."""
    gaps = select(func.count()).select_from(coverage.join(account, account.c.id == coverage.c.account_id))
    at = select(func.max(audit_result.c.audited_at)).join(account, account.c.id == audit_result.c.account_id)
    with translated(), engine.connect() as connection:
        return (
            connection.scalar(at.where(account.c.name == name)),
            connection.scalar(gaps.where(account.c.name == name, coverage.c.verdict == Verdict.GAP.value)) or 0,
        )


def _tails(connection: Connection, account_id: int) -> tuple[Checkpoint, ...]:
    streams = connection.scalars(
        select(checkpoint.c.stream)
        .where(checkpoint.c.account_id == account_id, checkpoint.c.high_water_uid.is_not(None))
        .order_by(checkpoint.c.stream)
    ).all()
    found = [read_checkpoint(connection, account_id, s) for s in streams if s.partition(":")[0] == TAIL_STREAM]
    return tuple(tail for tail in found if tail is not None)


def _read_at(connection: Connection, account_id: int) -> datetime | None:
    """A poll without new calls leaves no trace, but each look-back does, and each page."""
    traces = select(func.max(checkpoint.c.updated_at), func.max(checkpoint.c.begun_at)).where(
        checkpoint.c.account_id == account_id
    )
    return max((instant for instant in connection.execute(traces).one() if instant is not None), default=None)


def _ledger(connection: Connection, account_id: int) -> tuple[LedgerDay, ...]:
    days = select(coverage).where(coverage.c.account_id == account_id).order_by(coverage.c.call_date)
    return tuple(
        LedgerDay(
            row.call_date,
            row.calls,
            row.duration,
            row.charge,
            row.downloaded_at,
            row.audited_at,
            Verdict(row.verdict),
        )
        for row in connection.execute(days)
    )


def _open_rejects(connection: Connection, account_id: int) -> int:
    count = select(func.count()).select_from(reject)
    return connection.scalar(count.where(reject.c.account_id == account_id, reject.c.resolved_at.is_(None))) or 0


def _changes(connection: Connection, account_id: int) -> int:
    count = select(func.count()).select_from(cdr_change)
    return connection.scalar(count.where(cdr_change.c.account_id == account_id)) or 0


def _audits(connection: Connection, account_id: int) -> tuple[AuditLine, ...]:
    latest = (
        select(func.max(audit_result.c.id))
        .where(audit_result.c.account_id == account_id, audit_result.c.number.is_(None))
        .group_by(audit_result.c.period)
    )
    rows = connection.execute(select(audit_result).where(audit_result.c.id.in_(latest)))
    found = [AuditLine(Period(row.period), row.audited_at, Verdict(row.verdict), row.note) for row in rows]
    return tuple(sorted(found, key=lambda line: list(Period).index(line.period)))


LINES = 10  # of rejects and of runs

NOBODY = -1  # no row has this number: an account that was never synced


def records(engine: Engine, name: str, *, now: datetime, timezone: tzinfo) -> Records:
    """Everything that the page shows of one account. Raises DatabaseUnavailable."""
    today = now.astimezone(timezone).date()
    with translated(), engine.connect() as connection:
        account_id = connection.scalar(select(account.c.id).where(account.c.name == name)) or NOBODY
        figures, ledger = _days_held(connection, account_id, today)
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


def _days_held(connection: Connection, account_id: int, today: date) -> tuple[Figures, tuple[DayLine, ...]]:
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
