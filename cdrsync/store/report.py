"""Where every account stands, read without a lease: what `cdrsync status` prints."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from cdrsync.model import TAIL_STREAM, Checkpoint, LedgerDay, Period, Verdict
from cdrsync.store.engine import translated
from cdrsync.store.position import read_checkpoint
from cdrsync.store.runs import latest_runs
from cdrsync.store.tables import account, audit_result, cdr_change, checkpoint, coverage, reject

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.engine import Connection, Engine

    from cdrsync.status import RunLine

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
