"""The statements of a page that say "insert, or else"."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, false, func, null

from cdrsync.store.schema.tables import checkpoint, coverage, reject

if TYPE_CHECKING:
    from sqlalchemy import Insert

    from cdrsync.store.databases.port import DatabaseKind, New

FIGURES = ("calls", "duration", "charge")


@functools.cache
def count_day(kind: DatabaseKind) -> Insert:
    """Add to the ledger of a day; what an audit, the operator and a person said of it holds no longer."""
    return kind.upsert(
        coverage,
        ["account_id", "call_date"],
        lambda new: {
            **{name: coverage.c[name] + new(name) for name in FIGURES},
            "verdict": new("verdict"),
            "summed": false(),
            **{f"{who}_{name}": null() for who in ("operator", "accepted") for name in FIGURES},
        },
    )


@functools.cache
def complete_day(kind: DatabaseKind) -> Insert:
    """Say when a day was last read to its end: never earlier than before, where the host's clock was set back.

    Else a day that is read again would count as unread since a moment that the fast clock had named.
    """

    def changes(new: New) -> dict[str, Any]:
        was, now = coverage.c.downloaded_at, new("downloaded_at")
        return {"downloaded_at": case((was > now, was), else_=now)}

    return kind.upsert(coverage, ["account_id", "call_date"], changes)


def keep_reject(kind: DatabaseKind) -> Insert:
    """Keep a record once; seen again, it is counted, and open once more."""
    return kind.upsert(
        reject,
        ["account_id", "fingerprint"],
        lambda new: {
            "seen": reject.c.seen + new("seen"),
            "last_seen_at": new("last_seen_at"),
            "problem": new("problem"),
            "resolved_at": null(),
        },
    )


@functools.cache
def move_checkpoint(kind: DatabaseKind) -> Insert:
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

    return kind.upsert(checkpoint, ["account_id", "stream"], changes)
