"""SQL that SQLAlchemy has written for one SQLite database is not written again for the next test's.

An engine keeps what it has compiled, but each test has engines of its own. Sharing saves tests of the store a sixth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.util import LRUCache

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

MOST = 1000  # statements; an engine keeps 500


class Compiled(LRUCache[Any, Any]):
    """By statement and kind of dialect. A dialect itself is an engine's own, though for one SQLite all write alike."""

    def get(self, key: Any, default: Any = None) -> Any:
        dialect, *statement = key
        return super().get((type(dialect), *statement), default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        dialect, *statement = key
        super().__setitem__((type(dialect), *statement), compiled)


def share_among_engines() -> None:
    """From now on, for every connection to SQLite of this process."""
    compiled = Compiled(MOST)

    @event.listens_for(Engine, "engine_connect")
    def _share(connection: Connection) -> None:
        if connection.dialect.name == "sqlite":
            connection.execution_options(compiled_cache=compiled)
