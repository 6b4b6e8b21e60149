"""Every account's state, read without a lease. Each function raises DatabaseUnavailable."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from sqlalchemy import Integer, String, and_, cast, func, select

from cdrsync.audit.figures import Figures, Stated
from cdrsync.model import Checkpoint, LedgerDay, Period, Verdict, utc_now
from cdrsync.monitor.status import HOURS, AccountStatus, AuditLine, OperatorToday, RejectLine, RunLine, Summary, Today
from cdrsync.store.databases.errors import translated
from cdrsync.store.position import as_checkpoint
from cdrsync.store.reads.ledger import established, ledger_day, still_open
from cdrsync.store.reads.overview import summaries
from cdrsync.store.schema.tables import (
    account,
    audit_result,
    cdr,
    cdr_change,
    checkpoint,
    coverage,
    operator_totals,
    reject,
    sync_run,
)
from cdrsync.sync.streams import Stream

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import date, datetime, tzinfo

    from sqlalchemy.engine import Connection, Engine

UK = ZoneInfo("Europe/London")
LINES = 10  # of rejects and of runs


def names(engine: Engine) -> list[str]:
    """The names of the accounts that were ever synced."""
    with translated(), engine.connect() as connection:
        return list(connection.scalars(select(account.c.name).order_by(account.c.name)))


def overview(engine: Engine, only: Collection[str] = ()) -> list[Summary]:
    """Every account that was ever synced, or these of them, in some figures, by name."""
    with translated(), engine.connect() as connection:
        return list(summaries(connection, uk_today(), only).values())


def every_account(engine: Engine, only: Collection[str] = ()) -> list[AccountStatus]:
    """The state of every account that was ever synced, or of these, by name, without its `today`."""
    with translated(), engine.connect() as connection:
        found = summaries(connection, uk_today(), only)
        return [_status(connection, number, summary) for number, summary in found.items()]


def one_account(engine: Engine, name: str, *, now: datetime, timezone: tzinfo) -> AccountStatus:
    """The state of one account, with its `today`; an account that was never synced has an empty one."""
    today = now.astimezone(timezone).date()
    with translated(), engine.connect() as connection:
        for number, summary in summaries(connection, today, [name]).items():
            found = _status(connection, number, summary)
            return replace(found, today=_today(connection, number, found.ledger, today, timezone))
    nothing = (0,) * HOURS
    return AccountStatus(name=name, today=Today(today, Figures(), None, nothing, nothing))


def uk_today() -> date:
    """The day it is for the operator."""
    return utc_now().astimezone(UK).date()


def last_audit(engine: Engine, name: str) -> tuple[datetime | None, datetime | None]:
    """When an account was audited last, and when its youngest call began. UTC."""
    of_account = select(account.c.id).where(account.c.name == name).scalar_subquery()
    at = select(func.max(audit_result.c.audited_at)).where(audit_result.c.account_id == of_account)
    last = select(func.max(coverage.c.call_date)).where(coverage.c.account_id == of_account, coverage.c.calls > 0)
    youngest = select(func.max(cdr.c.started_at)).where(cdr.c.account_id == of_account)
    with translated(), engine.connect() as connection:
        day = connection.scalar(last)
        return (
            connection.scalar(at),
            None if day is None else connection.scalar(youngest.where(cdr.c.call_date == day)),
        )


def checkpoints(engine: Engine, only: Collection[str] = ()) -> list[tuple[str, Checkpoint]]:
    """Every checkpoint, of these accounts or of all, with the name of its account, in their order."""
    query = select(account.c.name, checkpoint).join(account, account.c.id == checkpoint.c.account_id)
    if only:
        query = query.where(account.c.name.in_(only))
    with translated(), engine.connect() as connection:
        rows = connection.execute(query.order_by(account.c.name, checkpoint.c.stream)).all()
    return [(row.name, as_checkpoint(row)) for row in rows]


def _status(connection: Connection, of_account: int, summary: Summary) -> AccountStatus:
    waiting = and_(reject.c.account_id == of_account, still_open())
    changes = select(func.count()).select_from(cdr_change).where(cdr_change.c.account_id == of_account)
    columns = (reject.c.id, *(reject.c[name] for name in ("uid", "problem", "seen", "first_seen_at")))
    latest = select(*columns).where(waiting).order_by(reject.c.last_seen_at.desc(), reject.c.id.desc()).limit(LINES)
    return AccountStatus(
        **{field.name: getattr(summary, field.name) for field in fields(summary)},
        tails=_tails(connection, of_account),
        ledger=_ledger(connection, of_account),
        rejects=tuple(RejectLine(*row) for row in connection.execute(latest)),
        changes=connection.scalar(changes) or 0,
        audits=_audits(connection, of_account),
        runs=_latest_runs(connection, of_account),
    )


def _tails(connection: Connection, of_account: int) -> tuple[Checkpoint, ...]:
    marks = select(checkpoint).where(checkpoint.c.account_id == of_account, checkpoint.c.high_water_uid.is_not(None))
    found = map(as_checkpoint, connection.execute(marks.order_by(checkpoint.c.stream)))
    return tuple(mark for mark in found if mark.stream.partition(":")[0] == Stream.TAIL)


def _ledger(connection: Connection, of_account: int) -> tuple[LedgerDay, ...]:
    days = select(coverage).where(coverage.c.account_id == of_account).order_by(coverage.c.call_date)
    return tuple(map(ledger_day, connection.execute(days)))


def _audits(connection: Connection, of_account: int) -> tuple[AuditLine, ...]:
    latest = (
        select(func.max(audit_result.c.id))
        .where(audit_result.c.account_id == of_account, audit_result.c.number.is_(None))
        .group_by(audit_result.c.period)
    )
    rows = connection.execute(select(audit_result).where(audit_result.c.id.in_(latest)))
    found = [AuditLine(Period(row.period), row.audited_at, Verdict(row.verdict), row.note) for row in rows]
    return tuple(sorted(found, key=lambda line: list(Period).index(line.period)))


def _today(
    connection: Connection, of_account: int, ledger: tuple[LedgerDay, ...], today: date, timezone: tzinfo
) -> Today:
    held = next((Figures(day.calls, day.duration, day.charge) for day in ledger if day.day == today), Figures())
    yesterday = today - timedelta(days=1)
    # The text of a time begins with its hour in every dialect.
    hour = cast(func.substr(cast(cdr.c.call_time, String(8)), 1, 2), Integer)
    query = (
        select(cdr.c.call_date, hour, func.count())
        .where(cdr.c.account_id == of_account, cdr.c.call_date.between(yesterday, today))
        .group_by(cdr.c.call_date, hour)
    )
    hours = {yesterday: [0] * HOURS, today: [0] * HOURS}
    for day, at, calls in connection.execute(query):
        hours[day][at] = calls
    operator = _operator_today(connection, of_account, today, timezone)
    return Today(today, held, operator, tuple(hours[today]), tuple(hours[yesterday]))


def _operator_today(connection: Connection, of_account: int, today: date, timezone: tzinfo) -> OperatorToday | None:
    query = (
        select(operator_totals)
        .where(
            operator_totals.c.account_id == of_account,
            operator_totals.c.period == Period.DAY.value,
            operator_totals.c.number.is_(None),
        )
        .order_by(operator_totals.c.fetched_at.desc())
        .limit(1)
    )
    row: Any = connection.execute(query).one_or_none()
    if row is None or row.fetched_at.astimezone(timezone).date() != today:
        return None
    stated = Stated.of(row, established(connection, of_account))
    return OperatorToday(row.fetched_at, stated.calls, stated.duration, stated.charge)


def _latest_runs(connection: Connection, of_account: int) -> tuple[RunLine, ...]:
    columns = [sync_run.c[field.name] for field in fields(RunLine)]
    lines = select(*columns).where(sync_run.c.account_id == of_account).order_by(sync_run.c.started_at.desc())
    return tuple(RunLine(*row) for row in connection.execute(lines.limit(LINES)))
