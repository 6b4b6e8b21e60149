"""What cdrsync must know of one kind of database. Each has a file of its own; `choose` knows which there are."""

from __future__ import annotations

import contextlib
import itertools
import re
from abc import ABC, abstractmethod
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from sqlalchemy import DateTime, Numeric, String, Text, Time
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, InternalError, OperationalError

from cdrsync.errors import ConfigError, DatabaseUnavailable
from cdrsync.model import COST_PLACES, Cdr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from datetime import time as time_of_day

    from sqlalchemy import Column, ColumnElement, Insert, Select, Table
    from sqlalchemy.engine import URL, Connection, Dialect, Engine
    from sqlalchemy.types import TypeEngine

    from cdrsync.errors import CdrsyncError
    from cdrsync.store.databases.grants import Grants

    New = Callable[[str], ColumnElement[Any]]
    """The value that a refused row would have had in a column."""

    Changes = Callable[[New], dict[str, Any]]

T = TypeVar("T")

COLUMNS = ", ".join(Cdr._fields)  # that come from the API
NUMBER_COLUMNS = ("number", "e164", "kind", "region", "rules_version", "national", "kind_source", "usual")
Number = tuple[str, str | None, str | None, str | None, str | None, str | None, str | None, str | None]
"""What a row of `number` says, in the order of NUMBER_COLUMNS."""

WRITER = "cdrsync_writer"  # execution option: this connection begins as a writer
AT_ONCE = 500  # bound parameters of one statement; SQLite's limit is the lowest

CONNECT_SECONDS = 10
STATEMENT_SECONDS = 12  # longer than any statement of a page takes
CUT_SECONDS = 16  # without a word from the server in the middle of a transaction: the client gives it up
KEEPALIVE = (5, 2, 3)  # seconds of silence, seconds between two probes, probes: 11 s until a vanished peer is known
SILENT_SECONDS = 10
"""A transaction whose client says nothing for so long is ended by the server: sooner than its lease goes to another, so
that whoever takes it over does not wait for rows that a stopped or vanished process has locked."""

LOCK_SECONDS = 3
"""For who only looks, as the page: a table is locked while somebody rebuilds it (VACUUM FULL, OPTIMIZE), for hours."""

LOCKED_HINT = "Another session holds a lock (LOCK TABLE, VACUUM FULL, OPTIMIZE TABLE, …): it passes when that has ended"
RESTORED_HINT = "While a backup is restored it passes by itself; else something dropped it: restore it from a backup"
START_HINT = "Start the server, or mend host and port in database_url; a firewall may be in between"
NAME_HINT = "Mend the host in database_url, or this machine's resolver (DNS)"
LOST_HINT = "A server that starts again comes back by itself; if it does not, its log says why"
SLOTS_HINT = "Raise the server's limit, or end what others leave idle; cdrsync takes some ten connections"
DISK_HINT = "Free space on the database's disk: until then no call is stored, and none is lost"


def pieces(items: Iterable[T], size: int = AT_ONCE) -> Iterator[list[T]]:
    """So many of the items at a time."""
    left = iter(items)
    while some := list(itertools.islice(left, size)):
        yield some


class Obstacle(NamedTuple):
    """Something that would keep a sync from working."""

    what: str
    remedy: str
    always: bool = True  # or only while the schema is made or brought up to date


class Collision(DatabaseUnavailable):
    """Another transaction came between, and the database undid ours: the same at once again may well work."""


class TooLarge(DatabaseUnavailable):
    """The transaction is larger than the database takes in one."""


class DatabaseKind(ABC):
    """One kind of database. What takes a connection runs in the caller's transaction."""

    # Execution options of a transaction that sees one state of the database from beginning to end.
    snapshot: ClassVar[Mapping[str, Any]] = {"isolation_level": "REPEATABLE READ"}
    engine_options: ClassVar[Mapping[str, Any]] = {"isolation_level": "READ COMMITTED"}
    pool_options: ClassVar[Mapping[str, Any]] = {"pool_pre_ping": True}  # a connection that died is replaced
    # What the driver must be told to log in within CONNECT_SECONDS, or not at all.
    look_arguments: ClassVar[Mapping[str, Any]] = {"connect_timeout": CONNECT_SECONDS}

    now: ClassVar[str]  # SQL for the database's own clock, an instant
    lock_limit: ClassVar[str] = ""  # SQL by which a transaction waits for a lock for LOCK_SECONDS at most
    quote_mark: ClassVar[str] = '"'  # around identifiers
    has_users: ClassVar[bool] = True  # who may have rights
    distributes: ClassVar[bool] = False  # an extension of it spreads tables over several servers

    words: ClassVar[str]  # the file with its own words of the views: `migrations/views/NAME.toml`
    create_view: ClassVar[str] = "CREATE OR REPLACE VIEW"  # which keeps what was granted on it, where it can
    of_no_rows: ClassVar[str] = "WHERE 1 = 0"  # ends a query that tells its columns alone
    comments_views: ClassVar[bool] = False

    transactional_ddl: ClassVar[bool] = False  # a schema that was half made can be rolled back
    alters_by_copy: ClassVar[bool] = False  # a table is made anew to alter it: all migrations are one transaction
    json_needs_check: ClassVar[bool] = False  # its JSON is a plain text to it, and it could check it

    # ── opening ────────────────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def plain_url(self, url: URL) -> URL:
        """The URL as the driver understands it. Raises ConfigError for one that can't be meant."""

    @abstractmethod
    def connect_arguments(self, url: URL, *, writer: bool) -> dict[str, Any]:
        """What the driver must be told beside; some of it may stand in the URL as it was written.

        The server ends a transaction of a `writer` that falls silent.
        """

    def end_sessions(self, connection: Connection, replica: str) -> None:
        """End what a replica that is given up has begun, where the server would not do it by itself in time."""
        del connection, replica

    def ping(self, engine: Engine, connection: Any) -> None:
        """Have the server answer on a driver's connection, without a transaction. Raises the driver's errors."""
        engine.dialect.do_ping(connection)

    def waits(self, look: Any, connection: Any) -> bool:
        """Whether the server waits for a driver's connection to ask, as another one (`look`) sees it.

        False where that can't be told: a pooler gives sessions numbers of its own. Raises the driver's errors.
        """
        del look, connection
        return False

    def descriptor(self, connection: Any) -> int | None:
        """The file descriptor of a driver's connection to a server; None where there is none."""
        del connection
        return None

    @abstractmethod
    def set_up(self, engine: Engine, replica: str) -> None:
        """Have each of the engine's connections prepared."""

    # ── calls: `Store.save` ────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def forms(self, calls: Sequence[Cdr]) -> Sequence[Any]:
        """Each call as this database takes it and gives it back: equal forms are equal rows.

        Raises ValueError or OverflowError for a value that would not be held as it is.
        """

    @abstractmethod
    def stored_statement(self, account_id: int, uids: Sequence[int]) -> tuple[str, tuple[Any, ...]]:
        """SQL, with its parameters, for the rows of the uids, each looked up in the primary key."""

    @abstractmethod
    def stored(self, connection: Connection, account_id: int, uids: Sequence[int]) -> dict[int, Any]:
        """The forms of those of the uids that are held."""

    @abstractmethod
    def insert(self, connection: Connection, account_id: int, forms: Sequence[Any], now: datetime) -> None:
        """Write calls that are not held. Raises ValueError or DBAPIError for a value that can't be held."""

    @abstractmethod
    def note_numbers(self, connection: Connection, numbers: Sequence[Number], now: datetime) -> None:
        """Write numbers that are not there yet; leave the others alone."""

    def leave_no_trace(self, engine: Engine) -> None:
        """Have what was deleted gone from the files, as far as that is ours to do: a server's are its own."""
        del engine

    # ── statements ─────────────────────────────────────────────────────────────────────────────────────────────────

    @abstractmethod
    def by_uid(self, statement: Select[Any], uid: Column[int], uids: Sequence[int]) -> Select[Any]:
        """The statement, for these uids alone: each is looked up in the primary key, whatever statistics say."""

    @abstractmethod
    def upsert(self, table: Table, key: list[str], changes: Changes) -> Insert:
        """INSERT that makes `changes` to the row instead where the key is there already.

        The order of `changes` matters on MySQL: an assignment sees what those before it have set.
        """

    def is_stand_in(self, connection: Connection, view: str) -> bool:
        """Whether a view is one that a dump made for the time until it makes the real one."""
        del connection, view
        return False

    # ── types ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def text(self, dialect: Dialect, length: int | None, *, long: bool) -> TypeEngine[Any]:
        """Text compared to the last character. `length`: of a key; `long`: more than 16 MB."""
        del dialect, long
        return String(length) if length else Text()

    def number(self, dialect: Dialect, length: int | None) -> TypeEngine[Any]:
        """A telephone number, compared and sorted byte by byte."""
        return self.text(dialect, length, long=False)

    def json(self, dialect: Dialect) -> TypeEngine[Any]:
        """A JSON document that stays the text it was."""
        del dialect
        return Text()

    def instant(self) -> TypeEngine[Any]:
        """A UTC instant, to the microsecond."""
        return DateTime(timezone=True)

    def pounds(self, precision: int) -> TypeEngine[Any]:
        """Pounds, exact to COST_PLACES decimals."""
        return Numeric(precision, COST_PLACES)

    def time(self) -> TypeEngine[Any]:
        """A time of day in whole seconds."""
        return Time()

    def bound_instant(self, value: datetime) -> Any:
        """An aware instant as the driver takes it."""
        return value

    def bound_pounds(self, value: Decimal) -> Any:
        """Pounds as the driver takes them."""
        return value

    def read_pounds(self, value: Any) -> Decimal:
        """Pounds as the driver gives them."""
        return Decimal(value)

    def bound_time(self, value: time_of_day) -> Any:
        """A time of day as the driver takes it."""
        return value

    def text_bytes(self, connection: Connection) -> int | None:
        """Bytes of a text that a statement may carry; None: more than anybody sends."""
        del connection
        return None

    # ── rights ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def views_read_as_owner(self, connection: Connection) -> bool:
        """Whether a view reads its tables with the rights of its owner, or of whoever asks."""
        del connection
        return True

    @abstractmethod
    def obstacles(self, connection: Connection) -> Iterator[Obstacle]:
        """What keeps the user, or the server, from doing what sync needs. Nothing is changed to find it."""

    @abstractmethod
    def grant(self, grants: Grants) -> None:
        """Let a role read what is said, and nothing else of ours. Raises ConfigError where that can't be."""

    # ── errors ─────────────────────────────────────────────────────────────────────────────────────────────────────

    remedies: ClassVar[Mapping[str, str]] = {}
    """What a person can do about what may pass by itself: by a pattern of `CODE: MESSAGE`, the first that is found."""

    def code(self, error: BaseException) -> object:
        """What the driver's error is called, whatever language the server speaks."""
        del error
        return ""

    def unavailable(
        self, error: Exception, kind: type[DatabaseUnavailable] = DatabaseUnavailable
    ) -> DatabaseUnavailable:
        """For what passes by itself, with what a person can do about it."""
        original = getattr(error, "orig", None) or error
        said = f"{self.code(original)}: {one_line(original)}"
        hint = next((hint for words, hint in self.remedies.items() if re.search(words, said)), None)
        return unavailable(error, kind, hint=hint)

    def meaning(self, error: DBAPIError) -> CdrsyncError | None:
        """What an error of the driver means: ConfigError where a person must act, DatabaseUnavailable where it passes.

        None: our statement's fault or a value's.
        """
        if error.connection_invalidated or isinstance(error, OperationalError | InterfaceError | InternalError):
            return self.unavailable(error)
        return None

    def refuses_value(self, error: DBAPIError) -> bool:
        """Whether a value is at fault: of another page it need not be."""
        return isinstance(error, DataError | IntegrityError)


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


def micro(pounds: Decimal) -> int:
    """Pounds as whole millionths. Raises ValueError where that would round."""
    scaled = pounds.scaleb(COST_PLACES)
    whole = int(scaled)
    if whole != scaled:
        raise ValueError(f"{pounds} has more than {COST_PLACES} decimal places")
    return whole


def unavailable(
    error: Exception, kind: type[DatabaseUnavailable] = DatabaseUnavailable, *, hint: str | None = None
) -> DatabaseUnavailable:
    """For what passes by itself: an error of SQLAlchemy's or of a driver's."""
    return kind(f"the database can't be used: {one_line(getattr(error, 'orig', None) or error)}", hint=hint)


def no_rights(error: DBAPIError, hint: str = "cdrsync doctor says what to grant") -> ConfigError:
    """For what the database's user may not do."""
    return ConfigError([f"the database's user has too few rights: {one_line(error.orig or error)}"], hint=hint)


_PLACE = re.compile(r"\nLINE \d+: .*(?:\n *\^)?")  # of the statement, which psycopg shows


def one_line(error: BaseException) -> str:
    """A driver's message without line breaks and statement."""
    arguments = error.args
    if len(arguments) > 1 and isinstance(arguments[1], str):  # PyMySQL: (number, text)
        return f"{arguments[1]} ({arguments[0]})"
    return " ".join(_PLACE.sub("", str(error)).split())
