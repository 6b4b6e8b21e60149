"""What a database must be able to do for `save`, and what its implementations share."""

from __future__ import annotations

import contextlib
from bisect import bisect_left, bisect_right
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy.exc import DBAPIError

from cdrsync.model import Cdr
from cdrsync.tuning import saving_first

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

COLUMNS = ", ".join(Cdr._fields)
"""The columns that come from the API, in the order of Cdr."""

SLICE = 1_000

SLACK = 100
"""The uids of a page mostly lie close together: SLICE neighbours are asked for as one range, as long as that holds at
most SLACK other rows."""

RANGES = 50
"""Of one statement at most: of a page that is far larger than was asked for. SQLite takes 500."""

NUMBER_COLUMNS = ("number", "e164", "kind", "region", "rules_version")

Number = tuple[str, str | None, str | None, str | None, str | None]
"""What a row of `number` says, in the order of NUMBER_COLUMNS."""


class Rows(Protocol):
    """One database's fast roads. What takes a connection runs in the caller's transaction."""

    def forms(self, calls: Sequence[Cdr]) -> Sequence[Any]:
        """Each call as this database takes it and gives it back: equal forms are equal rows. Any thread may ask.

        Raises ValueError or OverflowError for a value that would not be held as it is.
        """

    def held(self, connection: Connection, account_id: int, uids: Sequence[int]) -> set[int]:
        """Which of the uids (ascending) are held, at the cost of next to nothing where none is."""

    def same(self, connection: Connection, account_id: int, forms: Mapping[int, Any]) -> set[int]:
        """Which of the calls (forms by uid) are held with exactly these values. May miss some, as `compare` allows."""

    def insert(self, connection: Connection, account_id: int, forms: Sequence[Any], now: datetime) -> None:
        """Write calls that are not held. Raises ValueError or DBAPIError for a value that can't be held."""

    def note_numbers(self, connection: Connection, numbers: Sequence[Number], now: datetime) -> None:
        """Write numbers that are not there yet; leave the others alone: `dimension` brings them up to date."""


@contextlib.contextmanager
def driver(connection: Connection) -> Iterator[Any]:
    """SQLAlchemy's own driver connection; what that raises is made the error that SQLAlchemy would have raised."""
    raw = connection.connection.driver_connection
    base: type[Exception] = connection.dialect.loaded_dbapi.Error
    try:
        yield raw
    except base as error:
        if connection.dialect.is_disconnect(error, connection.connection.dbapi_connection, None):  # type: ignore[arg-type]
            connection.invalidate(error)
        raise DBAPIError.instance(
            "cdr", None, error, base, connection_invalidated=connection.invalidated, dialect=connection.dialect
        ) from error


def held_of(
    account_id: int,
    uids: Sequence[int],
    among: Callable[[int, Sequence[int]], list[int]],
    listed: Callable[[Sequence[int]], list[int]],
) -> set[int]:
    """Which of the uids (ascending) are held, by ranges where these hold few others.

    `among(count, parameters)` gives the held uids of so many ranges (`ranges`), `listed(uids)` those of a list.
    """
    slices = [uids[start : start + SLICE] for start in range(0, len(uids), SLICE)]
    held: set[int] = set()
    with saving_first():
        for start in range(0, len(slices), RANGES):
            held |= _held(account_id, slices[start : start + RANGES], among, listed)
    return held.intersection(uids) if held else held


def _held(
    account_id: int,
    slices: Sequence[Sequence[int]],
    among: Callable[[int, Sequence[int]], list[int]],
    listed: Callable[[Sequence[int]], list[int]],
) -> set[int]:
    limit = SLICE + SLACK
    found = among(len(slices), [value for some in slices for value in (account_id, some[0], some[-1], limit)])
    found.sort()
    held: set[int] = set()
    for some in slices:
        here = found[bisect_left(found, some[0]) : bisect_right(found, some[-1])]
        held.update(listed(some) if len(here) >= limit else here)
    return held


@lru_cache
def ranges(count: int, mark: str) -> str:
    """SQL for the uids held in so many ranges: of each the account, the first and last uid, and how many at most.

    In one statement: while a page is being saved, each answer waits for its turn at the interpreter.
    """
    one = "SELECT * FROM (SELECT uid FROM cdr WHERE account_id = ? AND uid BETWEEN ? AND ? LIMIT ?) AS one"
    return " UNION ALL ".join([one.replace("?", mark)] * count)


WRITER = "cdrsync_writer"  # execution option: this connection begins as a writer


def one_line(error: BaseException) -> str:
    """A driver's message without line breaks and statement."""
    arguments = error.args
    if len(arguments) > 1 and isinstance(arguments[1], str):  # PyMySQL: (number, text)
        return f"{arguments[1]} ({arguments[0]})"
    return " ".join(str(error).split())
