"""The schema's version: brought up to date, or refused with both versions and the command that helps.

The migrations lie in `migrations/`, in the wheel as in a checkout. Alembic is imported only when there is something
to do: whether the schema is current is one SELECT, and the newest version is read from the file names.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

from cdrsync.errors import DatabaseUnavailable, SchemaMismatch
from cdrsync.store.databases.errors import translated
from cdrsync.store.databases.port import WRITER
from cdrsync.store.schema.tables import metadata
from cdrsync.store.schema.types import MYSQL_FAMILY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection, Engine

VERSION_TABLE = "alembic_version"
UPGRADE_LOCK = 0x6364_7273_796E_6300  # "cdrsync" in ASCII
UPGRADE_LOCK_NAME = "cdrsync:upgrade"
LOCK_SECONDS = 120  # how long to wait for another upgrader
UPGRADE_HINT = "Run: cdrsync db upgrade"

_alembic_in_use = threading.Lock()  # Alembic's context is a global of the process


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


def current(engine: Engine) -> str | None:
    """The schema version of the database, None where it has none. Raises SchemaMismatch, DatabaseUnavailable."""
    with translated(), engine.connect() as connection:
        return _current(connection)


def check(engine: Engine) -> None:
    """Raises SchemaMismatch unless the database has exactly this program's schema; DatabaseUnavailable."""
    with translated(), engine.connect() as connection:
        check_on(connection)


def check_on(connection: Connection) -> None:
    """The same on a connection that is open. Raises SchemaMismatch, DBAPIError."""
    found, wanted = _current(connection), head()
    if found == wanted:
        return
    if found is None:
        raise SchemaMismatch(f"the database has no schema yet, this program needs {wanted}", hint=UPGRADE_HINT)
    if found in versions():
        raise SchemaMismatch(f"the database has schema {found}, this program needs {wanted}", hint=UPGRADE_HINT)
    raise SchemaMismatch(
        f"the database has schema {found}, which this program does not know: its newest is {wanted}",
        hint="Upgrade cdrsync, or give it a database of its own",
    )


def ensure(engine: Engine, *, auto: bool) -> bool:
    """The schema is current when this returns; True if it had to be upgraded.

    An empty database or an older schema is upgraded if `auto`. Raises SchemaMismatch otherwise, and always for a
    newer schema or one that is not ours.
    """
    found = current(engine)
    if found == head():
        return False
    if not auto or (found is not None and found not in versions()):
        check(engine)
    upgrade(engine)
    return True


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring the schema to a version, by default the newest. Raises SchemaMismatch, DatabaseUnavailable."""
    found = current(engine)
    if found is not None and found not in versions():
        check(engine)
    _alembic(engine, "upgrade", revision)


def downgrade(engine: Engine, revision: str) -> None:
    """Take the schema back to an older version; "base" removes every table of ours."""
    current(engine)
    _alembic(engine, "downgrade", revision)


def alembic_config() -> Any:
    """An Alembic Config for these migrations, without a file."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(migrations_directory()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


@contextlib.contextmanager
def upgrade_lock(connection: Connection) -> Iterator[None]:
    """Hold off a second upgrader. Released with the connection, so a killed upgrader blocks nobody.

    SQLite needs none but the write lock that the migrations' own transaction begins with.
    Raises DatabaseUnavailable if another upgrader is not done within LOCK_SECONDS.
    """
    dialect = connection.dialect.name
    if dialect == "sqlite":
        connection.execution_options(**{WRITER: True})
        yield
        return
    if dialect == "postgresql":
        connection.exec_driver_sql(f"SET lock_timeout = '{LOCK_SECONDS}s'")
        take, give = text("SELECT pg_advisory_lock(:key) IS NULL"), text("SELECT pg_advisory_unlock(:key)")
        key: Any = {"key": UPGRADE_LOCK}
    else:
        take = text(f"SELECT GET_LOCK(CONCAT(DATABASE(), :key), {LOCK_SECONDS})")
        give = text("SELECT RELEASE_LOCK(CONCAT(DATABASE(), :key))")
        key = {"key": UPGRADE_LOCK_NAME}
    taken = connection.execute(take, key).scalar()
    connection.commit()
    if dialect in MYSQL_FAMILY and taken != 1:
        raise DatabaseUnavailable(f"another upgrade of the schema is still running after {LOCK_SECONDS} seconds")
    try:
        yield
    finally:
        if not connection.invalidated and not connection.closed:
            connection.rollback()
            connection.execute(give, key)
            connection.commit()


def _current(connection: Connection) -> str | None:
    """Ask for the version right away: looking around in the catalogue first takes longer than all else at a start."""
    try:
        found = _found(connection)
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        with connection.begin():
            names = set(inspect(connection).get_table_names())
        if VERSION_TABLE not in names:
            _refuse_others(names)
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


def _refuse_others(names: set[str]) -> None:
    """Raise SchemaMismatch where a table of a database without a version is called like one of ours."""
    alike = sorted(names & set(metadata.tables))
    if alike:
        raise SchemaMismatch(
            f"the database already has a table named {alike[0]} that is not cdrsync's",
            hint="Give cdrsync a database (or a PostgreSQL schema) of its own",
        )


def _alembic(engine: Engine, command: str, revision: str) -> None:
    from alembic import command as commands

    config = alembic_config()
    with _alembic_in_use, translated(), engine.connect() as connection:
        config.attributes["connection"] = connection
        getattr(commands, command)(config, revision)
