"""PostgreSQL: binary COPY into the table, and binary reading back to compare, on SQLAlchemy's own connection."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, String, Text, event, func, literal, select, text, true
from sqlalchemy.dialects import postgresql

from cdrsync.errors import ConfigError
from cdrsync.model import FIELDS, Cdr, Kind
from cdrsync.store.databases import port, postgresql_access
from cdrsync.store.databases.port import (
    COLUMNS,
    CONNECT_SECONDS,
    KEEPALIVE,
    NUMBER_COLUMNS,
    Collision,
    DatabaseKind,
    driver,
    micro,
    no_rights,
    one_line,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from sqlalchemy import Column, Insert, Select, Table
    from sqlalchemy.engine import URL, Connection, Dialect, Engine, ExceptionContext
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.types import TypeEngine

    from cdrsync.errors import CdrsyncError
    from cdrsync.store.databases.grants import Grants
    from cdrsync.store.databases.port import Changes, Number, Obstacle

ENCODINGS = ("UTF8", "SQL_ASCII")  # of PostgreSQL's databases: those that take any text
TOO_LONG_TO_INDEX = "54000"  # a value that does not fit into an index page
INTERNAL = "XX000"
NO_PRIVILEGE = "42501"
PERSONS_MATTER = {
    "3F000": ("the database has no schema to work in", postgresql_access.NO_SCHEMA_HINT),
    "42P16": ("a view can't be replaced by ours", postgresql_access.OTHER_COLUMNS_HINT),
}
READ_ONLY = "25006"
APPLICATION = "cdrsync {}"  # by which a replica's sessions are known
COLLISIONS = ("40001", "40P01")  # serialisation, deadlocks

# SQLSTATEs that pass by themselves although the driver does not call all of them operational.
PASSING_STATES = (
    *COLLISIONS, READ_ONLY, "55P03", "57014", "57P", "53", "08", "25P03", "25P04", "58", "XX0", "42P01",
)  # fmt: skip

_COPY = f"COPY cdr (account_id, {COLUMNS}, first_seen_at, changed_at) FROM STDIN (FORMAT BINARY)"

_STORED = (
    f"SELECT {COLUMNS.replace('extra', 'extra::text')} FROM unnest(%s::bigint[]) AS wanted,"  # noqa: S608 - our own column names; psycopg would parse json
    " LATERAL (SELECT * FROM cdr WHERE account_id = %s AND uid = wanted LIMIT 1) AS held"
)
# Lists as one text each, which the server cuts: psycopg would quote member by member. XML knows no such characters.
_BETWEEN, _NULL = "\x1f", "\x1e"
_LIST = "(string_to_array(%s, E'\\x1f', E'\\x1e'))[2:]"  # of '' alone it would make no list of one
_LISTS = ", ".join([_LIST] * len(NUMBER_COLUMNS))
_NOTE = (
    f"INSERT INTO number (first_seen_at, {', '.join(NUMBER_COLUMNS)}) SELECT %s::timestamptz, found.*"  # noqa: S608 - our own column names
    f" FROM unnest({_LISTS}) AS found ON CONFLICT DO NOTHING"
)

# Binary COPY casts nothing: every value is sent as the column's own type.
_OF_KIND = {Kind.WHOLE: "int4", Kind.POUNDS: "numeric", Kind.DATE: "date", Kind.TIME: "time", Kind.FLAG: "bool"}
_OTHER_THAN_TEXT = {
    **{field.column: _OF_KIND[field.kind] for field in FIELDS if field.kind is not Kind.TEXT},
    "uid": "int8",
    "started_at": "timestamptz",
}  # `extra` goes as text as well, which binary json is: as "json" psycopg would quote the document once more
_TYPES = ["int4", *(_OTHER_THAN_TEXT.get(name, "text") for name in Cdr._fields), "timestamptz", "timestamptz"]
_INT4 = tuple(Cdr._fields.index(name) for name, kind in _OTHER_THAN_TEXT.items() if kind == "int4")
_COST = Cdr._fields.index("user_cost")


class Postgresql(DatabaseKind):
    """A server whose driver takes and gives the very values of a Cdr."""

    words = "postgresql"
    comments_views = True
    of_no_rows = "LIMIT 0"  # Citus can't plan an outer join that is never true
    transactional_ddl = True
    distributes = True
    remedies = postgresql_access.REMEDIES

    lock_limit = f"SET LOCAL lock_timeout = '{port.LOCK_SECONDS}s'"
    now = "statement_timestamp()"  # on a Citus cluster no distributed table takes a volatile function

    def plain_url(self, url: URL) -> URL:
        return postgresql_access.plain_url(url)

    def connect_arguments(self, url: URL, *, writer: bool) -> dict[str, Any]:
        """Keep-alives find a dead server within seconds, and a server that set them finds a dead cdrsync.

        A database in SQL_ASCII (initdb where no locale is set) would hand out bytes for text if the encoding were not
        said. A statement prepared on the server would be looked for in a session that a pooler gave to another.
        """
        del writer
        idle, interval, count = KEEPALIVE
        settings = {
            "application_name": "cdrsync",
            "client_encoding": "utf8",
            "connect_timeout": CONNECT_SECONDS,
            "keepalives_idle": idle,
            "keepalives_interval": interval,
            "keepalives_count": count,
            "tcp_user_timeout": (idle + interval * count) * 1000,
            "prepare_threshold": None,
        }
        return {name: value for name, value in settings.items() if name not in url.query}

    def ping(self, engine: Engine, connection: Any) -> None:
        """The end of a pipeline in which nothing was asked: SELECT 1 would be a transaction, for each of ours one."""
        del engine
        with connection.pipeline():
            pass

    def waits(self, look: Any, connection: Any) -> bool:
        mine, event = look.execute(_WAITS, (connection.info.backend_pid,)).fetchone()
        return bool(mine == look.info.backend_pid and event == "ClientRead")

    def descriptor(self, connection: Any) -> int:
        descriptor: int = connection.fileno()
        return descriptor

    def set_up(self, engine: Engine, replica: str) -> None:
        """Say in each transaction what must hold in it: behind a pooler a session is anybody's."""
        event.listen(engine, "connect", _set_up)
        event.listen(engine, "handle_error", _leave_read_only)
        said = "; ".join(f"SET LOCAL {name} = '{value}'" for name, value in _settings(replica).items())

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            # BEGIN takes along what must be said. Where the isolation level was changed, the driver begins.
            begin = "BEGIN; " if connection.connection.driver_connection.autocommit else ""  # type: ignore[union-attr]
            connection.exec_driver_sql(f"{begin}{said}")

    def end_sessions(self, connection: Connection, replica: str) -> None:
        """The server's limits end a silent transaction, but not one that fell silent in the middle of a COPY."""
        connection.execute(_END_SESSIONS, {"application": APPLICATION.format(replica)})

    def forms(self, calls: Sequence[Cdr]) -> Sequence[Cdr]:
        """The calls themselves. Refuses numbers that would silently be others: the server rounds, psycopg cuts."""
        for cost in set(map(itemgetter(_COST), calls)):
            micro(cost)
        for column in _INT4:
            for number in set(map(itemgetter(column), calls)):
                if number is not None and not -(2**31) <= number < 2**31:
                    raise ValueError(f"{Cdr._fields[column]} {number} does not fit into 32 bits")
        return calls

    def stored_statement(self, account_id: int, uids: Sequence[int]) -> tuple[str, tuple[Any, ...]]:
        """One look-up for each. A list that is compared is compared with every row, where statistics are old."""
        listed = ",".join(map(str, uids))  # psycopg would write member by member
        return _STORED, (f"{{{listed}}}", account_id)

    def stored(self, connection: Connection, account_id: int, uids: Sequence[int]) -> dict[int, Any]:
        """Read them back: psycopg makes a row of the same values as the call is of."""
        with driver(connection) as raw, raw.cursor(binary=True) as cursor:
            return {row[0]: row for row in cursor.execute(*self.stored_statement(account_id, uids)).fetchall()}

    def insert(self, connection: Connection, account_id: int, forms: Sequence[Cdr], now: datetime) -> None:
        with driver(connection) as raw, raw.cursor() as cursor, cursor.copy(_COPY) as copy:
            copy.set_types(_TYPES)
            for call in forms:
                copy.write_row((account_id, *call, now, now))

    def note_numbers(self, connection: Connection, numbers: Sequence[Number], now: datetime) -> None:
        """One statement for all: the instant, and a list for each column."""
        columns = zip(*numbers, strict=True)
        lists = [_BETWEEN.join(["", *(_NULL if text is None else text for text in column)]) for column in columns]
        with driver(connection) as raw:
            raw.execute(_NOTE, (now, *lists))

    def by_uid(self, statement: Select[Any], uid: Column[int], uids: Sequence[int]) -> Select[Any]:
        """As `stored` does."""
        listed = literal(list(uids), postgresql.ARRAY(BigInteger))
        wanted = func.unnest(listed).table_valued("uid").render_derived("wanted")
        held = statement.where(uid == wanted.c.uid).limit(1).lateral("held")
        return select(*held.c).select_from(wanted.join(held, true()))

    def upsert(self, table: Table, key: list[str], changes: Changes) -> Insert:
        statement = postgresql.insert(table)
        return statement.on_conflict_do_update(index_elements=key, set_=changes(lambda name: statement.excluded[name]))

    def number(self, dialect: Dialect, length: int | None) -> TypeEngine[Any]:
        """In the collation C: the database's own is for words, and takes three times as long to sort."""
        del dialect
        return String(length, collation="C") if length else Text(collation="C")

    def json(self, dialect: Dialect) -> TypeEngine[Any]:
        """`json`, not `jsonb`, which rewrites."""
        del dialect
        return postgresql.JSON()

    def views_read_as_owner(self, connection: Connection) -> bool:
        """Not where Citus reads the tables of other servers for whoever asks."""
        return not postgresql_access.is_spread(connection)

    def obstacles(self, connection: Connection) -> Iterator[Obstacle]:
        return postgresql_access.obstacles(connection)

    def grant(self, grants: Grants) -> None:
        """By a schema of the reader's own where it may read some accounts only."""
        postgresql_access.grant(grants)

    def meaning(self, error: DBAPIError) -> CdrsyncError | None:
        state = getattr(error.orig, "sqlstate", None)
        if state is None or error.connection_invalidated:
            return super().meaning(error)
        if state == NO_PRIVILEGE:
            return no_rights(error, postgresql_access.SCHEMA_HINT) if "schema" in str(error.orig) else no_rights(error)
        if state in PERSONS_MATTER:
            problem, hint = PERSONS_MATTER[state]
            return ConfigError([f"{problem}: {one_line(error.orig or error)}"], hint=hint)
        if state in COLLISIONS:
            return self.unavailable(error, Collision)
        passes = state.startswith(PASSING_STATES) and not self.refuses_value(error)
        return self.unavailable(error) if passes else None

    def code(self, error: BaseException) -> object:
        """Its SQLSTATE; None of a connection that failed."""
        return getattr(error, "sqlstate", None)

    def refuses_value(self, error: DBAPIError) -> bool:
        """A text may also be too long for an index; what a worker of Citus says of it comes without its SQLSTATE."""
        state = getattr(error.orig, "sqlstate", None)
        from_worker = state == INTERNAL and str(error.orig).startswith("index row")
        return super().refuses_value(error) or from_worker or state == TOO_LONG_TO_INDEX


KIND = Postgresql()


def _leave_read_only(context: ExceptionContext) -> None:
    """Drop the pool's sessions: they stay read-only when the server, or another one, can be written again."""
    if getattr(context.original_exception, "sqlstate", None) == READ_ONLY:
        context.is_disconnect = True


def _set_up(connection: Any, record: Any) -> None:
    """Names come in any script, and what a database can't hold must fit into its table of rejects at least."""
    del record
    encoding = connection.info.parameter_status("server_encoding")
    if encoding not in ENCODINGS:
        raise ConfigError(
            [f"the database {connection.info.dbname} is in {encoding}, which can't hold every name"],
            hint=f"createdb --encoding=UTF8 --template=template0 {connection.info.dbname}_utf8",
        )
    connection.autocommit = True  # BEGIN is ours


def _settings(replica: str) -> dict[str, str]:
    settings = {"TimeZone": "UTC", "DateStyle": "ISO, YMD"}
    if replica:
        idle, interval, count = KEEPALIVE
        settings |= {
            "application_name": APPLICATION.format(replica),
            "idle_in_transaction_session_timeout": f"{port.SILENT_SECONDS}s",
            "statement_timeout": f"{port.STATEMENT_SECONDS}s",
            "tcp_keepalives_idle": str(idle),
            "tcp_keepalives_interval": str(interval),
            "tcp_keepalives_count": str(count),
            "tcp_user_timeout": f"{port.SILENT_SECONDS}s",
        }
    return settings


_WAITS = "SELECT pg_backend_pid(), (SELECT wait_event FROM pg_stat_activity WHERE pid = %s)"
_END_SESSIONS = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE application_name = :application AND usename = current_user AND state <> 'idle'"
)
