"""MySQL and MariaDB: rows as SQL literals, in statements of many rows each.

PyMySQL formats each parameter by itself, which takes longer than the server needs to store it. Here a row becomes one
piece of text, and the server quotes back what it holds in the same way (QUOTE): equal text means an unchanged row.
"""

from __future__ import annotations

import contextlib
from datetime import UTC
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.dialects import mysql

from cdrsync.errors import ConfigError
from cdrsync.model import COST_PLACES, FIELDS, Cdr, Kind
from cdrsync.store.databases.port import (
    COLUMNS,
    CONNECT_SECONDS,
    NUMBER_COLUMNS,
    DatabaseKind,
    driver,
    micro,
    no_rights,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from decimal import Decimal

    from sqlalchemy import Column, Insert, Select, Table
    from sqlalchemy.engine import URL, Connection, Dialect, Engine
    from sqlalchemy.exc import DBAPIError
    from sqlalchemy.types import TypeEngine

    from cdrsync.errors import CdrsyncError
    from cdrsync.store.databases.grants import Grants
    from cdrsync.store.databases.port import Changes, Number

STATEMENT_LENGTH = 2**20
"""Characters of one INSERT: enough for some thousands of rows. Fewer where the server's max_allowed_packet is small."""

UIDS = 1_000  # of one statement

SQL_MODE = "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"

NO_PRIVILEGE = (1044, 1142, 1143, 1227)

_ROOM = 4096  # of a packet, for the statement around the rows

_INSERT = f"INSERT INTO cdr (account_id, {COLUMNS}, first_seen_at, changed_at) VALUES "  # noqa: S608 - our own column names
_NOTE = f"INSERT INTO number (first_seen_at, {', '.join(NUMBER_COLUMNS)}) VALUES "  # noqa: S608 - our own column names
_NOTED = " ON DUPLICATE KEY UPDATE number = number.number"


class Mysql(DatabaseKind):
    """MySQL and what came of it."""

    json_needs_check = True
    quote_mark = "`"

    def check(self, url: URL) -> None:
        """Whatever names a server may be meant."""

    def connect_arguments(self, url: URL) -> dict[str, Any]:
        """To be ready for TLS, PyMySQL loads every certificate authority; a socket of this machine has no use for it.

        What the URL says of TLS stays as it is: an argument here would override it.
        """
        local = "unix_socket" in url.query and not any(name.startswith("ssl") for name in url.query)
        plain = {"ssl_disabled": True} if local else {}
        return {"charset": "utf8mb4", "connect_timeout": CONNECT_SECONDS, **plain}

    def set_up(self, engine: Engine) -> None:
        """Sessions speak UTC, and refuse what they would have to change."""
        event.listen(engine, "connect", _set_up)

    def forms(self, calls: Sequence[Cdr]) -> Sequence[str]:
        """Each call as SQL literals."""
        return literals(calls, Cdr._fields)

    def stored_statement(self, account_id: int, uids: Sequence[int]) -> tuple[str, tuple[Any, ...]]:
        """The server quotes the rows."""
        return f"{_STORED} WHERE account_id = %s AND uid IN ({','.join(map(str, uids))})", (account_id,)

    def stored(self, connection: Connection, account_id: int, uids: Sequence[int]) -> dict[int, str]:
        """Some at a time."""
        found: dict[int, str] = {}
        with driver(connection) as raw, raw.cursor() as cursor:
            for start in range(0, len(uids), UIDS):
                cursor.execute(*self.stored_statement(account_id, uids[start : start + UIDS]))
                found.update(cursor.fetchall())
        return found

    def insert(self, connection: Connection, account_id: int, forms: Sequence[str], now: datetime) -> None:
        """Write new calls, about a megabyte of them in a statement."""
        seen = f",{_instant(now)}" * 2
        _write(connection, forms, f"{_INSERT}({account_id},", f"{seen}),({account_id},", f"{seen})")

    def note_numbers(self, connection: Connection, numbers: Sequence[Number], now: datetime) -> None:
        """The same way. INSERT IGNORE would ignore bad values too."""
        begin = f"({_instant(now)},"
        _write(connection, literals(numbers, NUMBER_COLUMNS), f"{_NOTE}{begin}", f"),{begin}", f"){_NOTED}")

    def by_uid(self, statement: Select[Any], uid: Column[int], uids: Sequence[int]) -> Select[Any]:
        """By a list."""
        return statement.with_hint(uid.table, "FORCE INDEX (PRIMARY)").where(uid.in_(uids))

    def upsert(self, table: Table, key: list[str], changes: Changes) -> Insert:
        """ON DUPLICATE KEY, which knows no key."""
        del key
        statement = mysql.insert(table)
        # A list keeps its order.
        return statement.on_duplicate_key_update(list(changes(lambda name: statement.inserted[name]).items()))

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

    def grant(self, grants: Grants) -> None:
        """On each view by itself: there is nothing between a table and all of the database."""
        _grant(grants)

    def meaning(self, error: DBAPIError) -> CdrsyncError | None:
        """By number."""
        arguments = error.orig.args if error.orig else ()
        return no_rights(error) if arguments and arguments[0] in NO_PRIVILEGE else super().meaning(error)


KIND = Mysql()


def _set_up(connection: Any, record: Any) -> None:
    del record
    with contextlib.closing(connection.cursor()) as cursor:
        cursor.execute(f"SET SESSION time_zone = '+00:00', sql_mode = '{SQL_MODE}'")
    connection.commit()


def _collation(dialect: Dialect) -> str:
    return "utf8mb4_nopad_bin" if getattr(dialect, "is_mariadb", False) else "utf8mb4_0900_bin"


def _write(connection: Connection, rows: Sequence[str], begin: str, between: str, end: str) -> None:
    """INSERT many rows, in statements that the server takes."""
    packet = connection.exec_driver_sql("SELECT @@max_allowed_packet").scalar_one()
    for some in _batches(rows, len(between), packet):
        # Without parameters the driver leaves per cent signs alone.
        connection.exec_driver_sql(f"{begin}{between.join(some)}{end}", execution_options={"no_parameters": True})


def _batches(rows: Sequence[str], between: int, packet: int) -> Iterator[Sequence[str]]:
    """Rows that fit into a packet of so many bytes together. Raises ValueError for a row that never will.

    `between` characters stand between each row and the next.
    """
    most = min(STATEMENT_LENGTH, (packet - _ROOM) // 4)  # a character takes at most four bytes
    start = size = 0
    for place, length in enumerate(map(len, rows)):
        if length > most and len(rows[place].encode()) > packet - _ROOM:
            raise ValueError(f"longer than the server's max_allowed_packet, {packet} bytes")
        size += length + between
        if size > most and place > start:
            yield rows[start:place]
            start, size = place, length + between
    if len(rows) > start:
        yield rows[start:]


def literals(rows: Sequence[tuple[Any, ...]], names: Sequence[str]) -> list[str]:
    """Each row as SQL literals, separated by commas. `names` are its columns'."""
    written = [
        map(_LITERALS.get(name, _text), column) for name, column in zip(names, zip(*rows, strict=True), strict=True)
    ]
    return list(map(",".join, zip(*written, strict=True)))


_ESCAPING = str.maketrans({"\\": "\\\\", "'": "\\'", "\0": "\\0", "\x1a": "\\Z"})


def _text(value: object) -> str:
    """As the server's own QUOTE does (`sql_mode` is ours, so the backslash escapes)."""
    return "NULL" if value is None else f"'{str(value).translate(_ESCAPING)}'"


def _instant(value: datetime) -> str:
    """To the microsecond, as the server writes it."""
    return f"'{value.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}'"


def _pounds(value: Decimal) -> str:
    micro(value)
    return f"{value:.{COST_PLACES}f}"


def _whole(value: int | None) -> str:
    return "NULL" if value is None else str(int(value))


_OF_KIND: dict[Kind, Callable[[Any], str]] = {Kind.WHOLE: _whole, Kind.FLAG: _whole, Kind.POUNDS: _pounds}
_LITERALS = {
    **{field.column: _OF_KIND[field.kind] for field in FIELDS if field.kind in _OF_KIND},
    "started_at": _instant,
}
"""How the values of a column that is no text, date or time are written."""


def _quoted_back(name: str) -> str:
    """The SQL that makes of a stored value what `literals` makes of ours."""
    if name == "started_at":
        return f"QUOTE(DATE_FORMAT({name}, '%%Y-%%m-%%d %%H:%%i:%%s.%%f'))"
    return f"IFNULL({name}, 'NULL')" if name in _LITERALS else f"QUOTE({name})"


_STORED = (
    f"SELECT uid, CONCAT_WS(',', {', '.join(map(_quoted_back, Cdr._fields))})"  # noqa: S608 - our own column names
    " FROM cdr FORCE INDEX (PRIMARY)"
)


def _grant(grants: Grants) -> None:
    if grants.readable.accounts:
        raise ConfigError(["only PostgreSQL can limit a reader to accounts"], hint="Leave --account away")
    name, host = _user(grants)
    # A role of MariaDB has no host. Quoted as text, which names of users may be.
    user = f"{_quoted(name)}@{_quoted(host)}" if host else _quoted(name)
    ((database,),) = grants.ask("SELECT DATABASE()")
    held = grants.ask(
        "SELECT DISTINCT table_name FROM information_schema.table_privileges"
        " WHERE table_schema = :database AND grantee IN (:user, :role)",
        database=database,
        user=f"'{name}'@'{host}'",
        role=f"'{name}'@''",
    )
    schema = grants.quote(database)
    for (table,) in held:
        if table in grants.readable.ours:
            grants.say(f"REVOKE ALL PRIVILEGES ON {schema}.{grants.quote(table)} FROM {user}")
    for table in grants.readable.objects:
        grants.say(f"GRANT SELECT ON {schema}.{grants.quote(table)} TO {user}")


def _user(grants: Grants) -> tuple[str, str]:
    """Name and host. It must exist: an old server makes an unknown user on GRANT, without a password."""
    name, at, host = grants.role.rpartition("@")
    if not at:
        name = grants.role
    hosts = [str(row[0]) for row in grants.ask("SELECT host FROM mysql.user WHERE user = :name", name=name)]
    if at and host in hosts:
        return name, host
    if at or not hosts:
        raise ConfigError([f"there is no user or role {grants.role!r}"], hint="CREATE USER name@host IDENTIFIED BY '…'")
    if len(hosts) > 1:
        choices = ", ".join(f"{name}@{found}" for found in sorted(hosts))
        raise ConfigError([f"there are several users {name!r}: say which of {choices}"])
    return name, hosts[0]


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
