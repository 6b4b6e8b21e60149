"""How a database is opened: what each driver must be told, and what its errors mean to us.

SQLite: write-ahead log, so that readers never wait for the writer, with `synchronous=FULL`: a commit that was reported
survives a power cut. A connection whose file was replaced by another, or removed, is not used again. PostgreSQL and
MySQL: sessions speak UTC, and nothing is read twice within a transaction that would need more than READ COMMITTED,
because one writer per account holds the lease.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import NullPool, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    DisconnectionError,
    InterfaceError,
    InternalError,
    NoSuchModuleError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from cdrsync.errors import ConfigError, DatabaseUnavailable
from cdrsync.store.kinds import MYSQL_FAMILY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection, Engine

DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}  # those of a scheme that names none
BROKEN_FILES = {
    sqlite3.SQLITE_NOTADB: ("is not a SQLite database", "Name another file in database_url"),
    sqlite3.SQLITE_CORRUPT: ("is damaged", "Restore its backup, or move it away and sync into a new one"),
}
PRIMARY_CODE = 0xFF  # of SQLite's result codes; the bits above tell kinds apart
BUSY_PAUSE = 0.02  # seconds between two attempts to set up a file that is locked
BUSY_SECONDS = 15  # how long SQLite waits for another writer
CONNECT_SECONDS = 10
READER_POOL = 5  # connections of the status page and the commands that only read
EXTRAS = {"postgresql": ("psycopg", "postgres"), "mysql": ("pymysql", "mysql"), "mariadb": ("pymysql", "mysql")}
ENCODINGS = ("UTF8", "SQL_ASCII")  # of PostgreSQL's databases: those that take any text
SQLITE_PRAGMAS = (
    "page_size=16384",  # of a new file: a quarter smaller than with 4096, and a tenth faster to fill
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "cache_size=-8000",  # kilobytes: the inner pages of a few million calls' indexes; more is hardly faster
    "wal_autocheckpoint=2500",  # pages, 40 MB: a catch-up writes each page of an index less often
)
JOINED_BYTES = 2**26  # of the texts that MySQL joins into one; max_allowed_packet may well be less
SQLITE_FILE = "cdrsync_file"  # in a connection's info: the identity of the file that it has open
WRITER = "cdrsync_writer"  # execution option: this connection begins as a writer

# SQLSTATEs and MySQL error numbers that pass by themselves although the driver does not call them operational.
_PASSING_STATES = ("40001", "40P01", "55P03", "57014", "57P", "53", "08", "25006", "25P03", "25P04", "58", "XX0")
_PASSING_NUMBERS = (1045, 1049, 1203, 1226)  # MySQL: wrong user or password, no such database, too many of its sessions
_GENERAL_STATE = "HY000"  # MySQL says so of lock waits and full disks, as of much else
_NO_PRIVILEGE = ("42501", 1044, 1142, 1143, 1227)


def open_engine(url: str, *, writer: bool = False) -> Engine:
    """An engine for a database URL; nothing is connected yet.

    A `writer`'s engine has no pool: a connection that died must not come back without its lease.
    Raises ConfigError for a URL that can't be read or whose driver is not installed.
    """
    parsed = _parsed(url)
    backend = parsed.get_backend_name()
    options: dict[str, Any] = {"connect_args": _connect_arguments(parsed)}
    if writer:
        options["poolclass"] = NullPool
    elif backend != "sqlite":
        options |= {"pool_size": READER_POOL, "max_overflow": 0, "pool_timeout": CONNECT_SECONDS, "pool_pre_ping": True}
    if backend != "sqlite":
        options["isolation_level"] = "READ COMMITTED"
    try:
        engine = create_engine(parsed, **options)
    except ModuleNotFoundError as error:
        module, extra = EXTRAS.get(backend, (str(error.name), ""))
        raise ConfigError(
            [f"database_url needs the module {module}, which is not installed"],
            hint=f"pip install 'cdrsync[{extra}]'" if extra else None,
        ) from None
    if backend == "sqlite":
        _set_up_sqlite(engine)
    elif backend == "postgresql":
        event.listen(engine, "connect", _refuse_small_alphabets)
        _on_connect(engine, "SET TIME ZONE 'UTC'", "SET DateStyle = 'ISO, YMD'")
    else:
        _on_connect(
            engine,
            "SET SESSION time_zone = '+00:00', sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,"
            f"ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', group_concat_max_len = {JOINED_BYTES}",
        )
    return engine if not writer else engine.execution_options(**{WRITER: True})


def safe_url(url: str | URL) -> str:
    """The URL without its password, for messages."""
    return make_url(url).render_as_string(hide_password=True)


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """The one place where a driver's error becomes ours. What is not named here is a bug and goes through.

    Raises DatabaseUnavailable for lost connections, restarts, deadlocks, lock waits, full disks, read-only databases;
    ConfigError where a person must act: the user lacks a privilege, or SQLite's file is damaged or none.
    """
    try:
        yield
    except PoolTimeout as error:
        raise DatabaseUnavailable("no free connection to the database") from error
    except DisconnectionError as error:
        raise DatabaseUnavailable(f"the database can't be used: {_one_line(error)}") from error
    except DBAPIError as error:
        if isinstance(error.orig, sqlite3.Error):
            _refuse_broken_file(error.orig)
        if _code(error) in _NO_PRIVILEGE:
            raise ConfigError([f"the database's user has too few rights: {_one_line(error.orig or error)}"]) from error
        if not passes_by_itself(error):
            raise
        raise DatabaseUnavailable(f"the database can't be used: {_one_line(error.orig or error)}") from error


def _refuse_broken_file(error: sqlite3.Error) -> None:
    """Raise ConfigError where no trying again makes the file a whole database."""
    code = getattr(error, "sqlite_errorcode", 0) & PRIMARY_CODE  # the module's own errors have none
    if code in BROKEN_FILES:
        problem, hint = BROKEN_FILES[code]
        raise ConfigError([f"the database's file {problem}: {_one_line(error)}"], hint=hint) from error


def passes_by_itself(error: DBAPIError) -> bool:
    """True for what is the database's state, not our statement's or our value's fault."""
    if error.connection_invalidated:
        return True
    state = getattr(error.orig, "sqlstate", None)
    if state and state != _GENERAL_STATE and _code(error) not in _PASSING_NUMBERS:
        return str(state).startswith(_PASSING_STATES)
    return isinstance(error, OperationalError | InterfaceError | InternalError) and not _programming(error)


def _code(error: DBAPIError) -> object:
    """PostgreSQL's state, or MySQL's number."""
    arguments = error.orig.args if error.orig else ()
    return arguments[0] if arguments and isinstance(arguments[0], int) else getattr(error.orig, "sqlstate", None)


def _programming(error: DBAPIError) -> bool:
    """True for SQLite's "no such table", which it calls operational."""
    return str(error.orig).startswith(("no such ", "near ", "table ", "duplicate column"))


def _one_line(error: BaseException) -> str:
    """A driver's message without line breaks and statement."""
    arguments = error.args
    if len(arguments) > 1 and isinstance(arguments[1], str):  # PyMySQL: (number, text)
        return f"{arguments[1]} ({arguments[0]})"
    return " ".join(str(error).split())


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
        if parsed.drivername in DRIVERS:
            parsed = parsed.set(drivername=f"{backend}+{DRIVERS[backend]}")
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise ConfigError(
            ["database_url can't be read"],
            hint="sqlite:///file.db, postgresql+psycopg://user@host/name or mysql+pymysql://user@host/name",
        ) from None
    except ModuleNotFoundError:
        return parsed
    if backend not in ("sqlite", *EXTRAS):
        raise ConfigError([f"database_url names {backend}: cdrsync knows SQLite, PostgreSQL, MySQL and MariaDB"])
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise ConfigError(["database_url names no file: what SQLite holds in memory is lost at the end"])
    if backend == "sqlite" and Path(parsed.database or "").is_dir():
        raise ConfigError([f"database_url names a directory, not a file: {parsed.database}"])
    return parsed


def _connect_arguments(url: URL) -> dict[str, Any]:
    backend = url.get_backend_name()
    if backend == "postgresql":
        # Keep-alives find a dead server within seconds, and a server that set them finds a dead cdrsync. A database
        # in SQL_ASCII (initdb where no locale is set) would hand out bytes for text if the encoding were not said.
        return {
            "application_name": "cdrsync",
            "client_encoding": "utf8",
            "connect_timeout": CONNECT_SECONDS,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
        }
    if backend in MYSQL_FAMILY:
        # To be ready for TLS, PyMySQL loads every certificate authority; a socket of this machine has no use for it.
        # What the URL says of TLS stays as it is: an argument here would override it.
        local = "unix_socket" in url.query and not any(name.startswith("ssl") for name in url.query)
        plain = {"ssl_disabled": True} if local else {}
        return {"charset": "utf8mb4", "connect_timeout": CONNECT_SECONDS, **plain}
    return {"timeout": BUSY_SECONDS, "check_same_thread": False}


def _refuse_small_alphabets(connection: Any, record: Any) -> None:
    """Names come in any script, and what a database can't hold must fit into its table of rejects at least."""
    del record
    encoding = connection.info.parameter_status("server_encoding")
    if encoding not in ENCODINGS:
        raise ConfigError(
            [f"the database {connection.info.dbname} is in {encoding}, which can't hold every name"],
            hint=f"createdb --encoding=UTF8 --template=template0 {connection.info.dbname}_utf8",
        )


def _on_connect(engine: Engine, *statements: str) -> None:
    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, record: Any) -> None:
        del record
        with contextlib.closing(connection.cursor()) as cursor:
            for statement in statements:
                cursor.execute(statement)
        connection.commit()


def _set_patiently(connection: Any, pragma: str) -> None:
    """Run a PRAGMA, again while the file is locked: SQLite's own timeout does not cover the change to WAL."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute(pragma)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & PRIMARY_CODE != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(BUSY_PAUSE)
        else:
            return


def sqlite_path(url: URL) -> Path:
    """The file that a SQLite URL names."""
    return Path(str(url.database).removeprefix("file:"))


def sqlite_file_identity(url: URL) -> tuple[int, int] | None:
    """Which file SQLite opens by this URL now: its device and inode; None where there is none of that name."""
    try:
        found = sqlite_path(url).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _set_up_sqlite(engine: Engine) -> None:
    opened: tuple[int, int] | None = None  # the file of the last connection

    @event.listens_for(engine, "do_connect")
    def _make_none_anew(dialect: Any, record: Any, arguments: Any, options: Any) -> None:
        del dialect, record, arguments, options
        if opened is not None and sqlite_file_identity(engine.url) is None:  # SQLite would make an empty one
            raise DatabaseUnavailable(f"the database file {sqlite_path(engine.url)} is gone", hint="Put it back")

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, record: Any) -> None:
        nonlocal opened
        record.info[SQLITE_FILE] = opened = sqlite_file_identity(engine.url)
        connection.isolation_level = None  # transactions begin where SQLAlchemy says so, below
        for pragma in SQLITE_PRAGMAS:
            _set_patiently(connection, f"PRAGMA {pragma}")

    @event.listens_for(engine, "checkout")
    def _is_of_this_file(connection: Any, record: Any, proxy: Any) -> None:
        del connection, proxy
        if record.info[SQLITE_FILE] != sqlite_file_identity(engine.url):
            raise DisconnectionError("the database file was replaced")  # the pool opens the one that is there now

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A writer takes the write lock at once: two that both began as readers would deadlock.
        immediate = connection.get_execution_options().get(WRITER)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
