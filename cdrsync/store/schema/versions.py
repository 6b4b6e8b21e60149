"""The schema's version: which one the database has, and which one this program needs.

It is asked for at each start, so it is one SELECT, and the newest version is read from the names of the migrations.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

from cdrsync.errors import SchemaMismatch
from cdrsync.store.schema.tables import UNDER_THE_MIGRATIONS, lease, metadata

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

VERSION_TABLE = "alembic_version"
UPGRADE_HINT = "Run: cdrsync db upgrade"

UNRELEASED = ("0001_tables", "0002_erasure", "0003_views", "0004_quick_readers")
"""Schemas of before the first release, which nothing leads on from."""


def migrations_directory() -> Path:
    """Where the migrations lie: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[2]
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


def versions() -> list[str]:
    """Every schema version this program knows, oldest first: the file names of `migrations/versions`."""
    return sorted(path.stem for path in (migrations_directory() / "versions").glob("[0-9]*.py"))


def head() -> str:
    """The schema version this program needs."""
    return versions()[-1]


def current_on(connection: Connection) -> str | None:
    """Ask for the version right away: looking around in the catalogue first takes longer than all else at a start."""
    try:
        found = _found(connection)
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        with connection.begin():
            names = {*inspect(connection).get_table_names(), *inspect(connection).get_view_names()}
            if VERSION_TABLE not in names:
                _refuse_others(connection, names)
                return None
        found = _found(connection)  # another upgrader has just made it; whatever else was wrong is wrong again
    if len(found) > 1:
        raise SchemaMismatch("the database is versioned by something else", hint="Give cdrsync its own database")
    # MySQL commits each table by itself: a version table without a version is an upgrade that was cut off.
    return found[0] if found else None


def _found(connection: Connection) -> list[str]:
    with connection.begin():
        rows = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608 - our own name
        return [str(version) for version in rows.scalars()]


def _refuse_others(connection: Connection, names: set[str]) -> None:
    """Raise SchemaMismatch where a table or view of a database without a version is called like one of ours."""
    views = {path.stem for path in (migrations_directory() / "views").glob("*.sql")}
    alike = sorted(names & {*metadata.tables, *views})
    if set(alike) <= {table.name for table in UNDER_THE_MIGRATIONS}:  # another upgrader has just begun
        columns = inspect(connection).get_columns(lease.name) if lease.name in names else []
        if {column["name"] for column in columns} <= set(lease.columns.keys()):
            return
    raise SchemaMismatch(
        f"the database already has a table or view named {alike[0]} that is not cdrsync's",
        hint="Give cdrsync a database (or a PostgreSQL schema) of its own",
    )


def check_on(connection: Connection) -> None:
    """Raise SchemaMismatch unless the database has exactly this program's schema. Drivers' errors go through."""
    found, wanted = current_on(connection), head()
    if found == wanted:
        return
    if found is None:
        raise SchemaMismatch(f"the database has no schema yet, this program needs {wanted}", hint=UPGRADE_HINT)
    if found in versions():
        raise SchemaMismatch(f"the database has schema {found}, this program needs {wanted}", hint=UPGRADE_HINT)
    if found in UNRELEASED:
        raise SchemaMismatch(
            f"the database has schema {found} of before the first release, which can't be upgraded",
            hint="Give cdrsync a new database and sync again: the operator keeps the calls",
        )
    raise SchemaMismatch(
        f"the database has schema {found}, which this program does not know: its newest is {wanted}",
        hint="Upgrade cdrsync, or give it a database of its own",
    )
