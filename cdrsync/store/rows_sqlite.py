"""SQLite: one prepared INSERT for the whole page, and a page read back as tuples to compare."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cdrsync.model import Cdr
from cdrsync.store.kinds import micro
from cdrsync.store.rows import COLUMNS, SLACK, Known, read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.engine import Connection

_CACHED = 16384

_INSERT = (
    f"INSERT INTO cdr (account_id, {COLUMNS}, first_seen_at, changed_at)"  # noqa: S608 - our own column names
    f" VALUES ({', '.join('?' * (len(Cdr._fields) + 3))})"
)
_RANGE = f"SELECT {COLUMNS} FROM cdr WHERE account_id = ? AND uid BETWEEN ? AND ? ORDER BY uid LIMIT ?"  # noqa: S608
_LIST = f"SELECT {COLUMNS} FROM cdr WHERE account_id = ? AND uid IN (SELECT value FROM json_each(?))"  # noqa: S608


class SqliteRows:
    """SQLite's fast roads."""

    def compare(self, connection: Connection, account_id: int, calls: Mapping[int, Cdr]) -> Known:
        """Read the page's rows back and compare them as SQLite stores them."""
        limit = len(calls) + SLACK
        held = connection.exec_driver_sql(_RANGE, (account_id, min(calls), max(calls), limit)).fetchall()
        if len(held) == limit:
            held = connection.exec_driver_sql(_LIST, (account_id, json.dumps(list(calls)))).fetchall()
        stored = {row[0]: tuple(row) for row in held if row[0] in calls}
        if not stored:
            return Known()
        ours = encoded([calls[uid] for uid in stored])
        changed = [row[0] for row in ours if row != stored[row[0]]]
        return Known(set(stored), read(connection, account_id, changed))

    def insert(self, connection: Connection, account_id: int, calls: Sequence[Cdr], now: datetime) -> None:
        """Write new calls with one prepared statement."""
        seen = (_instant(now), _instant(now))
        connection.exec_driver_sql(_INSERT, [(account_id, *row, *seen) for row in encoded(calls)])


def encoded(calls: Sequence[Cdr]) -> list[tuple[Any, ...]]:
    """Calls as SQLite stores them (`kinds`), column by column: a page has few distinct days and costs."""
    columns: list[Any] = list(zip(*calls, strict=True))
    columns[2] = map(_text, columns[2])
    columns[3] = map(_text, columns[3])
    columns[4] = map(_instant, columns[4])
    columns[14] = map(_micro, columns[14])
    return list(zip(*columns, strict=True))


def _instant(value: datetime) -> str:
    return str(value if value.tzinfo is UTC else value.astimezone(UTC))[:-6]


_text = lru_cache(_CACHED)(str)
_micro = lru_cache(_CACHED)(micro)
