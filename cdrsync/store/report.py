"""What people ask of the database: the state of the accounts, rejects, runs and changes. Reads only, needs no lease.

Every figure comes from the ledger or an index: a report of a hundred million calls costs no more than one of a hundred.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from cdrsync.store import tables
from cdrsync.store.engine import translated
from cdrsync.store.position import as_checkpoint

if TYPE_CHECKING:
    from datetime import date, datetime
    from decimal import Decimal

    from sqlalchemy import Select
    from sqlalchemy.engine import Connection, Engine

    from cdrsync.model import Checkpoint


@dataclass(frozen=True, slots=True)
class AccountReport:
    """One account as the database knows it. Instants are UTC, days UK wall clock, charges exact pounds."""

    name: str
    holder: str | None  # who took the lease last
    held_since: datetime | None
    checkpoints: dict[str, Checkpoint]
    newest_call: datetime | None  # start of the call with the highest uid
    calls: int
    duration: int  # seconds
    charge: Decimal
    first_day: date | None
    last_day: date | None
    days_downloaded: int
    verdicts: dict[str, int]  # verdict → days
    last_audit_at: datetime | None
    rejects_open: int
    changes: int


@dataclass(frozen=True, slots=True)
class RejectReport:
    """One record in quarantine."""

    id: int
    account: str
    uid: int | None
    problem: str
    raw: str
    seen: int
    first_seen_at: datetime
    last_seen_at: datetime
    resolved_at: datetime | None


@dataclass(frozen=True, slots=True)
class RunReport:
    """One piece of work."""

    id: int
    account: str
    origin: str
    started_at: datetime
    ended_at: datetime | None
    outcome: str | None
    inserted: int
    updated: int
    unchanged: int
    rejected: int
    message: str | None


@dataclass(frozen=True, slots=True)
class ChangeReport:
    """One known value that the operator changed later."""

    account: str
    uid: int
    changed_at: datetime
    column_name: str
    old_value: str | None
    new_value: str | None


class Report:
    """Answers about every account of a database. Raises DatabaseUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def accounts(self) -> list[AccountReport]:
        """Every account, by name."""
        statement = select(tables.account).order_by(tables.account.c.name)
        with translated(), self._engine.connect() as connection:
            return [_account(connection, row) for row in connection.execute(statement).all()]

    def rejects(self, account: str | None = None, *, open_only: bool = True, limit: int = 1000) -> list[RejectReport]:
        """Records in quarantine, newest first."""
        table = tables.reject
        statement = _of_account(_columns(RejectReport, table), table, account).order_by(table.c.id.desc()).limit(limit)
        if open_only:
            statement = statement.where(table.c.resolved_at.is_(None))
        return [RejectReport(*row) for row in self._read(statement)]

    def reject(self, number: int) -> RejectReport | None:
        """One record in quarantine by its number."""
        table = tables.reject
        statement = _of_account(_columns(RejectReport, table), table, None).where(table.c.id == number)
        return next((RejectReport(*row) for row in self._read(statement)), None)

    def runs(self, account: str | None = None, *, limit: int = 20) -> list[RunReport]:
        """The last pieces of work, newest first."""
        table = tables.sync_run
        statement = _of_account(_columns(RunReport, table), table, account).order_by(table.c.id.desc()).limit(limit)
        return [RunReport(*row) for row in self._read(statement)]

    def changes(self, account: str | None = None, *, limit: int = 100) -> list[ChangeReport]:
        """The last changes of known values, newest first."""
        table = tables.cdr_change
        statement = _of_account(_columns(ChangeReport, table), table, account).order_by(table.c.id.desc()).limit(limit)
        return [ChangeReport(*row) for row in self._read(statement)]

    def _read(self, statement: Select[Any]) -> list[Any]:
        with translated(), self._engine.connect() as connection:
            return list(connection.execute(statement))


def _columns(report: type[Any], table: Any) -> Select[Any]:
    """SELECT what a report's fields are called, in their order."""
    return select(
        *(tables.account.c.name if name == "account" else table.c[name] for name in report.__dataclass_fields__)
    )


def _of_account(statement: Select[Any], table: Any, name: str | None) -> Select[Any]:
    joined = statement.join_from(table, tables.account, table.c.account_id == tables.account.c.id)
    return joined if name is None else joined.where(tables.account.c.name == name)


def _account(connection: Connection, row: Any) -> AccountReport:
    coverage, cdr = tables.coverage.c, tables.cdr.c
    of_account = coverage.account_id == row.id
    sums = connection.execute(
        select(
            func.coalesce(func.sum(coverage.calls), 0),
            func.coalesce(func.sum(coverage.duration), 0),
            func.coalesce(func.sum(coverage.charge), 0),
            func.min(coverage.call_date),
            func.max(coverage.call_date),
            func.count(coverage.downloaded_at),
            func.max(coverage.audited_at),
        ).where(of_account)
    ).one()
    verdicts = select(coverage.verdict, func.count()).where(of_account).group_by(coverage.verdict)
    newest = select(cdr.started_at).where(cdr.account_id == row.id).order_by(cdr.uid.desc()).limit(1)
    rejects = tables.reject.c
    checkpoints = select(tables.checkpoint).where(tables.checkpoint.c.account_id == row.id)
    return AccountReport(
        name=row.name,
        holder=row.holder,
        held_since=row.held_since,
        checkpoints={found.stream: as_checkpoint(found) for found in connection.execute(checkpoints)},
        newest_call=connection.scalar(newest),
        calls=int(sums[0]),
        duration=int(sums[1]),
        charge=sums[2],
        first_day=sums[3],
        last_day=sums[4],
        days_downloaded=sums[5],
        verdicts={verdict: count for verdict, count in connection.execute(verdicts)},
        last_audit_at=sums[6],
        rejects_open=_count(connection, rejects.account_id == row.id, rejects.resolved_at.is_(None)),
        changes=_count(connection, tables.cdr_change.c.account_id == row.id),
    )


def _count(connection: Connection, *where: Any) -> int:
    return connection.scalar(select(func.count()).where(*where)) or 0
