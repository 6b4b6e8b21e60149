"""PostgreSQL: binary COPY into the table, and binary reading back to compare, on SQLAlchemy's own connection."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from psycopg.types.numeric import DecimalBinaryDumper

from cdrsync.errors import ConfigError
from cdrsync.model import FLAGS, Cdr
from cdrsync.store.databases.port import (
    COLUMNS,
    NUMBER_COLUMNS,
    driver,
    held_of,
    ranges,
)
from cdrsync.store.schema.types import micro

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from psycopg.abc import Buffer
    from sqlalchemy.engine import Connection

    from cdrsync.store.databases.port import Number

_COPY = f"COPY cdr (account_id, {COLUMNS}, first_seen_at, changed_at) FROM STDIN (FORMAT BINARY)"
_SELECTED = COLUMNS.replace("extra", "extra::text")  # psycopg would parse json

# One look-up in the primary key for each uid. Of `uid = ANY(list)` the planner makes, on a table that has grown since
# its statistics were made, a comparison of every row with every member of the list.
_BY_KEY = (
    "SELECT {} FROM unnest(%s::bigint[]) AS wanted,"
    " LATERAL (SELECT * FROM cdr WHERE account_id = %s AND uid = wanted LIMIT 1) AS held"
)
_LIST = _BY_KEY.format("uid")
_ROWS = _BY_KEY.format(_SELECTED)
# Lists as one text each, which the server cuts: psycopg would quote member by member. XML knows no such characters.
_BETWEEN, _NULL = "\x1f", "\x1e"
_LISTS = ", ".join(["(string_to_array(%s, E'\\x1f', E'\\x1e'))[2:]"] * 5)  # of '' alone it would make no list of one
_NOTE = (
    f"INSERT INTO number (first_seen_at, {', '.join(NUMBER_COLUMNS)}) SELECT %s::timestamptz, found.*"  # noqa: S608 - our own column names
    f" FROM unnest({_LISTS}) AS found ON CONFLICT DO NOTHING"
)

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


class _CostDumper(DecimalBinaryDumper):
    """Costs repeat within a page, and each takes as long to pack as ten other values."""

    @staticmethod
    @lru_cache(4096)
    def _packed(pounds: Decimal) -> Buffer | None:
        return DecimalBinaryDumper(Decimal).dump(pounds)

    def dump(self, obj: Decimal) -> Buffer | None:
        """Pack it, once."""
        return self._packed(obj)


class PostgresqlRows:
    """PostgreSQL's fast roads."""

    def forms(self, calls: Sequence[Cdr]) -> Sequence[Cdr]:
        """The calls themselves: psycopg makes the same values of a row."""
        _refuse_misfits(calls)
        return calls

    def held(self, connection: Connection, account_id: int, uids: Sequence[int]) -> set[int]:
        """Ask the primary key."""
        with driver(connection) as raw, raw.cursor(binary=True) as cursor:

            def among(count: int, parameters: Sequence[int]) -> list[int]:
                return [uid for (uid,) in cursor.execute(ranges(count, "%s"), parameters)]

            def listed(uids: Sequence[int]) -> list[int]:
                return [uid for (uid,) in cursor.execute(_LIST, (uids, account_id))]

            return held_of(account_id, uids, among, listed)

    def same(self, connection: Connection, account_id: int, forms: Mapping[int, Cdr]) -> set[int]:
        """Read them back: psycopg makes a row of the same values as the call is of."""
        with driver(connection) as raw, raw.cursor(binary=True) as cursor:
            rows = cursor.execute(_ROWS, (list(forms), account_id)).fetchall()
        return {row[0] for row in rows if row == forms[row[0]]}

    def insert(self, connection: Connection, account_id: int, forms: Sequence[Cdr], now: datetime) -> None:
        """COPY new calls straight into the table."""
        with driver(connection) as raw, raw.cursor() as cursor:
            cursor.adapters.register_dumper(Decimal, _CostDumper)
            with cursor.copy(_COPY) as copy:
                copy.set_types(_TYPES)
                write = copy.write_row
                for call in forms:
                    write((account_id, *call, now, now))

    def note_numbers(self, connection: Connection, numbers: Sequence[Number], now: datetime) -> None:
        """One statement for all: the instant, and a list for each column."""
        columns = zip(*numbers, strict=True)
        lists = [_BETWEEN.join(["", *(_NULL if text is None else text for text in column)]) for column in columns]
        with driver(connection) as raw:
            raw.execute(_NOTE, (now, *lists))


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


ENCODINGS = ("UTF8", "SQL_ASCII")  # of PostgreSQL's databases: those that take any text


def _refuse_small_alphabets(connection: Any, record: Any) -> None:
    """Names come in any script, and what a database can't hold must fit into its table of rejects at least."""
    del record
    encoding = connection.info.parameter_status("server_encoding")
    if encoding not in ENCODINGS:
        raise ConfigError(
            [f"the database {connection.info.dbname} is in {encoding}, which can't hold every name"],
            hint=f"createdb --encoding=UTF8 --template=template0 {connection.info.dbname}_utf8",
        )
