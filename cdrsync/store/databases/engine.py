"""How a database is opened: what each driver must be told, and what its errors mean to us.

SQLite: write-ahead log, so that readers never wait for the writer, with `synchronous=FULL`: a commit that was reported
survives a power cut. A connection whose file was replaced by another, or removed, is not used again. PostgreSQL and
MySQL: sessions speak UTC, and nothing is read twice within a transaction that would need more than READ COMMITTED,
because one writer per account holds the lease.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import NullPool, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    NoSuchModuleError,
)

from cdrsync.errors import ConfigError
from cdrsync.store.databases.port import WRITER
from cdrsync.store.databases.postgresql import _refuse_small_alphabets
from cdrsync.store.databases.sqlite import (
    BUSY_SECONDS,
    _set_up_sqlite,
)
from cdrsync.store.schema.types import MYSQL_FAMILY

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}  # those of a scheme that names none
CONNECT_SECONDS = 10
READER_POOL = 5  # connections of the status page and the commands that only read
EXTRAS = {"postgresql": ("psycopg", "postgres"), "mysql": ("pymysql", "mysql"), "mariadb": ("pymysql", "mysql")}
JOINED_BYTES = 2**26  # of the texts that MySQL joins into one; max_allowed_packet may well be less


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


def _on_connect(engine: Engine, *statements: str) -> None:
    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, record: Any) -> None:
        del record
        with contextlib.closing(connection.cursor()) as cursor:
            for statement in statements:
                cursor.execute(statement)
        connection.commit()
