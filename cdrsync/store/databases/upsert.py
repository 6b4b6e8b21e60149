"""The statements that say "insert, or else": the same meaning in each dialect's own words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, case, func, null

from cdrsync.store.schema.tables import checkpoint, coverage, reject
from cdrsync.store.schema.types import MYSQL_FAMILY

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Insert, Table
    from sqlalchemy.dialects import postgresql, sqlite

    New = Callable[[str], ColumnElement[Any]]
    """The value that the refused row would have had in a column."""


def upsert(dialect: str, table: Table, key: list[str], changes: Callable[[New], dict[str, Any]]) -> Insert:
    """INSERT that, where the key is there already, makes `changes` to the row instead.

    The order of `changes` matters on MySQL: an assignment sees what those before it have set.
    """
    if dialect in MYSQL_FAMILY:
        from sqlalchemy.dialects import mysql

        statement = mysql.insert(table)
        return statement.on_duplicate_key_update(
            list(changes(lambda name: statement.inserted[name]).items())  # a list keeps its order
        )
    plain = _plain(dialect, table)
    return plain.on_conflict_do_update(index_elements=key, set_=changes(lambda name: plain.excluded[name]))


def _plain(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)
    from sqlalchemy.dialects import sqlite

    return sqlite.insert(table)


def count_day(dialect: str) -> Insert:
    """Add to the ledger of a day; what an audit and the operator said of it holds no longer."""
    return upsert(
        dialect,
        coverage,
        ["account_id", "call_date"],
        lambda new: {
            **{name: coverage.c[name] + new(name) for name in ("calls", "duration", "charge")},
            "verdict": new("verdict"),
            **{f"operator_{name}": null() for name in ("calls", "duration", "charge")},
        },
    )


def complete_day(dialect: str) -> Insert:
    """Say when a day was last read to its end."""
    return upsert(dialect, coverage, ["account_id", "call_date"], lambda new: {"downloaded_at": new("downloaded_at")})


def keep_reject(dialect: str) -> Insert:
    """Keep a record once; seen again, it is counted, and open once more."""
    return upsert(
        dialect,
        reject,
        ["account_id", "fingerprint"],
        lambda new: {
            "seen": reject.c.seen + new("seen"),
            "last_seen_at": new("last_seen_at"),
            "problem": new("problem"),
            "resolved_at": null(),
        },
    )


def move_checkpoint(dialect: str) -> Insert:
    """Move a checkpoint; its high-water mark, and when it was reached, only ever upwards."""

    def changes(new: New) -> dict[str, Any]:
        held = func.coalesce(checkpoint.c.high_water_uid, -1)
        higher = func.coalesce(new("high_water_uid"), -1) > held
        was, ended = checkpoint.c.high_water_ended_at, new("high_water_ended_at")
        later = case((ended.is_(None), was), (was.is_(None), ended), (ended > was, ended), else_=was)
        return {
            "high_water_ended_at": later,
            "high_water_uid": case((higher, new("high_water_uid")), else_=checkpoint.c.high_water_uid),
            **{name: new(name) for name in ("window_first", "window_last", "begun_at", "done", "updated_at")},
        }

    return upsert(dialect, checkpoint, ["account_id", "stream"], changes)
