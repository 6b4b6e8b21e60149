"""Calls into the table and back, the fastest way of each database. What to write is decided in `sql`, not here.

Each database has a module with the functions that need speed: `held` and `same` say which calls of a page are held, and
held as they are, `insert` writes new ones. Everything rarer goes through SQLAlchemy Core, the same for all.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import bindparam, select, update
from sqlalchemy.exc import DBAPIError

from cdrsync.interpreter import saving_first
from cdrsync.model import Cdr
from cdrsync.store.kinds import MYSQL_FAMILY
from cdrsync.store.tables import cdr as table

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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


@dataclass(slots=True)
class Known:
    """What is held of a page: the uids, and the stored calls that are not equal to the page's."""

    uids: Collection[int] = ()
    different: Mapping[int, Cdr] = field(default_factory=dict)


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


def rows_for(dialect: str) -> Rows:
    """Make the fast roads of a dialect. Only its own driver is imported."""
    if dialect == "postgresql":
        from cdrsync.store.rows_postgresql import PostgresqlRows

        return PostgresqlRows()
    if dialect in MYSQL_FAMILY:
        from cdrsync.store.rows_mysql import MysqlRows

        return MysqlRows()
    from cdrsync.store.rows_sqlite import SqliteRows

    return SqliteRows()


def compare(
    rows: Rows, connection: Connection, account_id: int, forms: Mapping[int, Any], *, expects_new: bool
) -> Known:
    """Which of a page's calls (forms by uid, ascending) are held, and which of these with another value.

    Where new ones are expected, the database is asked first which are held. Otherwise its rows are read back right
    away. What is not found the same is read through Core: it differs, is written in another way, or is not held.
    """
    held = rows.held(connection, account_id, list(forms)) if expects_new else None
    wanted = forms if held is None else {uid: forms[uid] for uid in sorted(held)}
    if not wanted:
        return Known()
    same = rows.same(connection, account_id, wanted)
    others = read(connection, account_id, [uid for uid in wanted if uid not in same])
    return Known(same | others.keys(), others)


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


def read(connection: Connection, account_id: int, uids: Collection[int]) -> dict[int, Cdr]:
    """Read calls by uid through Core: for the few that differ."""
    found: dict[int, Cdr] = {}
    wanted = sorted(uids)
    for start in range(0, len(wanted), 500):
        statement = select(*(table.c[name] for name in Cdr._fields)).where(
            table.c.account_id == account_id, table.c.uid.in_(wanted[start : start + 500])
        )
        for row in connection.execute(statement):
            found[row[0]] = Cdr._make(row)
    return found


def write_back(connection: Connection, account_id: int, calls: Sequence[Cdr], now: datetime) -> None:
    """Overwrite calls that are held and really differ."""
    connection.execute(
        _UPDATE,
        [{"in_account": account_id, "in_uid": call.uid, "changed_at": now, **_values(call)} for call in calls],
    )


def _values(call: Cdr) -> dict[str, object]:
    values = call._asdict()
    del values["uid"]
    return values


_UPDATE = (
    update(table)
    .where(table.c.account_id == bindparam("in_account"), table.c.uid == bindparam("in_uid"))
    .values({name: bindparam(name) for name in (*Cdr._fields[1:], "changed_at")})
)
