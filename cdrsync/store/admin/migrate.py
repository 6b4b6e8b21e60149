"""The schema: brought up to date, or refused with both versions and the command that helps.

Who upgrades takes the lease of the schema, as who writes takes an account's. Alembic is imported only when there is
something to do.
"""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect, update
from sqlalchemy.exc import DBAPIError

from cdrsync.errors import CdrsyncError, DatabaseUnavailable, LeaseLost
from cdrsync.store.admin import views
from cdrsync.store.databases.engine import open_engine, url_of
from cdrsync.store.databases.errors import again, translated
from cdrsync.store.databases.port import WRITER
from cdrsync.store.replica import Replica
from cdrsync.store.schema.tables import UNDER_THE_MIGRATIONS, lease, metadata
from cdrsync.store.schema.versions import (
    check_on,
    current_on,
    head,
    migrations_directory,
    versions,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Column
    from sqlalchemy.engine import Connection, Engine

    from cdrsync.store.lease import Lease

LOCK_SECONDS = 120.0  # how long to wait for another upgrader
AGAIN_HINT = "It is done again by itself; signal 9 comes also where there is too little memory"
LOCK_PAUSE = 0.2  # seconds between two attempts

_alembic_in_use = threading.Lock()  # Alembic's context is a global of the process


def current(engine: Engine) -> str | None:
    """The schema version of the database, None where it has none."""

    def read() -> str | None:
        with engine.connect() as connection:
            return current_on(connection)

    return again(read)


def check(engine: Engine) -> None:
    """Raises SchemaMismatch unless the database has exactly this program's schema."""
    with translated(), engine.connect() as connection:
        check_on(connection)


def ensure(engine: Engine, *, auto: bool, by: Callable[[Engine], object] | None = None) -> bool:
    """The schema is current when this returns; True if it had to be upgraded.

    An empty database or an older schema is upgraded (`by`) if `auto`. Raises SchemaMismatch for any other.
    """
    found = current(engine)
    if found == head():
        return False
    if not auto or (found is not None and found not in versions()):
        check(engine)
    (by or upgrade)(engine)
    return True


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring the schema to a version; one that is the newest gets its views anew. Raises SchemaMismatch."""
    found = current(engine)
    if found is not None and found not in versions():
        check(engine)
    if found == head() and revision == "head":
        _make_views(engine)
    else:
        _alembic(engine, "upgrade", revision)


def upgrade_apart(engine: Engine) -> None:
    """As `upgrade`, in a process of its own: what it needs, 25 MB, goes with it, which a daemon would keep.

    The address, with its password, goes by standard input; what went wrong comes back as it was raised.
    """
    url = url_of(engine).render_as_string(hide_password=False)
    command = [sys.executable, "-P", "-c", f"from {__name__} import upgrade_from_stdin; upgrade_from_stdin()"]
    done = subprocess.run(command, input=url.encode(), capture_output=True, check=False)  # noqa: S603 - this very program
    if done.returncode < 0:  # as by systemd, which ends every process of a service, or for want of memory
        raise DatabaseUnavailable(f"the upgrade of the schema was ended by signal {-done.returncode}", hint=AGAIN_HINT)
    if done.returncode:
        said = done.stderr.decode(errors="replace").splitlines()
        raise RuntimeError(f"the upgrade of the schema ended with {done.returncode}: {said[-1] if said else ''}")
    error = pickle.loads(done.stdout)  # noqa: S301 - our own process wrote it
    if error is not None:
        raise error


def upgrade_from_stdin() -> None:
    """The process of `upgrade_apart`: writes the error, or None, to standard output."""
    error = None
    engine = open_engine(sys.stdin.buffer.read().decode())
    try:
        upgrade(engine)
    except CdrsyncError as raised:
        error = raised
    finally:
        engine.dispose()
    sys.stdout.buffer.write(pickle.dumps(error))


def downgrade(engine: Engine, revision: str) -> None:
    """Take the schema back to an older version; "base" removes every table of ours."""
    current(engine)
    _alembic(engine, "downgrade", revision)


def add_column(op: Any, table: str, column: Column[Any]) -> None:
    """For migrations: add a column, unless an upgrade that was cut off has left it (MySQL commits each statement)."""
    offline = op.get_context().as_sql
    if offline or column.name not in {one["name"] for one in inspect(op.get_bind()).get_columns(table)}:
        op.add_column(table, column)


def alembic_config() -> Any:
    """An Alembic Config for these migrations, without a file."""
    from alembic.config import Config

    config = Config(stdout=sys.stdout)  # its default is the stream of the moment when Alembic was imported
    config.set_main_option("script_location", str(migrations_directory()).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


class UpgradeLock:
    """The schema's lease: holds off a second upgrader, and lets one that lost it finish nothing.

    An upgrade that was cut off is finished by the next one, as soon as the lease of the first is free or has ended.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lease: Lease | None = None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Raises DatabaseUnavailable if another upgrader is not done within LOCK_SECONDS."""
        engine = self._connection.engine
        self._connection.execution_options(**{WRITER: True})  # SQLite: the migrations' transaction is the only writer
        again(lambda: _make_tables(engine))
        replica = Replica(url_of(engine), connections=2)
        try:
            deadline = time.monotonic() + LOCK_SECONDS
            while (holder := replica.take_schema()) is not None:
                if time.monotonic() > deadline:
                    raise DatabaseUnavailable(f"{holder.peer.process} is still upgrading the schema")
                time.sleep(LOCK_PAUSE)
            self._lease = replica.lease("")
            yield
        finally:
            replica.leave()
        if current_on(self._connection) is None:  # the schema was taken back to nothing
            with self._connection.begin():
                metadata.drop_all(self._connection, tables=UNDER_THE_MIGRATIONS)

    def check(self, ctx: Any, step: Any, heads: Any, run_args: Any) -> None:
        """As Alembic calls it, within the transaction of a migration."""
        del ctx, step, heads, run_args
        self.confirm()

    def confirm(self) -> None:
        """Write the lease's row, within the caller's transaction. Raises LeaseLost where it is another's."""
        held = self._lease
        if held is not None:
            ours = (lease.c.account_id == held.account_id, lease.c.token == held.token)
            if not self._connection.execute(update(lease).where(*ours).values(commits=lease.c.commits + 1)).rowcount:
                raise LeaseLost("another process took the upgrade of the schema over")


def _make_tables(engine: Engine) -> None:
    """Make what the lease needs, which is there before the first migration. Another upgrader may do so just now."""
    before = set(inspect(engine).get_table_names())
    try:
        with engine.begin() as connection:
            metadata.create_all(connection, tables=UNDER_THE_MIGRATIONS)
    except DBAPIError:
        if set(inspect(engine).get_table_names()) == before:
            raise
        _make_tables(engine)


def _alembic(engine: Engine, command: str, revision: str) -> None:
    """Run a command, again where another node of a cluster interrupts it: migrations go on where one was cut off."""
    from alembic import command as commands

    def run() -> None:
        config = alembic_config()
        with _alembic_in_use, engine.connect() as connection:
            config.attributes["connection"] = connection
            getattr(commands, command)(config, revision)

    again(run)


def _make_views(engine: Engine) -> None:
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    def make() -> None:
        with engine.connect() as connection, UpgradeLock(connection).held():
            views.make(Operations(MigrationContext.configure(connection)), head())
            connection.commit()

    again(make)
