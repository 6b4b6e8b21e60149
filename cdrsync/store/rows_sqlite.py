"""SQLite: one prepared INSERT for the whole page, and a page read back as tuples to compare."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache
from itertools import repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from cdrsync.model import Cdr
from cdrsync.store.kinds import micro
from cdrsync.store.rows import COLUMNS, NUMBER_COLUMNS, SLACK, Known, driver, in_utc, read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.engine import Connection

    from cdrsync.store.rows import Number

_CACHED = 16384

_INSERT = (
    f"INSERT INTO cdr (account_id, {COLUMNS}, first_seen_at, changed_at)"  # noqa: S608 - our own column names
    f" VALUES ({', '.join('?' * (len(Cdr._fields) + 3))})"
)
_RANGE = "SELECT uid FROM cdr WHERE account_id = ? AND uid BETWEEN ? AND ? LIMIT ?"
_LIST = "SELECT uid FROM cdr WHERE account_id = ? AND uid IN (SELECT value FROM json_each(?))"
_ROWS = f"SELECT {COLUMNS} FROM cdr WHERE account_id = ? AND uid IN (SELECT value FROM json_each(?))"  # noqa: S608
_NOTE = f"INSERT INTO number ({NUMBER_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"  # noqa: S608


class SqliteRows:
    """SQLite's fast roads."""

    def compare(self, connection: Connection, account_id: int, calls: Mapping[int, Cdr]) -> Known:
        """Read the page's rows back and compare them as SQLite stores them."""
        limit = len(calls) + SLACK
        held = connection.exec_driver_sql(_RANGE, (account_id, min(calls), max(calls), limit)).fetchall()
        if len(held) == limit:
            held = connection.exec_driver_sql(_LIST, (account_id, json.dumps(list(calls)))).fetchall()
        uids = [uid for (uid,) in held if uid in calls]
        if not uids:
            return Known()
        rows = connection.exec_driver_sql(_ROWS, (account_id, json.dumps(uids))).fetchall()
        stored = dict(zip(map(itemgetter(0), rows), map(tuple, rows), strict=True))
        ours = zip(*columns([calls[uid] for uid in stored]), strict=True)
        changed = [our[0] for our, theirs in zip(ours, stored.values(), strict=True) if our != theirs]
        return Known(set(stored), read(connection, account_id, changed))

    def insert(self, connection: Connection, account_id: int, calls: Sequence[Cdr], now: datetime) -> None:
        """Write new calls with one prepared statement."""
        seen = str(now.astimezone(UTC))[:-6]
        rows = zip(repeat(account_id, len(calls)), *columns(calls), repeat(seen), repeat(seen), strict=False)
        with driver(connection) as raw:
            raw.executemany(_INSERT, rows)

    def note_numbers(self, connection: Connection, numbers: Sequence[Number]) -> None:
        """Write them with one prepared statement."""
        with driver(connection) as raw:
            raw.executemany(_NOTE, [(*row[:-1], str(row[-1].astimezone(UTC))[:-6]) for row in numbers])


def columns(calls: Sequence[Cdr]) -> list[Any]:
    """A page column by column, as SQLite stores it (`kinds`): days, times and costs repeat within a page."""
    found: list[Any] = list(zip(*calls, strict=True))
    found[_DATE] = map(_text, found[_DATE])
    found[_TIME] = map(_text, found[_TIME])
    found[_STARTED] = [instant[:-6] for instant in map(str, in_utc(found[_STARTED]))]
    found[_COST] = map(_micro, found[_COST])
    return found


_DATE, _TIME, _STARTED, _COST = map(Cdr._fields.index, ("call_date", "call_time", "started_at", "user_cost"))
_text = lru_cache(_CACHED)(str)
_micro = lru_cache(_CACHED)(micro)
