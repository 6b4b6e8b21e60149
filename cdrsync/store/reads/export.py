"""The view `calls` out of the database, in one of the `formats`: the same columns, exact costs, flat memory.

One read-only snapshot of the database, read some days at a time through the index of days: some thousand calls are in
memory, and the database sorts no more than those days' calls. Writers go on meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, Boolean, Date, DateTime, Integer, and_, column, func, select, table

from cdrsync.store.admin import dictionary
from cdrsync.store.databases.choose import kind_of
from cdrsync.store.databases.errors import translated
from cdrsync.store.position import account_ids
from cdrsync.store.reads.formats import FORMATS, Columns, Scratch
from cdrsync.store.schema.tables import account, cdr
from cdrsync.store.schema.types import Exact, Instant, JsonText, WallTime

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from datetime import date
    from typing import BinaryIO

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection, Engine

ROWS_AT_ONCE = 5_000
SPAN = 100_000  # calls of one query: fewer, and the database would look up each number again and again

_TYPES: dict[str, Any] = {
    "text": Exact,
    "bigint": BigInteger,
    "integer": Integer,
    "boolean": Boolean,
    "date": Date,
    "time": WallTime,
    "timestamp": DateTime,
    "timestamptz": Instant,
    "json": JsonText,
}
_CALLS = next(view for view in dictionary.views() if view.name == "calls")
# SQLite's view shows a cost as a float; the millionths beside it are exact everywhere.
_SOURCE = {one.name: "cost_micros" if one.name == "cost" else one.name for one in _CALLS.columns}
_TYPE = {one.name: one.type for one in _CALLS.columns}
_calls = table("calls", *(column(name, _TYPES[kind]) for name, kind in _TYPE.items() if kind != "numeric"))


def export(
    engine: Engine,
    to: BinaryIO,
    *,
    kind: str,
    since: date | None = None,
    until: date | None = None,
    accounts: Sequence[str] = (),
    scratch: Scratch | None = None,
) -> Generator[int]:
    """Write the calls of the days `since` to `until`, both included, by account, day and uid, to an open file.

    `kind` is one of FORMATS. Yields how many more were written, a piece at a time. Raises ConfigError where the
    format's library is not installed or an account is not there, DatabaseUnavailable.
    """
    with scratch or Scratch() as used:
        writer = FORMATS[kind](to, Columns(_CALLS.columns), used)
        with translated(), engine.connect() as connection:
            connection.execution_options(**kind_of(engine.dialect.name).snapshot)
            for account_id in account_ids(connection, accounts):
                for first, last in _spans(connection, account_id, since, until):
                    rows = _rows(connection, account_id, first, last)
                    while piece := rows.fetchmany(ROWS_AT_ONCE):
                        writer.write(piece)
                        yield len(piece)
        writer.close()


def count(engine: Engine, *, since: date | None, until: date | None, accounts: Sequence[str] = ()) -> int:
    """How many calls there are to write. Raises DatabaseUnavailable."""
    query = select(func.count()).select_from(cdr).where(_between(since, until))
    if accounts:
        query = query.where(cdr.c.account_id.in_(select(account.c.id).where(account.c.name.in_(accounts))))
    with translated(), engine.connect() as connection:
        return connection.execute(query).scalar_one()


def _spans(connection: Connection, account_id: int, since: date | None, until: date | None) -> list[tuple[date, date]]:
    """Ranges of days in a row, each of some SPAN calls or of one day with more."""
    query = select(cdr.c.call_date, func.count()).where(cdr.c.account_id == account_id, _between(since, until))
    spans: list[tuple[date, date]] = []
    room = 0
    for day, calls in connection.execute(query.group_by(cdr.c.call_date).order_by(cdr.c.call_date)):
        if calls > room:
            spans.append((day, day))
            room = SPAN
        spans[-1] = (spans[-1][0], day)
        room -= calls
    return spans


def _between(since: date | None, until: date | None) -> ColumnElement[bool]:
    bounds = [cdr.c.account_id > 0]
    if since is not None:
        bounds.append(cdr.c.call_date >= since)
    if until is not None:
        bounds.append(cdr.c.call_date <= until)
    return and_(*bounds)


def _rows(connection: Connection, account_id: int, first: date, last: date) -> Any:
    query = (
        select(*(_calls.c[source].label(name) for name, source in _SOURCE.items()))
        .where(_calls.c.account_id == account_id, _calls.c.call_date.between(first, last))
        .order_by(_calls.c.call_date, _calls.c.uid)
    )
    return connection.execution_options(yield_per=ROWS_AT_ONCE).execute(query)
