"""How a database is opened. What each driver must be told stands in the file of its database."""

from __future__ import annotations

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
    kind.check(parsed)
    pool: dict[str, Any] = {"poolclass": NullPool} if writer else dict(kind.reader_pool)
    engine = create_engine(parsed, connect_args=kind.connect_arguments(parsed), **kind.engine_options, **pool)
    kind.set_up(engine)
    return engine if not writer else engine.execution_options(**{WRITER: True})


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
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
