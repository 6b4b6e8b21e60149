"""The one place that knows which kinds of database there are. Of them only the one in use is imported."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from cdrsync.errors import ConfigError, install_hint

if TYPE_CHECKING:
    from cdrsync.store.databases.port import DatabaseKind


class _Known(NamedTuple):
    """Where a kind is described, and what it needs."""

    file: str  # a module of this package, with KIND in it
    driver: str  # the driver's module, by which SQLAlchemy's URLs name it, too: postgresql+psycopg
    extra: str  # of pyproject.toml, which brings the driver


_KNOWN = {
    "sqlite": _Known("sqlite", "sqlite3", ""),
    "postgresql": _Known("postgresql", "psycopg", "postgres"),
    **dict.fromkeys(("mysql", "mariadb"), _Known("mysql", "pymysql", "mysql")),
}
"""By the name that SQLAlchemy has for a dialect, which is the scheme of a URL, too."""


@cache
def kind_of(dialect: str) -> DatabaseKind:
    """The kind of database that a dialect speaks to. Raises ConfigError for an unknown one, or without its driver."""
    known = _KNOWN.get(dialect)
    if known is None:
        raise ConfigError([f"database_url names {dialect}: cdrsync knows {', '.join(_KNOWN)}"])
    try:
        import_module(known.driver)
    except ModuleNotFoundError:
        raise ConfigError(
            [f"database_url needs the module {known.driver}, which is not installed"],
            hint=install_hint(known.extra),
        ) from None
    kind: DatabaseKind = import_module(f"cdrsync.store.databases.{known.file}").KIND
    return kind


def kind_of_error(error: BaseException | None) -> DatabaseKind | None:
    module = type(error).__module__.partition(".")[0]
    return next((kind_of(dialect) for dialect, known in _KNOWN.items() if known.driver == module), None)


def driver_of(dialect: str) -> str | None:
    """The module of the driver that a URL means which names none; None for SQLAlchemy's own choice."""
    known = _KNOWN.get(dialect)
    return known.driver if known and known.extra else None
