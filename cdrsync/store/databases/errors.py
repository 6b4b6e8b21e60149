"""What a driver's error means: passing, a person's matter, or our bug. Translated here and nowhere else."""

from __future__ import annotations

import contextlib
import random
import time
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy.exc import DBAPIError, DisconnectionError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from cdrsync.errors import DatabaseUnavailable
from cdrsync.store.databases.choose import kind_of_error
from cdrsync.store.databases.port import Collision, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

ATTEMPTS = 10


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
        raise unavailable(error) from error
    except DBAPIError as error:
        kind = kind_of_error(error.orig)
        meaning = kind.meaning(error) if kind else unavailable(error) if error.connection_invalidated else None
        if meaning is None:
            raise
        raise meaning from error


def again(work: Callable[[], T]) -> T:
    """Do a transaction again, at once, where another one came between. Raises as `translated`."""
    for left in reversed(range(ATTEMPTS)):
        try:
            with translated():
                return work()
        except (Collision, IntegrityError):
            if not left:
                raise
        time.sleep(random.uniform(0.0, 0.05))  # noqa: S311 - not a secret
    raise AssertionError
