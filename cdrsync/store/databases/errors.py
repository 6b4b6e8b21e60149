"""What a driver's error means: passing, a person's matter, or our bug. Translated here and nowhere else."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from sqlalchemy.exc import (
    DBAPIError,
    DisconnectionError,
    InterfaceError,
    InternalError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from cdrsync.errors import ConfigError, DatabaseUnavailable
from cdrsync.store.databases.port import one_line
from cdrsync.store.databases.sqlite import _refuse_broken_file

if TYPE_CHECKING:
    from collections.abc import Iterator

# SQLSTATEs and MySQL error numbers that pass by themselves although the driver does not call them operational.
_PASSING_STATES = ("40001", "40P01", "55P03", "57014", "57P", "53", "08", "25006", "25P03", "25P04", "58", "XX0")

_PASSING_NUMBERS = (1045, 1049, 1203, 1226)  # MySQL: wrong user or password, no such database, too many of its sessions

_GENERAL_STATE = "HY000"  # MySQL says so of lock waits and full disks, as of much else

_NO_PRIVILEGE = ("42501", 1044, 1142, 1143, 1227)


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
        if isinstance(error.orig, sqlite3.Error):
            _refuse_broken_file(error.orig)
        if _code(error) in _NO_PRIVILEGE:
            raise ConfigError([f"the database's user has too few rights: {one_line(error.orig or error)}"]) from error
        if not passes_by_itself(error):
            raise
        raise DatabaseUnavailable(f"the database can't be used: {one_line(error.orig or error)}") from error


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
