"""What an operator has of an account, and what a SQLite database holds of it."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.operator import World


def held(file: Path) -> set[int]:
    """The uids in a SQLite database; none before there is a table."""
    if not file.exists():
        return set()
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        try:
            return {uid for (uid,) in connection.execute("SELECT uid FROM cdr")}
        except sqlite3.OperationalError:
            return set()


def uids(world: World, username: str | None = None) -> set[int]:
    return {call.uid for call in world.records(username)}
