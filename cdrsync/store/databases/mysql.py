"""MySQL and MariaDB: rows as SQL literals (`mysql_literals`), in statements of many rows each."""

from __future__ import annotations

import contextlib
from datetime import UTC
from typing import TYPE_CHECKING, Any, ClassVar

import pymysql
from sqlalchemy import event
from sqlalchemy.dialects import mysql

from cdrsync.errors import ConfigError
from cdrsync.model import Cdr
from cdrsync.store.databases import mysql_access, port
from cdrsync.store.databases.mysql_literals import STORED, instants, literals
from cdrsync.store.databases.port import (
    COLUMNS,
    CONNECT_SECONDS,
    NUMBER_COLUMNS,
    Collision,
    DatabaseKind,
    TooLarge,
    driver,
    no_rights,
    pieces,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Column, Insert, Select, Table
    from sqlalchemy.engine import URL, Connection, Dialect, Engine, ExceptionContext
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.types import TypeEngine

    from cdrsync.errors import CdrsyncError
    from cdrsync.store.databases.grants import Grants
    from cdrsync.store.databases.port import Changes, Number, Obstacle

STATEMENT_LENGTH = 2**20
"""Characters of one INSERT: enough for some thousands of rows. Fewer where the server's max_allowed_packet is small."""

UIDS = 1_000  # of one statement

SQL_MODE = "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"

NO_GUARDS = "sql_select_limit = 18446744073709551615, sql_safe_updates = 0, sql_big_selects = 1, completion_type = 0"
"""What a server may have set against people who type: answers that are cut off without a word, statements refused."""

READ_ONLY = (1290, 1792, 1836)
STALE = (*READ_ONLY, *mysql_access.NO_PRIVILEGE)
PASSING = (*READ_ONLY, 1146, 1205)  # no such table; a lock that does not come
COLLISIONS = (1213, 1020, 3101)  # deadlocks and failed certification: InnoDB, MariaDB, group replication
TOO_LARGE = (1180, 1197, 3100)  # a write-set or a transaction in the binary log: Galera, both, group replication
UNKNOWN = 1105  # Galera's for the same, among others

SETTINGS = {
    1709: mysql_access.ROW_FORMAT_HINT,
    1071: mysql_access.ROW_FORMAT_HINT,
    1665: mysql_access.BINLOG_HINT,
    2059: "Give cdrsync a user that logs in by password (caching_sha2_password, mysql_native_password or ed25519)",
}
"""What is to be done about a server where cdrsync can't work, by the numbers of errors."""

_PACKET = "cdrsync_packet"  # attribute of a connection

_ROOM = 4096  # of a packet, for the statement around the rows

_INSERT = f"INSERT INTO cdr (account_id, {COLUMNS}, first_seen_at, changed_at) VALUES "  # noqa: S608 - our own column names
_NOTE = f"INSERT INTO number (first_seen_at, {', '.join(NUMBER_COLUMNS)}) VALUES "  # noqa: S608 - our own column names
_NOTED = " ON DUPLICATE KEY UPDATE number = number.number"


class Mysql(DatabaseKind):
    """MySQL and what came of it."""

    words = "mysql"
    # With the rights of whoever asks: a restore may well lose the user who made it.
    create_view = "CREATE OR REPLACE SQL SECURITY INVOKER VIEW"
    json_needs_check = True
    remedies = mysql_access.REMEDIES
    quote_mark = "`"
    look_arguments: ClassVar[Mapping[str, Any]] = dict.fromkeys(("connect_timeout", "read_timeout"), CONNECT_SECONDS)
    lock_limit = f"SET SESSION lock_wait_timeout = {port.LOCK_SECONDS}"
    now = "UTC_TIMESTAMP(6)"

    def plain_url(self, url: URL) -> URL:
        """Its options of TLS are read here."""
        return mysql_access.plain_url(url)

    def connect_arguments(self, url: URL, *, writer: bool) -> dict[str, Any]:
        """Sessions speak UTC, and refuse what they would have to change, from their first statement on."""
        settings = {
            "charset": "utf8mb4",
            "connect_timeout": CONNECT_SECONDS,
            "init_command": _settings(writer),
            "read_timeout": CONNECT_SECONDS,
            "write_timeout": port.CUT_SECONDS,
            "cursorclass": _Cursor,
        }
        return {name: value for name, value in settings.items() if name not in url.query} | mysql_access.tls(url)

    def waits(self, look: Any, connection: Any) -> bool:
        with look.cursor() as cursor:
            cursor.execute(mysql_access.WAITS, (connection.thread_id(),))
            mine, command = cursor.fetchone()
        return bool(mine == look.thread_id() and command == "Sleep")

    def descriptor(self, connection: Any) -> int | None:
        """The driver keeps it to itself."""
        connected = getattr(connection, "_sock", None)
        return None if connected is None else int(connected.fileno())

    def set_up(self, engine: Engine, replica: str) -> None:
        """Say what a login lacks, and keep to what the server takes."""
        event.listen(engine, "do_connect", mysql_access.log_in)
        if "read_timeout" not in engine.url.query:
            event.listen(engine, "connect", mysql_access.patient(port.CUT_SECONDS if replica else None))
        event.listen(engine, "connect", _learn_packet)
        event.listen(engine, "handle_error", _leave_stale)

    def forms(self, calls: Sequence[Cdr]) -> Sequence[str]:
        return literals(calls, Cdr._fields)

    def stored_statement(self, account_id: int, uids: Sequence[int]) -> tuple[str, tuple[Any, ...]]:
        """The server quotes the rows."""
        return f"{STORED} WHERE account_id = %s AND uid IN ({','.join(map(str, uids))})", (account_id,)

    def stored(self, connection: Connection, account_id: int, uids: Sequence[int]) -> dict[int, str]:
        found: dict[int, str] = {}
        with driver(connection) as raw, raw.cursor() as cursor:
            for some in pieces(uids, UIDS):
                cursor.execute(*self.stored_statement(account_id, some))
                found.update((int(row.partition(",")[0]), row) for (row,) in cursor.fetchall())
        return found

    def insert(self, connection: Connection, account_id: int, forms: Sequence[str], now: datetime) -> None:
        """Write new calls, about a megabyte of them in a statement."""
        seen = f",{instants([now])[0]}" * 2
        _write(connection, forms, f"{_INSERT}({account_id},", f"{seen}),({account_id},", f"{seen})")

    def note_numbers(self, connection: Connection, numbers: Sequence[Number], now: datetime) -> None:
        """The same way. INSERT IGNORE would ignore bad values too."""
        begin = f"({instants([now])[0]},"
        _write(connection, literals(numbers, NUMBER_COLUMNS), f"{_NOTE}{begin}", f"),{begin}", f"){_NOTED}")

    def by_uid(self, statement: Select[Any], uid: Column[int], uids: Sequence[int]) -> Select[Any]:
        return statement.with_hint(uid.table, "FORCE INDEX (PRIMARY)").where(uid.in_(uids))

    def upsert(self, table: Table, key: list[str], changes: Changes) -> Insert:
        """ON DUPLICATE KEY, which knows no key."""
        del key
        statement = mysql.insert(table)
        # A list keeps its order.
        return statement.on_duplicate_key_update(list(changes(lambda name: statement.inserted[name]).items()))

    def is_stand_in(self, connection: Connection, view: str) -> bool:
        """Such a one is SELECT 1 AS each column."""
        query = "SELECT view_definition FROM information_schema.views WHERE table_schema = DATABASE()"
        found = connection.exec_driver_sql(f"{query} AND table_name = %s", (view,)).scalar()
        return str(found).startswith("select 1 AS")

    def text(self, dialect: Dialect, length: int | None, *, long: bool) -> TypeEngine[Any]:
        """In a collation in which two texts are equal only if they are the same, trailing spaces included."""
        options = {"charset": "utf8mb4", "collation": _collation(dialect)}
        if length:
            return mysql.VARCHAR(length, **options)
        return mysql.LONGTEXT(**options) if long else mysql.MEDIUMTEXT(**options)

    def json(self, dialect: Dialect) -> TypeEngine[Any]:
        """LONGTEXT, which is what MariaDB's JSON is; MySQL's own would reorder the members."""
        return self.text(dialect, None, long=True)

    def instant(self) -> TypeEngine[Any]:
        """DATETIME: TIMESTAMP ends in 2038."""
        return mysql.DATETIME(fsp=6)

    def bound_instant(self, value: datetime) -> datetime:
        """In UTC, without saying so."""
        return value.astimezone(UTC).replace(tzinfo=None)

    def text_bytes(self, connection: Connection) -> int:
        """Two of them fit into a packet, even where every character must be quoted."""
        return (_packet(connection.connection.dbapi_connection) - _ROOM) // 4

    def views_read_as_owner(self, connection: Connection) -> bool:
        """No: see `create_view`."""
        del connection
        return False

    def obstacles(self, connection: Connection) -> Iterator[Obstacle]:
        return mysql_access.obstacles(connection)

    def grant(self, grants: Grants) -> None:
        mysql_access.grant(grants)

    def meaning(self, error: DBAPIError) -> CdrsyncError | None:
        number, said = (*error.orig.args, "", "")[:2] if error.orig else ("", "")
        if number in mysql_access.NO_PRIVILEGE:
            return no_rights(error, mysql_access.GRANT_HINT) if "GRANT " in str(said) else no_rights(error)
        if number in SETTINGS:
            return ConfigError(
                [f"the database server is not set up for this: {said} ({number})"], hint=SETTINGS[number]
            )
        if number in PASSING:
            return self.unavailable(error)
        if number in COLLISIONS:
            return self.unavailable(error, Collision)
        if number in TOO_LARGE or (number == UNKNOWN and "write" in str(said).lower()):
            return self.unavailable(error, TooLarge)
        return super().meaning(error)

    def code(self, error: BaseException) -> object:
        """Its number."""
        return error.args[0] if error.args else ""


KIND = Mysql()


def _leave_stale(context: ExceptionContext) -> None:
    """Drop the pool's sessions at errors that they would go on to tell.

    After a failover another server answers to the same name; rights that were granted count for new sessions alone.
    """
    if context.original_exception.args[:1] and context.original_exception.args[0] in STALE:
        context.is_disconnect = True


def _settings(writer: bool) -> str:  # noqa: FBT001 - a matter of this file
    settings = f"time_zone = '+00:00', sql_mode = '{SQL_MODE}', default_storage_engine = InnoDB, {NO_GUARDS}"
    if writer:
        limits = ("innodb_lock_wait_timeout", "lock_wait_timeout", "net_read_timeout", "net_write_timeout")
        settings += "".join(f", {limit} = {port.SILENT_SECONDS}" for limit in limits)
        # MySQL has no limit for a transaction that falls silent, only one for a session. M: MariaDB, from this version
        # on; it leaves comments with MySQL's newer versions alone.
        settings += f" /*M!100300 , idle_transaction_timeout = {port.SILENT_SECONDS} */"
        settings += f" /*!80000 , wait_timeout = {port.SILENT_SECONDS} */"
    return f"SET SESSION {settings}"


class _Cursor(pymysql.cursors.Cursor):
    """Sends nothing that the server would answer by hanging up."""

    max_stmt_length = 2**15  # of many rows in one INSERT

    def execute(self, query: str, args: object = None) -> int:
        """Send a statement. Raises DataError for one that is larger than a packet."""
        statement = query if args is None else self.mogrify(query, args)
        packet = getattr(self.connection, _PACKET, None)
        if packet and len(statement) * 4 > packet:
            # Many rows of one INSERT are bytes already.
            sent = statement.encode("utf-8", "surrogatepass") if isinstance(statement, str) else statement
            if len(sent) > packet - _ROOM // 2:
                raise pymysql.err.DataError(1153, f"longer than the server's max_allowed_packet, {packet} bytes")
        return super().execute(statement)


def _learn_packet(connection: Any, record: Any) -> None:
    del record
    _packet(connection)


def _packet(connection: Any) -> int:
    """Bytes that the server takes at once."""
    if not hasattr(connection, _PACKET):
        with contextlib.closing(connection.cursor()) as cursor:
            cursor.execute("SELECT @@max_allowed_packet")
            setattr(connection, _PACKET, cursor.fetchone()[0])
    packet: int = getattr(connection, _PACKET)
    return packet


def _collation(dialect: Dialect) -> str:
    return "utf8mb4_nopad_bin" if getattr(dialect, "is_mariadb", False) else "utf8mb4_0900_bin"


def _write(connection: Connection, rows: Sequence[str], begin: str, between: str, end: str) -> None:
    """INSERT many rows, in statements that the server takes."""
    packet = _packet(connection.connection.dbapi_connection)
    for some in _batches(rows, len(between), packet):
        # Without parameters the driver leaves per cent signs alone.
        connection.exec_driver_sql(f"{begin}{between.join(some)}{end}", execution_options={"no_parameters": True})


def _batches(rows: Sequence[str], between: int, packet: int) -> Iterator[Sequence[str]]:
    """Rows that fit into a packet of so many bytes, `between` characters after each, or one that does not."""
    most = min(STATEMENT_LENGTH, (packet - _ROOM) // 4)  # a character takes at most four bytes
    start = size = 0
    for place, length in enumerate(map(len, rows)):
        size += length + between
        if size > most and place > start:
            yield rows[start:place]
            start, size = place, length + between
    if len(rows) > start:
        yield rows[start:]
