"""SQLite: one prepared INSERT for the whole page, and a page read back as tuples to compare."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cdrsync.model import Cdr
from cdrsync.store.kinds import micro
from cdrsync.store.rows import COLUMNS, NUMBER_COLUMNS, Known, driver, held_of, in_utc, read

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.engine import Connection

    from cdrsync.store.rows import Number

_CACHED = 16384

_INSERT = f"INSERT INTO cdr (account_id, {COLUMNS}, first_seen_at, changed_at)"
_VALUES = ", ".join("?" * len(Cdr._fields))
_RANGE = "SELECT uid FROM cdr WHERE account_id = ? AND uid BETWEEN ? AND ? LIMIT ?"
_LIST = "SELECT uid FROM cdr WHERE account_id = ? AND uid IN (SELECT value FROM json_each(?))"
_ROWS = f"SELECT {COLUMNS} FROM cdr WHERE account_id = ? AND uid IN (SELECT value FROM json_each(?))"  # noqa: S608
_NOTE = f"INSERT INTO number ({NUMBER_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"  # noqa: S608


class SqliteRows:
    """SQLite's fast roads."""

    def forms(self, calls: Sequence[Cdr]) -> Sequence[tuple[Any, ...]]:
        """Each call as SQLite stores it."""
        return list(zip(*columns(calls), strict=True))

    def compare(self, connection: Connection, account_id: int, forms: Mapping[int, tuple[Any, ...]]) -> Known:
        """Read the page's rows back as they are stored."""
        with driver(connection) as raw:

            def among(first: int, last: int, limit: int) -> list[int]:
                return [uid for (uid,) in raw.execute(_RANGE, (account_id, first, last, limit))]

            def listed(uids: Sequence[int]) -> list[int]:
                return [uid for (uid,) in raw.execute(_LIST, (account_id, json.dumps(uids)))]

            known = Known(held_of(list(forms), among, listed))
            if known.uids:
                rows = raw.execute(_ROWS, (account_id, json.dumps(list(known.uids))))
                changed = [row[0] for row in rows if row != forms[row[0]]]
                known.different = read(connection, account_id, changed)
        return known

    def insert(self, connection: Connection, account_id: int, forms: Sequence[tuple[Any, ...]], now: datetime) -> None:
        """Write new calls with one prepared statement."""
        seen = str(now.astimezone(UTC))[:-6]
        with driver(connection) as raw:
            raw.executemany(f"{_INSERT} VALUES ({account_id}, {_VALUES}, '{seen}', '{seen}')", forms)

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
