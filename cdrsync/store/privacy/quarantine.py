"""Personal data in the quarantine: which records the rules change, and what becomes of each."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, select, update

from cdrsync.model import Reject
from cdrsync.store.privacy.raw_record import fingerprint
from cdrsync.store.schema.tables import reject

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.engine import Connection

    from cdrsync.store.privacy.rules import Rules

Treated = tuple[Any, Reject | None]
"""A row of the quarantine, and what becomes of its record; None: it goes."""


def treated(connection: Connection, account_id: int, rules: Rules) -> list[Treated]:
    """The records that the rules change."""
    found: list[Treated] = []
    for row in connection.execute(select(reject).where(reject.c.account_id == account_id)).all():
        record = Reject(row.uid, row.raw, row.problem)
        (after,) = rules.quarantine([record]) or (None,)
        if after != record:
            found.append((row, after))
    return found


def aged(connection: Connection, account_id: int, rules: Rules, before: date) -> list[Treated]:
    """Records of old days; those that do not say their day are as old as their last appearance."""
    found = {row.id: (row, after) for row, after in treated(connection, account_id, rules)}
    midnight = datetime(before.year, before.month, before.day, tzinfo=UTC)
    old = and_(reject.c.account_id == account_id, reject.c.last_seen_at < midnight)
    found |= {row.id: (row, None) for row in connection.execute(select(reject).where(old)).all()}
    return list(found.values())


def write(connection: Connection, account_id: int, records: Collection[Treated]) -> None:
    """Carry it out. A record that has become another one's equal goes."""
    for row, record in records:
        here = and_(reject.c.account_id == account_id, reject.c.id == row.id)
        if record is not None:
            again = fingerprint(record)
            same = and_(reject.c.account_id == account_id, reject.c.fingerprint == again, ~here)
            if connection.execute(select(reject.c.id).where(same)).first() is None:
                values = {"raw": record.raw, "problem": record.problem, "fingerprint": again}
                connection.execute(update(reject).where(here).values(values))
                continue
        connection.execute(delete(reject).where(here))
