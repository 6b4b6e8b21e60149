"""The view `calls` out of the database, as CSV or Parquet: the same columns, exact costs, flat memory.

One read-only snapshot of the database, read some days at a time through the index of days: some thousand calls are in
memory, and the database sorts no more than those days' calls. Writers go on meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import sys
import tempfile
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import BigInteger, Boolean, Date, DateTime, Integer, and_, column, func, select, table

from cdrsync.errors import ConfigError, OutputFailed, UnknownAccount, install_hint
from cdrsync.model import COST_PLACES
from cdrsync.store.admin import dictionary
from cdrsync.store.databases.choose import kind_of
from cdrsync.store.databases.errors import translated
from cdrsync.store.schema.tables import account, cdr
from cdrsync.store.schema.types import Exact, Instant, JsonText, WallTime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import date, datetime
    from typing import BinaryIO

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection, Engine

FORMATS = ("csv", "parquet")
ROWS_AT_ONCE = 5_000
SPAN = 100_000  # calls of one query: fewer, and the database would look up each number again and again
ROW_GROUP = 100_000  # rows of Parquet that are written together: packed, some 20 MB

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


class Writer(Protocol):
    """One file format."""

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        """Write rows, in the order of the view's columns."""

    def close(self) -> None:
        """Write what a file ends with."""


def export(
    engine: Engine,
    to: BinaryIO,
    *,
    kind: str,
    since: date | None = None,
    until: date | None = None,
    accounts: Sequence[str] = (),
) -> Iterator[int]:
    """Write the calls of the days `since` to `until`, both included, by account, day and uid, to an open file.

    `kind` is one of FORMATS. Yields how many more were written, a piece at a time. Raises ConfigError where Parquet's
    library is not installed or an account is not there, DatabaseUnavailable.
    """
    writer: Writer = _Parquet(to) if kind == "parquet" else _Csv(to)
    with translated(), engine.connect() as connection:
        connection.execution_options(**kind_of(engine.dialect.name).snapshot)
        for account_id in _account_ids(connection, accounts):
            for first, last in _spans(connection, account_id, since, until):
                rows = _rows(connection, account_id, first, last)
                while piece := rows.fetchmany(ROWS_AT_ONCE):
                    writer.write(piece)
                    yield len(piece)
    writer.close()


@contextlib.contextmanager
def written(path: Path | None) -> Iterator[BinaryIO]:
    """Where an export goes, None being standard output. Raises OutputFailed where it can't be written.

    A file appears under its name when it is complete: an export that failed leaves none, or the one before. Links are
    followed; a device or a pipe is written into.
    """
    try:
        if path is None:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
            return
        held = _held(path)
        special = held is not None and not stat.S_ISREG(held.st_mode)
        with path.open("wb") if special else _whole_file(path.resolve(), held) as file:
            yield file
    except OSError as error:
        if path is None and isinstance(error, BrokenPipeError):
            raise  # its reader has enough: `cdrsync export | head`
        raise OutputFailed(f"can't write {path or 'to standard output'}: {error.strerror or error}") from error


def _held(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _whole_file(path: Path, held: os.stat_result | None) -> Iterator[BinaryIO]:
    """Replace a file at the end. It keeps its mode; a new one is for its owner only, for it holds personal data."""
    if held and not os.access(path, os.W_OK):
        raise PermissionError(
            errno.EACCES, os.strerror(errno.EACCES)
        )  # to replace it would be to change it all the same
    number, name = tempfile.mkstemp(prefix=".cdrsync-", suffix=".part", dir=path.parent)
    part = Path(name)
    try:
        with open(number, "wb") as file:  # noqa: PTH123 - a file that is open already
            if held:
                with contextlib.suppress(PermissionError):
                    os.chown(number, held.st_uid, held.st_gid)
                os.fchmod(number, stat.S_IMODE(held.st_mode))
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def count(engine: Engine, *, since: date | None, until: date | None, accounts: Sequence[str] = ()) -> int:
    """How many calls there are to write. Raises DatabaseUnavailable."""
    query = select(func.count()).select_from(cdr).where(_between(since, until))
    if accounts:
        query = query.where(cdr.c.account_id.in_(select(account.c.id).where(account.c.name.in_(accounts))))
    with translated(), engine.connect() as connection:
        return connection.execute(query).scalar_one()


def _account_ids(connection: Connection, names: Sequence[str]) -> list[int]:
    found = {row.name: row.id for row in connection.execute(select(account.c.name, account.c.id))}
    missing = [name for name in names if name not in found]
    if missing:
        raise UnknownAccount([f"the database has no account {name!r}" for name in missing])
    return sorted(found[name] for name in names or found)


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


# ── CSV ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Csv:
    """RFC 4180 in UTF-8. NULL is nothing at all, an empty text is `""`: PostgreSQL's COPY reads it back so."""

    def __init__(self, to: BinaryIO) -> None:
        self._to = to
        self._makers = [_CSV.get("micros" if name == "cost" else _TYPE[name], str) for name in _SOURCE]
        to.write((",".join(_SOURCE) + "\r\n").encode())

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        columns = (
            ["" if value is None else make(value) for value in values]
            for make, values in zip(self._makers, zip(*rows, strict=True), strict=True)
        )
        lines = map(",".join, zip(*columns, strict=True))
        self._to.write(("\r\n".join(lines) + "\r\n").encode())

    def close(self) -> None:
        self._to.flush()


_SPECIAL = re.compile('[",\r\n]').search


def _quoted(text: str) -> str:
    if text and _SPECIAL(text) is None:
        return text
    return '"' + text.replace('"', '""') + '"'


def _instant(value: datetime) -> str:
    return value.isoformat().replace("+00:00", "Z")


@lru_cache(16384)
def _pounds(micros: int) -> Decimal:
    return Decimal(micros).scaleb(-COST_PLACES)


def _plain_pounds(micros: int) -> str:
    return f"{_pounds(micros):f}"


_CSV: dict[str, Callable[[Any], str]] = {
    "text": _quoted,
    "json": _quoted,
    "boolean": lambda value: "true" if value else "false",
    "timestamptz": _instant,
    "timestamp": lambda value: value.isoformat(),
    "micros": _plain_pounds,
}


# ── Parquet ────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Parquet:
    """Typed columns with their meaning as metadata."""

    def __init__(self, to: BinaryIO) -> None:
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ModuleNotFoundError:
            raise ConfigError(["--format parquet needs pyarrow"], hint=install_hint("parquet")) from None
        types = {
            "text": pa.string(),
            "json": pa.string(),
            "bigint": pa.int64(),
            "integer": pa.int32(),
            "boolean": pa.bool_(),
            "date": pa.date32(),
            "time": pa.time32("s"),
            "timestamp": pa.timestamp("us"),
            "timestamptz": pa.timestamp("us", tz="UTC"),
            "numeric": pa.decimal128(18, COST_PLACES),
        }
        self._arrow = pa
        self._schema = pa.schema(
            [pa.field(one.name, types[one.type], metadata={"comment": one.comment}) for one in _CALLS.columns]
        )
        self._writer = parquet.ParquetWriter(to, self._schema, compression="zstd")
        self._cost = list(_SOURCE).index("cost")
        self._group: list[Any] = []

    def write(self, rows: Sequence[Sequence[Any]]) -> None:
        columns = [list(values) for values in zip(*rows, strict=True)]
        columns[self._cost] = [_pounds(micros) for micros in columns[self._cost]]
        arrays = [self._arrow.array(values, field.type) for values, field in zip(columns, self._schema, strict=True)]
        self._group.append(self._arrow.record_batch(arrays, schema=self._schema))
        if sum(batch.num_rows for batch in self._group) >= ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._group:
            self._writer.write_table(self._arrow.Table.from_batches(self._group), row_group_size=2 * ROW_GROUP)
            self._group = []

    def close(self) -> None:
        self._flush()
        self._writer.close()
