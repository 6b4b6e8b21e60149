"""The one place that knows which databases there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdrsync.store.schema.types import MYSQL_FAMILY

if TYPE_CHECKING:
    from cdrsync.store.databases.port import Rows


def rows_for(dialect: str) -> Rows:
    """Make the fast roads of a dialect. Only its own driver is imported."""
    if dialect == "postgresql":
        from cdrsync.store.databases.postgresql import PostgresqlRows

        return PostgresqlRows()
    if dialect in MYSQL_FAMILY:
        from cdrsync.store.databases.mysql import MysqlRows

        return MysqlRows()
    from cdrsync.store.databases.sqlite import SqliteRows

    return SqliteRows()
