"""How a database is opened. What each driver must be told stands in the file of its database."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from cdrsync.errors import ConfigError
from cdrsync.store.databases.choose import driver_of, kind_of
from cdrsync.store.databases.port import CONNECT_SECONDS, WRITER
from cdrsync.store.databases.silence import watch

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Engine


URL_HINT = "sqlite:///file.db, postgresql+psycopg://user@host/name or mysql+pymysql://user@host/name"
OPTION_HINT = "Leave the option away, or write it as the driver wants it"
POOL = 5  # connections of the status page, and of a command
_GIVEN = "cdrsync_url"  # execution option: the URL with what only we read of it


def _play_down(record: logging.LogRecord) -> bool:
    """The pool logs a traceback where it puts a dead connection away. That it is dead, whoever used it tells."""
    if record.exc_info:
        record.levelno, record.levelname, record.exc_info = logging.DEBUG, "DEBUG", None
    return True


logging.getLogger("sqlalchemy.pool.impl.QueuePool").addFilter(_play_down)


def open_engine(url: str | URL, *, writer: str = "", looks: bool = False, connections: int = POOL) -> Engine:
    """An engine with a pool of at most so many connections; nothing is connected yet.

    Nothing rests on a session: what must hold is an option of the connection, or is said anew in each transaction.
    `writer` names the replica whose pages go through it. Who `looks` does not wait for locks of others for long.
    Raises ConfigError for a URL that can't be read or whose driver is not installed.
    """
    parsed = _parsed(url)
    kind = kind_of(parsed.get_backend_name())
    pool: dict[str, Any] = {
        "pool_size": connections,
        "max_overflow": 0,
        "pool_timeout": CONNECT_SECONDS,
        "pool_use_lifo": True,  # few connections are kept busy: the server, or a proxy, may end the others
        **kind.pool_options,
    }
    watched = pool.pop("pool_pre_ping", False)  # a look at a frozen server would not end
    arguments = kind.connect_arguments(parsed, writer=bool(writer))
    try:
        engine = create_engine(kind.plain_url(parsed), connect_args=arguments, **kind.engine_options, **pool)
    except ValueError as error:  # an option that is to be a number
        raise ConfigError([f"database_url has an option that can't be read: {error}"], hint=OPTION_HINT) from None
    kind.set_up(engine, writer)
    if looks and kind.lock_limit:
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(kind.lock_limit))
    if watched:
        watch(engine, arguments, limited=bool(writer))
    engine.update_execution_options(**{_GIVEN: parsed})
    return engine.execution_options(**{WRITER: True}) if writer else engine


def url_of(engine: Engine) -> URL:
    """The URL by which `open_engine` opens the same database again, in the same way: TLS and all."""
    given: URL = engine.get_execution_options().get(_GIVEN, engine.url)
    return given


def _parsed(url: str | URL) -> URL:
    try:
        parsed = make_url(_several_hosts(url) if isinstance(url, str) else url)
        backend = parsed.get_backend_name()
        driver = driver_of(backend)
        if driver and parsed.drivername == backend:
            parsed = parsed.set(drivername=f"{backend}+{driver}")
        parsed.get_dialect()
    except NoSuchModuleError:
        raise ConfigError([f"database_url can't be read: there is no {parsed.drivername}"], hint=URL_HINT) from None
    except (ArgumentError, ValueError):
        raise ConfigError(["database_url can't be read"], hint=URL_HINT) from None
    except ModuleNotFoundError:  # said better where the driver is asked for
        return parsed
    return parsed


def _several_hosts(url: str) -> str:
    """A URL of several servers (`@h1:5432,h2:5432/db`), and of a scheme that others use, as SQLAlchemy reads them."""
    url = re.sub(r"^postgres(?=://|\+)", "postgresql", url)
    found = re.fullmatch(r"(\w[\w+]*://(?:[^@/]*@)?)([^/?]*,[^/?]*)([^?]*)(?:\?(.*))?", url)
    if found is None:
        return url
    hosts = "&".join(f"host={host}" for host in found[2].split(","))
    return f"{found[1]}{found[3]}?{'&'.join(filter(None, (hosts, found[4])))}"
