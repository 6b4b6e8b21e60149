"""Eyes to look into a database's tables and views: they see the same in each kind of database."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import Table, select, text

from cdrsync.model import Cdr
from cdrsync.store.schema import tables

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine, Row


@dataclass
class Eyes:
    """Reads the tables over a connection of its own."""

    engine: Engine

    def rows(self, table: Table) -> list[Row[Any]]:
        """Every row, by primary key."""
        with self.engine.connect() as connection:
            return list(connection.execute(select(table).order_by(*table.primary_key.columns)))

    def cdrs(self) -> list[Cdr]:
        """Every call as the API said it."""
        return [Cdr._make(getattr(row, name) for name in Cdr._fields) for row in self.rows(tables.cdr)]


_SAME = frozenset({int, str, type(None)})  # what all databases say alike, quickly seen


def seen(engine: Engine, query: str) -> list[dict[str, Any]]:
    """The rows of a query, each value as all three databases would say it."""
    with engine.connect() as connection:
        found = connection.execute(text(query))
        names = tuple(found.keys())
        return [
            {name: value if type(value) in _SAME else alike(value) for name, value in zip(names, row, strict=True)}
            for row in found.all()
        ]


def alike(value: object) -> object:
    """A value as all databases would say it."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, datetime):
        return str(value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value)
    if isinstance(value, timedelta):  # MySQL's time of day
        return str((datetime(2000, 1, 1) + value).time())  # noqa: DTZ001 - only the time is used
    if isinstance(value, Decimal | float):
        return f"{Decimal(str(value)).normalize():f}"  # a float's 15 digits are the exact cost
    if isinstance(value, dict):  # PostgreSQL's json
        return json.dumps(value, separators=(",", ":"))
    return str(value) if isinstance(value, date | time) else value
