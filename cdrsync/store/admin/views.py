"""The views: one SQL template for each in `migrations/views`, with the type and meaning of every column beside it.

    -- What the view is
    CREATE VIEW name AS
    SELECT
        {hour: cdr.call_time} AS call_hour,  -- integer: Hour of call_time, 0 to 23

`{name: argument; …}` is what `common.toml` says for all of them, or what the databases say differently: `DATABASE.toml`
says how. Views are no history: the newest migration makes them all, an older one makes none.
"""

from __future__ import annotations

import functools
import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from cdrsync.store.databases.choose import kind_of
from cdrsync.store.databases.errors import translated
from cdrsync.store.schema.tables import metadata
from cdrsync.store.schema.versions import head, migrations_directory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Engine

ORDER = (
    *("calls", "calls_daily", "calls_hourly", "numbers", "numbers_daily", "destinations_daily", "callbacks"),
    *("calendar", "hours", "call_reasons", "changes", "coverage_daily"),
)

_COMMENT = re.compile(r"\A((?:-- .*\n)+)CREATE VIEW")
_COLUMN = re.compile(r" AS (\w+),?\s+-- (\w+): (.*(?:\n +-- .*)*)")
_NAME = re.compile(r"\{([a-z]\w*)(?:: ([^{}]*))?\}")


@dataclass(frozen=True, slots=True)
class DescribedColumn:
    """A column: its name, its type in PostgreSQL's words, its meaning."""

    name: str
    type: str
    comment: str


@dataclass(frozen=True, slots=True)
class View:
    """A view: its comment, its columns and its SQL."""

    name: str
    comment: str
    columns: tuple[DescribedColumn, ...]
    template: str

    def statement(self, dialect: str) -> str:
        """CREATE VIEW in the words of a database: postgresql, mysql, mariadb or sqlite."""
        statement = said(self.template, dialect)
        return statement.replace("CREATE VIEW", kind_of(dialect).create_view, 1)


def said(template: str, dialect: str) -> str:
    """SQL with every `{name}` as a database says it, the innermost first."""
    words = _words(dialect)

    def say(found: re.Match[str]) -> str:
        words_of_name = words[found[1]].strip()
        for place, argument in enumerate((found[2] or "").split("; ")):
            words_of_name = words_of_name.replace(f"{{{place}}}", argument)
        return words_of_name

    while _NAME.search(template):
        template = _NAME.sub(say, template)
    return template


def views() -> list[View]:
    """Every view, those that people ask first in front."""
    return [_read(name) for name in ORDER]


def tables_read() -> list[str]:
    statements = " ".join(view.statement("mysql") for view in views())
    return [name for name in sorted(metadata.tables) if re.search(rf"\b(FROM|JOIN) {name}\b", statements)]


def broken(engine: Engine) -> list[str]:
    """The views that can't be read, or hold the place of one that a restore did not get to.

    Raises DatabaseUnavailable; ConfigError where MySQL and MariaDB say that this user may not read one.
    """
    with translated():
        return [name for name in ORDER if not _works(engine, name)]


def _works(engine: Engine, name: str) -> bool:
    kind = kind_of(engine.dialect.name)
    try:
        with engine.connect() as connection:
            columns = connection.execute(text(f"SELECT * FROM {name} {kind.of_no_rows}")).keys()  # noqa: S608 - our own name
            as_ours = list(columns) == [column.name for column in _read(name).columns]
            return as_ours and not kind.is_stand_in(connection, name)
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        return False


def make(op: Any, revision: str) -> None:
    """Make the views with the operations of a migration, if it is the newest."""
    if revision != head():
        return
    dialect = op.get_context().dialect.name
    kind = kind_of(dialect)
    if "OR REPLACE" not in kind.create_view:
        drop(op)
    for view in views():
        _execute(op, view.statement(dialect))
        if kind.comments_views:
            said_of = [("VIEW", view.name, view.comment)]
            said_of += [("COLUMN", f"{view.name}.{column.name}", column.comment) for column in view.columns]
            _execute(op, "; ".join(f"COMMENT ON {what} {name} IS {_quoted(words)}" for what, name, words in said_of))


def drop(op: Any) -> None:
    """Take the views away: a migration can't change what they read while they are there."""
    for name in reversed(ORDER):
        _execute(op, f"DROP VIEW IF EXISTS {name}")


def _read(name: str) -> View:
    template = (migrations_directory() / "views" / f"{name}.sql").read_text(encoding="utf-8")
    comment = _COMMENT.match(template)
    if comment is None:
        raise ValueError(f"{name}.sql does not begin with what the view is")
    described = _COLUMN.findall(said(template, "sqlite"))  # its driver is always there; the columns are the same
    columns = tuple(DescribedColumn(column, kind, _joined(meaning)) for column, kind, meaning in described)
    return View(name, _joined(comment[1]), columns, template)


@functools.cache
def _words(dialect: str) -> Mapping[str, str]:
    folder = migrations_directory() / "views"
    names = ("common", kind_of(dialect).words)
    common, different = (tomllib.loads((folder / f"{name}.toml").read_text("utf-8")) for name in names)
    return common | different


def _joined(lines: str) -> str:
    return " ".join(line.strip().removeprefix("-- ") for line in lines.splitlines())


def _execute(op: Any, statement: str) -> None:
    op.execute(text(statement.replace(":", "\\:")))  # an escaped colon is no parameter


def _quoted(meaning: str) -> str:
    return "'" + meaning.replace("'", "''") + "'"
