"""PostgreSQL: binary COPY into the table, and binary reading back to compare, on SQLAlchemy's own connection."""

from __future__ import annotations

import contextlib
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import psycopg
from sqlalchemy.exc import DBAPIError

from cdrsync.model import FLAGS, Cdr
from cdrsync.store.kinds import micro
from cdrsync.store.rows import COLUMNS, SLACK, Known

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

_COPY = f"COPY cdr (account_id, {COLUMNS}, first_seen_at, changed_at) FROM STDIN (FORMAT BINARY)"
_SELECTED = COLUMNS.replace("extra", "extra::text")  # psycopg would parse json
_RANGE = f"SELECT {_SELECTED} FROM cdr WHERE account_id = %s AND uid BETWEEN %s AND %s ORDER BY uid LIMIT %s"  # noqa: S608
_LIST = f"SELECT {_SELECTED} FROM cdr WHERE account_id = %s AND uid = ANY(%s)"  # noqa: S608

# Binary COPY casts nothing: every value is sent as the column's own type.
_OTHER_THAN_TEXT = {
    "uid": "int8",
    "call_date": "date",
    "call_time": "time",
    "started_at": "timestamptz",
    "duration": "int4",
    "ring_time": "int4",
    "user_cost": "numeric",
    "reason": "int4",
    "reason_q805": "int4",
    **dict.fromkeys(FLAGS, "bool"),
}  # `extra` goes as text as well, which binary json is: as "json" psycopg would quote the document once more
_TYPES = ["int4", *(_OTHER_THAN_TEXT.get(name, "text") for name in Cdr._fields), "timestamptz", "timestamptz"]


class PostgresqlRows:
    """PostgreSQL's fast roads."""

    def compare(self, connection: Connection, account_id: int, calls: Mapping[int, Cdr]) -> Known:
        """Read the page's rows back; psycopg makes them the same Python values as a page's."""
        limit = len(calls) + SLACK
        with _driver(connection) as driver, driver.cursor(binary=True) as cursor:
            held = cursor.execute(_RANGE, (account_id, min(calls), max(calls), limit)).fetchall()
            if len(held) == limit:
                held = cursor.execute(_LIST, (account_id, list(calls))).fetchall()
        known = Known()
        for row in held:
            uid = row[0]
            call = calls.get(uid)
            if call is None:
                continue
            known.uids.add(uid)
            if row != call:
                known.different[uid] = Cdr._make(row)
        return known

    def insert(self, connection: Connection, account_id: int, calls: Sequence[Cdr], now: datetime) -> None:
        """COPY new calls straight into the table."""
        _refuse_misfits(calls)
        with _driver(connection) as driver, driver.cursor() as cursor, cursor.copy(_COPY) as copy:
            copy.set_types(_TYPES)
            write = copy.write_row
            for call in calls:
                write((account_id, *call, now, now))


_INT4 = tuple(Cdr._fields.index(name) for name, kind in _OTHER_THAN_TEXT.items() if kind == "int4")
_COST = Cdr._fields.index("user_cost")


def _refuse_misfits(calls: Sequence[Cdr]) -> None:
    """Raise ValueError for a number that would silently be another: the server rounds, psycopg drops high bits."""
    for cost in set(map(itemgetter(_COST), calls)):
        micro(cost)
    for column in _INT4:
        for number in set(map(itemgetter(column), calls)):
            if number is not None and not -(2**31) <= number < 2**31:
                raise ValueError(f"{Cdr._fields[column]} {number} does not fit into 32 bits")


@contextlib.contextmanager
def _driver(connection: Connection) -> Iterator[psycopg.Connection[Any]]:
    """SQLAlchemy's own psycopg connection; what that raises is made the error SQLAlchemy would have raised."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise TypeError("the store writes to PostgreSQL through psycopg 3")
    try:
        yield driver
    except psycopg.Error as error:
        if driver.broken or driver.closed:
            connection.invalidate(error)
        raise DBAPIError.instance(
            "COPY cdr", None, error, psycopg.Error, connection_invalidated=connection.invalidated
        ) from error
