"""What a driver's error means: passing, a person's matter, or our bug. Translated here and nowhere else."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from cdrsync.errors import DatabaseUnavailable
from cdrsync.store.databases.choose import kind_of_error
from cdrsync.store.databases.port import one_line, unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator


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
        raise DatabaseUnavailable(f"the database can't be used: {one_line(error)}") from error
    except DBAPIError as error:
        kind = kind_of_error(error.orig)
        meaning = kind.meaning(error) if kind else unavailable(error) if error.connection_invalidated else None
        if meaning is None:
            raise
        raise meaning from error
