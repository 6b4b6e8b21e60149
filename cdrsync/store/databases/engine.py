"""How a database is opened. What each driver must be told stands in the file of its database."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from sqlalchemy import NullPool, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from cdrsync.errors import ConfigError
from cdrsync.store.databases.choose import driver_of, kind_of
from cdrsync.store.databases.port import WRITER

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Engine


def open_engine(url: str, *, writer: bool = False) -> Engine:
    """An engine for a database URL; nothing is connected yet.

    A `writer`'s engine has no pool: a connection that died must not come back without its lease.
    Raises ConfigError for a URL that can't be read or whose driver is not installed.
    """
    parsed = _parsed(url)
    kind = kind_of(parsed.get_backend_name())
    pool: dict[str, Any] = {"poolclass": NullPool} if writer else dict(kind.reader_pool)
    engine = create_engine(
        kind.plain_url(parsed), connect_args=kind.connect_arguments(parsed), **kind.engine_options, **pool
    )
    kind.set_up(engine)
    return engine if not writer else engine.execution_options(**{WRITER: True})


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(_several_hosts(url))
        backend = parsed.get_backend_name()
        driver = driver_of(backend)
        if driver and parsed.drivername == backend:
            parsed = parsed.set(drivername=f"{backend}+{driver}")
        parsed.get_dialect()
    except (ArgumentError, NoSuchModuleError, ValueError):
        raise ConfigError(
            ["database_url can't be read"],
            hint="sqlite:///file.db, postgresql+psycopg://user@host/name or mysql+pymysql://user@host/name",
        ) from None
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
