"""The data dictionary: every table, view and column with its type and meaning.

One source each: the comments of `tables` and those of `migrations/views/*.sql`. The migrations write the same into
the database, where it has comments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cdrsync.store.admin import views as readable
from cdrsync.store.admin.views import DescribedColumn
from cdrsync.store.schema.tables import metadata
from cdrsync.store.schema.types import Exact, Instant, JsonText, Pounds, WallTime

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Table

KINDS: tuple[tuple[type[Any], str], ...] = (
    (Exact, "text"),
    (JsonText, "json"),
    (Instant, "timestamptz"),
    (Pounds, "numeric"),
    (WallTime, "time"),
)
"""Our own column types by the names that PostgreSQL gives them; every other type is called what SQL calls it."""


@dataclass(frozen=True, slots=True)
class Described:
    """A table or view (`kind`) with its columns in their order."""

    name: str
    kind: str
    comment: str
    columns: tuple[DescribedColumn, ...]


def dictionary() -> list[Described]:
    """Everything that can be read: the views first, they are what people mean."""
    return [*views(), *tables()]


def views() -> list[Described]:
    return [Described(view.name, "view", view.comment, view.columns) for view in readable.views()]


def tables() -> list[Described]:
    """The tables, `cdr` first."""
    order = sorted(metadata.tables.values(), key=lambda table: (table.name != "cdr", table.name))
    return [Described(table.name, "table", table.comment or "", _columns(table)) for table in order]


def markdown(described: Iterable[Described]) -> str:
    """The dictionary as Markdown: a heading and a table for each."""
    parts = []
    for one in described:
        rows = "\n".join(f"| {c.name} | {c.type} | {_cell(c.comment)} |" for c in one.columns)
        parts.append(
            f"## {one.name} ({one.kind})\n\n{one.comment}.\n\n| column | type | meaning |\n|---|---|---|\n{rows}\n"
        )
    return "\n".join(parts)


def _columns(table: Table) -> tuple[DescribedColumn, ...]:
    return tuple(DescribedColumn(column.name, type_name(column.type), column.comment or "") for column in table.columns)


def type_name(kind: object) -> str:
    """A column type as PostgreSQL calls it."""
    for ours, name in KINDS:
        if isinstance(kind, ours):
            return name
    return str(kind).lower()


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
