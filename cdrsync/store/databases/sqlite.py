"""SQLite: many rows in one step, in both directions.

Python's driver hands the interpreter over and takes it back for every step, that is for every row of an `executemany`
or of a result: a page would take twice as long to write while another is being decoded. So rows go in many at a time,
and come out as one JSON text.
"""

from __future__ import annotations

import json
import sqlite3
import time
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError

from cdrsync.errors import ConfigError, DatabaseUnavailable
from cdrsync.model import FLAGS, Cdr
from cdrsync.store.databases import iso
from cdrsync.store.databases.port import (
    COLUMNS,
    NUMBER_COLUMNS,
    WRITER,
    driver,
    held_of,
    one_line,
    ranges,
)
from cdrsync.store.schema.types import micro
from cdrsync.tuning import each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.engine import URL, Connection, Engine

    from cdrsync.store.databases.port import Number

ROWS_AT_ONCE = (750, 375, 180, 90, 45, 22, 11, 5, 2, 1)
"""Rows of one INSERT: of few sizes, so that the driver prepares each once, and each half of the one before, so that
what is left of a page takes few statements: after each, the interpreter has to be waited for."""


class _Insert(NamedTuple):
    """An INSERT of many rows, each of which begins with the `same` numbered parameters."""

    into: str
    same: str
    end: str


_CALLS = _Insert(
    f"INSERT INTO cdr (account_id, first_seen_at, changed_at, {COLUMNS}) VALUES ",  # noqa: S608 - our own column names
    "?1, ?2, ?2",
    "",
)
_NUMBERS = _Insert(
    f"INSERT INTO number (first_seen_at, {', '.join(NUMBER_COLUMNS)}) VALUES ",  # noqa: S608 - our own column names
    "?1",
    " ON CONFLICT DO NOTHING",
)

_RANGES = "SELECT json_group_array(uid) FROM ({})"
_LIST = "SELECT json_group_array(uid) FROM cdr WHERE account_id = ? AND uid IN (SELECT value FROM json_each(?))"
_ROWS = (
    f"SELECT json_group_array(json_array({COLUMNS})) FROM cdr"  # noqa: S608 - our own column names
    " WHERE account_id = ? AND uid IN (SELECT value FROM json_each(?))"
)
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


class SqliteRows:
    """SQLite's fast roads."""

    def forms(self, calls: Sequence[Cdr]) -> Sequence[tuple[Any, ...]]:
        """Each call as SQLite stores it."""
        return list(zip(*columns(calls), strict=True))

    def held(self, connection: Connection, account_id: int, uids: Sequence[int]) -> set[int]:
        """As one list in JSON."""
        with driver(connection) as raw:

            def among(count: int, parameters: Sequence[int]) -> list[int]:
                return _uids(raw.execute(_RANGES.format(ranges(count, "?")), parameters))

            def listed(uids: Sequence[int]) -> list[int]:
                return _uids(raw.execute(_LIST, (account_id, json.dumps(uids))))

            return held_of(account_id, uids, among, listed)

    def same(self, connection: Connection, account_id: int, forms: Mapping[int, tuple[Any, ...]]) -> set[int]:
        """Have SQLite write the rows as JSON, and compare the texts.

        Missed is what JSON writes in two ways, and what looks like the end of a row.
        """
        with driver(connection) as raw:
            ((text,),) = raw.execute(_ROWS, (account_id, json.dumps(list(forms)))).fetchall()
        held = set(_cut(text))
        return {uid for uid, our in zip(forms, _texts(list(forms.values())), strict=True) if our in held}

    def insert(self, connection: Connection, account_id: int, forms: Sequence[tuple[Any, ...]], now: datetime) -> None:
        """Write new calls."""
        with driver(connection) as raw:
            _write(raw, _CALLS, [account_id, *iso.instants([now])], forms)

    def note_numbers(self, connection: Connection, numbers: Sequence[Number], now: datetime) -> None:
        """Write them the same way."""
        with driver(connection) as raw:
            _write(raw, _NUMBERS, iso.instants([now]), numbers)


def columns(calls: Sequence[Cdr]) -> list[Sequence[Any]]:
    """Calls column by column, as SQLite stores them (`kinds`)."""
    found: list[Any] = list(zip(*calls, strict=True))
    for place, stored in _STORED.items():
        found[place] = stored(found[place])
    return found


_flags: Callable[[Sequence[Any]], Sequence[Any]] = partial(each, {True: 1, False: 0, None: None}.__getitem__)
_STORED: dict[int, Callable[[Sequence[Any]], Sequence[Any]]] = {
    Cdr._fields.index("call_date"): partial(each, str),
    Cdr._fields.index("call_time"): iso.clocks,
    Cdr._fields.index("started_at"): iso.instants,
    Cdr._fields.index("user_cost"): partial(each, micro),
    **dict.fromkeys(map(Cdr._fields.index, FLAGS), _flags),
}


def _write(raw: sqlite3.Connection, insert: _Insert, same: list[Any], rows: Sequence[tuple[Any, ...]]) -> None:
    width = len(rows[0])
    most = (raw.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) - len(same)) // width
    row = f"({insert.same}, {', '.join('?' * width)})"
    start = 0
    for size in ROWS_AT_ONCE:
        while size <= most and start + size <= len(rows):
            some = rows[start : start + size]
            raw.execute(f"{insert.into}{', '.join([row] * size)}{insert.end}", [*same, *chain.from_iterable(some)])
            start += size


def _texts(rows: list[tuple[Any, ...]]) -> list[str]:
    """Of each row the inside of its JSON array."""
    texts = _cut(_encode(rows))  # a call for each would take thrice as long
    return texts if len(texts) == len(rows) else [_encode(row)[1:-1] for row in rows]


def _cut(rows: str) -> list[str]:
    """The insides of a JSON array of arrays, wherever one array ends and another begins."""
    return rows[2:-2].split("],[")


def _uids(found: Iterable[tuple[str]]) -> list[int]:
    ((text,),) = found
    uids: list[int] = json.loads(text)
    return uids


BROKEN_FILES = {
    sqlite3.SQLITE_NOTADB: ("is not a SQLite database", "Name another file in database_url"),
    sqlite3.SQLITE_CORRUPT: ("is damaged", "Restore its backup, or move it away and sync into a new one"),
}

PRIMARY_CODE = 0xFF  # of SQLite's result codes; the bits above tell kinds apart

BUSY_PAUSE = 0.02  # seconds between two attempts to set up a file that is locked

BUSY_SECONDS = 15  # how long SQLite waits for another writer

SQLITE_PRAGMAS = (
    "page_size=16384",  # of a new file: a quarter smaller than with 4096, and a tenth faster to fill
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "cache_size=-8000",  # kilobytes: the inner pages of a few million calls' indexes; more is hardly faster
    "wal_autocheckpoint=2500",  # pages, 40 MB: a catch-up writes each page of an index less often
)

SQLITE_FILE = "cdrsync_file"  # in a connection's info: the identity of the file that it has open


def _refuse_broken_file(error: sqlite3.Error) -> None:
    """Raise ConfigError where no trying again makes the file a whole database."""
    code = getattr(error, "sqlite_errorcode", 0) & PRIMARY_CODE  # the module's own errors have none
    if code in BROKEN_FILES:
        problem, hint = BROKEN_FILES[code]
        raise ConfigError([f"the database's file {problem}: {one_line(error)}"], hint=hint) from error


def _set_patiently(connection: Any, pragma: str) -> None:
    """Run a PRAGMA, again while the file is locked: SQLite's own timeout does not cover the change to WAL."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute(pragma)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & PRIMARY_CODE != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(BUSY_PAUSE)
        else:
            return


def sqlite_path(url: URL) -> Path:
    """The file that a SQLite URL names."""
    return Path(str(url.database).removeprefix("file:"))


def sqlite_file_identity(url: URL) -> tuple[int, int] | None:
    """Which file SQLite opens by this URL now: its device and inode; None where there is none of that name."""
    try:
        found = sqlite_path(url).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _set_up_sqlite(engine: Engine) -> None:
    opened: tuple[int, int] | None = None  # the file of the last connection

    @event.listens_for(engine, "do_connect")
    def _make_none_anew(dialect: Any, record: Any, arguments: Any, options: Any) -> None:
        del dialect, record, arguments, options
        if opened is not None and sqlite_file_identity(engine.url) is None:  # SQLite would make an empty one
            raise DatabaseUnavailable(f"the database file {sqlite_path(engine.url)} is gone", hint="Put it back")

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, record: Any) -> None:
        nonlocal opened
        record.info[SQLITE_FILE] = opened = sqlite_file_identity(engine.url)
        connection.isolation_level = None  # transactions begin where SQLAlchemy says so, below
        for pragma in SQLITE_PRAGMAS:
            _set_patiently(connection, f"PRAGMA {pragma}")

    @event.listens_for(engine, "checkout")
    def _is_of_this_file(connection: Any, record: Any, proxy: Any) -> None:
        del connection, proxy
        if record.info[SQLITE_FILE] != sqlite_file_identity(engine.url):
            raise DisconnectionError("the database file was replaced")  # the pool opens the one that is there now

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A writer takes the write lock at once: two that both began as readers would deadlock.
        immediate = connection.get_execution_options().get(WRITER)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
