"""SQLite: one file, without users and types.

Write-ahead log, so that readers never wait for the writer, with `synchronous=FULL`: a commit that was reported survives
a power cut. A connection whose file was replaced by another, or removed, is not used again.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from datetime import UTC
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import BigInteger, Text, event, func, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.types import UserDefinedType

from cdrsync.errors import ConfigError, DatabaseUnavailable
from cdrsync.model import COST_PLACES, Cdr
from cdrsync.store.databases.port import (
    COLUMNS,
    DISK_HINT,
    NUMBER_COLUMNS,
    RESTORED_HINT,
    WRITER,
    DatabaseKind,
    driver,
    micro,
    one_line,
)
from cdrsync.tuning import clocks, each, instants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime
    from datetime import time as time_of_day

    from sqlalchemy import Column, Insert, Select, Table
    from sqlalchemy.engine import URL, Connection, Engine
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.types import TypeEngine

    from cdrsync.errors import CdrsyncError
    from cdrsync.store.databases.grants import Grants
    from cdrsync.store.databases.port import Changes, Number, Obstacle

BROKEN_FILES = {
    sqlite3.SQLITE_NOTADB: ("is not a SQLite database", "Name another file in database_url"),
    sqlite3.SQLITE_CORRUPT: ("is damaged", "Restore its backup, or move it away and sync into a new one"),
}

OTHER_USER = "Let this user read the file and enter its folder, or run as its owner"

FOLDER_HINT = (
    "SQLite needs it, also to read, while nobody else has the file open: let this user write in the folder, read while "
    "cdrsync run has the file open, or read a copy of it in a folder of your own"
)

PRIMARY_CODE = 0xFF  # of SQLite's result codes; the bits above tell kinds apart

REMEDIES = {
    "no such table": RESTORED_HINT,
    "^SQLITE_FULL": DISK_HINT,
    "^SQLITE_(BUSY|LOCKED)": "Another program writes to the file, or keeps it locked: it passes when that has ended",
    "^SQLITE_READONLY": "Let this user write the file and those beside it (-wal, -shm), and in their folder",
    "^SQLITE_IOERR": "Look at the disk of the file: it may be full, failing, or another machine's that is away",
    "^SQLITE_CANTOPEN": "Let this user enter and write its folder, and that of temporary files (TMPDIR)",
    "": "Look at the file that database_url names, and at its disk",
}

BUSY_PAUSE = 0.02  # seconds between two attempts to set up a file that is locked

BUSY_SECONDS = 15  # how long SQLite waits for another writer

PRAGMAS = (
    "page_size=16384",  # of a new file: a quarter smaller than with 4096, and a tenth faster to fill
    "journal_mode=WAL",
    "synchronous=FULL",
    "foreign_keys=ON",
    "secure_delete=ON",  # what was deleted is overwritten: an erased number is in no page of the file
    "cache_size=-8000",  # kilobytes: the inner pages of a few million calls' indexes; more is hardly faster
    "wal_autocheckpoint=2500",  # pages, 40 MB: a catch-up writes each page of an index less often
)

SQLITE_FILE = "cdrsync_file"  # in a connection's info: the identity of the file that it has open


def _insert(table: str, columns: tuple[str, ...]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608 - our own names


_INSERT = _insert("cdr", ("account_id", "first_seen_at", "changed_at", *Cdr._fields))
_NOTE = _insert("number", ("first_seen_at", *NUMBER_COLUMNS)) + " ON CONFLICT DO NOTHING"
_STORED = f"SELECT {COLUMNS} FROM cdr WHERE account_id = ? AND uid IN (SELECT value FROM json_each(?))"  # noqa: S608 - our own names


class _Timestamp(UserDefinedType[str]):
    """Text to SQLite, but tools that read its files (DuckDB, pandas) take a column called so for a moment."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "TIMESTAMP"


class Sqlite(DatabaseKind):
    """A file. Calls go in and come back as tuples of what SQLite stores: it has neither decimals nor dates."""

    words = "sqlite"
    create_view = "CREATE VIEW"
    transactional_ddl = True
    alters_by_copy = True
    snapshot: ClassVar[Mapping[str, Any]] = {}  # as every transaction of SQLite is
    engine_options: ClassVar[Mapping[str, Any]] = {}
    has_users = False
    remedies = REMEDIES
    pool_options: ClassVar[Mapping[str, Any]] = {}
    now = "strftime('%Y-%m-%d %H:%M:%f', 'now')"

    def plain_url(self, url: URL) -> URL:
        if url.database in (None, "", ":memory:"):
            raise ConfigError(["database_url names no file: what SQLite holds in memory is lost at the end"])
        if os.path.isdir(url.database or ""):  # noqa: PTH112 - Path's fails where the folder is closed to this user
            raise ConfigError([f"database_url names a directory, not a file: {url.database}"])
        if os.path.exists(url.database or "") and not os.path.isfile(url.database or ""):  # noqa: PTH110, PTH113 - likewise
            raise ConfigError([f"database_url names a device or a pipe, not a file: {url.database}"])
        return url

    def connect_arguments(self, url: URL, *, writer: bool) -> dict[str, Any]:
        """Threads take turns at a connection."""
        del url, writer
        return {"timeout": BUSY_SECONDS, "check_same_thread": False}

    def set_up(self, engine: Engine, replica: str) -> None:
        """Set the file up, and see that each connection is to the file that has its name."""
        del replica
        _set_up(engine)

    def forms(self, calls: Sequence[Cdr]) -> Sequence[tuple[Any, ...]]:
        columns: list[Any] = list(zip(*calls, strict=True))
        for place, written in _WRITTEN.items():
            columns[place] = written(columns[place])
        return list(zip(*columns, strict=True))

    def stored_statement(self, account_id: int, uids: Sequence[int]) -> tuple[str, tuple[Any, ...]]:
        return _STORED, (account_id, json.dumps(uids))

    def stored(self, connection: Connection, account_id: int, uids: Sequence[int]) -> dict[int, tuple[Any, ...]]:
        with driver(connection) as raw:
            return {row[0]: row for row in raw.execute(*self.stored_statement(account_id, uids))}

    def insert(self, connection: Connection, account_id: int, forms: Sequence[tuple[Any, ...]], now: datetime) -> None:
        seen = self.bound_instant(now)
        with driver(connection) as raw:
            raw.executemany(_INSERT, [(account_id, seen, seen, *form) for form in forms])

    def leave_no_trace(self, engine: Engine) -> None:
        """Write the log into the file and cut it to nothing, as soon as nobody reads or writes."""
        deadline = time.monotonic() + BUSY_SECONDS
        with contextlib.closing(sqlite3.connect(sqlite_path(engine.url), timeout=0)) as connection:
            while connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                if time.monotonic() > deadline:
                    raise DatabaseUnavailable(
                        "the number is erased, but somebody reads the database, and its -wal file still has it",
                        hint="Close what reads it, and run the command again",
                    )
                time.sleep(BUSY_PAUSE)

    def note_numbers(self, connection: Connection, numbers: Sequence[Number], now: datetime) -> None:
        first_seen = self.bound_instant(now)
        with driver(connection) as raw:
            raw.executemany(_NOTE, [(first_seen, *one) for one in numbers])

    def by_uid(self, statement: Select[Any], uid: Column[int], uids: Sequence[int]) -> Select[Any]:
        wanted = func.json_each(json.dumps(list(uids))).table_valued("value")
        return statement.where(uid.in_(select(wanted.c.value)))

    def upsert(self, table: Table, key: list[str], changes: Changes) -> Insert:
        statement = sqlite.insert(table)
        return statement.on_conflict_do_update(index_elements=key, set_=changes(lambda name: statement.excluded[name]))

    def instant(self) -> TypeEngine[Any]:
        """The text `YYYY-MM-DD HH:MM:SS[.ffffff]`, UTC, which sorts by time and which SQLite's date functions read."""
        return _Timestamp()

    def pounds(self, precision: int) -> TypeEngine[Any]:
        """A whole number of millionths: NUMERIC would be a binary float."""
        del precision
        return BigInteger()

    def time(self) -> TypeEngine[Any]:
        """The text `HH:MM:SS`."""
        return Text()

    def bound_instant(self, value: datetime) -> str:
        return str(value.astimezone(UTC).replace(tzinfo=None))

    def bound_pounds(self, value: Decimal) -> int:
        return micro(value)

    def read_pounds(self, value: Any) -> Decimal:
        return Decimal(value).scaleb(-COST_PLACES)

    def bound_time(self, value: time_of_day) -> str:
        return value.isoformat("seconds")

    def obstacles(self, connection: Connection) -> Iterator[Obstacle]:
        """Those of a file are seen without opening it."""
        del connection
        yield from ()

    def grant(self, grants: Grants) -> None:
        del grants
        raise ConfigError(
            ["SQLite has no users: who may read is a matter of the file's permissions"],
            hint="Give readers read access to the file and to its directory",
        )

    def meaning(self, error: DBAPIError) -> CdrsyncError | None:
        """SQLite calls nearly everything operational, a statement's own faults too."""
        original = error.orig
        extended = getattr(original, "sqlite_errorcode", 0)  # the module's own errors have none
        if extended == sqlite3.SQLITE_READONLY_DIRECTORY:
            return ConfigError(["this user may not write in the folder of the database file"], hint=FOLDER_HINT)
        code = extended & PRIMARY_CODE
        if code in BROKEN_FILES:
            problem, hint = BROKEN_FILES[code]
            return ConfigError([f"the database's file {problem}: {one_line(original or error)}"], hint=hint)
        if str(original).startswith("no such table"):
            return self.unavailable(error)
        if str(original).startswith(("no such ", "near ", "table ", "duplicate column")):
            return None
        return super().meaning(error)

    def code(self, error: BaseException) -> object:
        """As SQLite calls it."""
        return getattr(error, "sqlite_errorname", "")


KIND = Sqlite()

_WRITTEN: dict[int, Callable[[Sequence[Any]], Sequence[Any]]] = {
    Cdr._fields.index("call_date"): partial(each, str),
    Cdr._fields.index("call_time"): clocks,
    Cdr._fields.index("started_at"): instants,
    Cdr._fields.index("user_cost"): partial(each, micro),
}
"""Of the columns that SQLite has no type for: how their values are written. True and False are 1 and 0 to it."""


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


def _check_access(path: Path) -> None:
    """Say what SQLite does not: why a file can't be opened. Raises DatabaseUnavailable."""
    try:
        path.parent.stat()
    except FileNotFoundError:
        problem = f"there is no folder for the database {path}"
        raise DatabaseUnavailable(problem, hint=f"mkdir -p {path.parent}") from None
    except OSError as error:
        raise DatabaseUnavailable(f"you may not read {path}: {error.strerror}", hint=OTHER_USER) from None
    there = os.access(path, os.F_OK)
    for file in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):  # another user's command may have left them
        if not os.access(path.parent, os.X_OK) or (os.access(file, os.F_OK) and not os.access(file, os.R_OK)):
            raise DatabaseUnavailable(f"you may not read {file}", hint=OTHER_USER)
    if not there and not os.access(path.parent, os.W_OK):
        hint = f"Let this user write in {path.parent}, or set database_url"
        raise DatabaseUnavailable(f"you may not make {path}", hint=hint)


def _make_private(url: URL) -> None:
    """A new file is its owner's alone whatever the umask; SQLite gives its -wal and -shm files the same rights."""
    if "mode" not in url.query and url.database not in (None, "", ":memory:"):
        with contextlib.suppress(FileExistsError):
            os.close(os.open(sqlite_path(url), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _set_up(engine: Engine) -> None:
    opened: tuple[int, int] | None = None  # the file of the last connection

    @event.listens_for(engine, "do_connect")
    def _make_none_anew(dialect: Any, record: Any, arguments: Any, options: Any) -> None:
        del dialect, record, arguments, options
        if opened is not None and sqlite_file_identity(engine.url) is None:  # SQLite would make an empty one
            raise DatabaseUnavailable(f"the database file {sqlite_path(engine.url)} is gone", hint="Put it back")
        _check_access(sqlite_path(engine.url).absolute())
        _make_private(engine.url)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, record: Any) -> None:
        nonlocal opened
        record.info[SQLITE_FILE] = opened = sqlite_file_identity(engine.url)
        connection.isolation_level = None  # transactions begin where SQLAlchemy says so, below
        for pragma in PRAGMAS:
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
