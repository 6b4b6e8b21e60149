"""The schema: brought up to date, or refused with both versions and the command that helps.

Alembic is imported only when there is something to do: whether the schema is current is one SELECT.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect, text
from sqlalchemy.exc import DBAPIError

from cdrsync.errors import DatabaseUnavailable, SchemaMismatch
from cdrsync.store.admin import views
from cdrsync.store.admin.versions import UNRELEASED, head, migrations_directory, versions
from cdrsync.store.databases.choose import MYSQL_FAMILY
from cdrsync.store.databases.errors import translated
from cdrsync.store.databases.port import WRITER
from cdrsync.store.schema.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection, Engine

VERSION_TABLE = "alembic_version"
UPGRADE_LOCK = 0x6364_7273_796E_6300  # "cdrsync" in ASCII
UPGRADE_LOCK_NAME = "cdrsync:upgrade"
LOCK_SECONDS = 120  # how long to wait for another upgrader
UPGRADE_HINT = "Run: cdrsync db upgrade"

_alembic_in_use = threading.Lock()  # Alembic's context is a global of the process


def current(engine: Engine) -> str | None:
    """The schema version of the database, None where it has none."""
    with translated(), engine.connect() as connection:
        return _current(connection)


def check(engine: Engine) -> None:
    """Raises SchemaMismatch unless the database has exactly this program's schema."""
    with translated(), engine.connect() as connection:
        check_on(connection)


def check_on(connection: Connection) -> None:
    """The same on a connection that is open. Raises DBAPIError."""
    found, wanted = _current(connection), head()
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


def ensure(engine: Engine, *, auto: bool) -> bool:
    """The schema is current when this returns; True if it had to be upgraded.

    An empty database or an older schema is upgraded if `auto`. Raises SchemaMismatch for any other.
    """
    found = current(engine)
    if found == head():
        return False
    if not auto or (found is not None and found not in versions()):
        check(engine)
    upgrade(engine)
    return True


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring the schema to a version, by default the newest. Where it is the newest, its views are made anew.

    Raises SchemaMismatch.
    """
    found = current(engine)
    if found is not None and found not in versions():
        check(engine)
    if found == head() and revision == "head":
        _make_views(engine)
    else:
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


def _make_views(engine: Engine) -> None:
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    with translated(), engine.connect() as connection, upgrade_lock(connection):
        views.make(Operations(MigrationContext.configure(connection)), head())
        connection.commit()
