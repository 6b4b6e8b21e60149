"""Column types that mean exactly the same on SQLite, PostgreSQL, MySQL and MariaDB.

What databases do differently by default would lose or blur something here: SQLite has neither decimals nor time zones,
MySQL's text compares without case and trailing spaces, and its JSON is rewritten when stored. Dialects are imported
where their types are asked for, since each takes a tenth of an idle sync's time.
"""

from __future__ import annotations

from datetime import UTC, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, DateTime, Numeric, String, Text, Time, cast
from sqlalchemy.types import TypeDecorator, TypeEngine

from cdrsync.model import COST_PLACES

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Dialect

MYSQL_FAMILY = ("mysql", "mariadb")
"""SQLAlchemy's names of the dialects that share MySQL's types. A MariaDB reached by a `mysql+…` URL is "mysql"."""


def micro(pounds: Decimal) -> int:
    """Pounds as whole millionths. Raises ValueError where that would round."""
    scaled = pounds.scaleb(COST_PLACES)
    whole = int(scaled)
    if whole != scaled:
        raise ValueError(f"{pounds} has more than {COST_PLACES} decimal places")
    return whole


def exact_collation(dialect: Dialect) -> str:
    """The collation in which two texts are equal only if they are the same, trailing spaces included."""
    return "utf8mb4_nopad_bin" if getattr(dialect, "is_mariadb", False) else "utf8mb4_0900_bin"


class Exact(TypeDecorator[str]):
    """Text kept and compared to the last character.

    `length`: a key of at most so many characters. Otherwise any length; on MySQL up to 16 MB, `long` up to 4 GB.
    """

    impl = Text
    cache_ok = True

    def __init__(self, length: int | None = None, *, long: bool = False) -> None:
        super().__init__()
        self.length = length
        self.long = long

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """MySQL's text needs its character set and collation said."""
        if dialect.name not in MYSQL_FAMILY:
            return String(self.length) if self.length else Text()
        from sqlalchemy.dialects import mysql

        options = {"charset": "utf8mb4", "collation": exact_collation(dialect)}
        if self.length:
            return mysql.VARCHAR(self.length, **options)
        return mysql.LONGTEXT(**options) if self.long else mysql.MEDIUMTEXT(**options)


class JsonText(TypeDecorator[str]):
    """A JSON document handed over and read back as its canonical text, so that it compares character by character.

    PostgreSQL: `json` (not `jsonb`, which rewrites). MySQL and MariaDB: LONGTEXT, which is what MariaDB's JSON is;
    MySQL's own would reorder the members. SQLite: text, read by its json functions.
    """

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """`json` where it keeps what it was given."""
        if dialect.name == "postgresql":
            from sqlalchemy.dialects import postgresql

            return postgresql.JSON()
        if dialect.name in MYSQL_FAMILY:
            from sqlalchemy.dialects import mysql

            return mysql.LONGTEXT(charset="utf8mb4", collation=exact_collation(dialect))
        return Text()

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Read as text: psycopg would parse `json`."""
        return cast(column, Text)

    def bind_processor(self, dialect: Dialect) -> Any:
        """The text itself: SQLAlchemy's JSON would quote it once more."""
        del dialect

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """The text itself."""
        del dialect, coltype


class Instant(TypeDecorator[datetime]):
    """An aware UTC instant, to the microsecond.

    PostgreSQL: timestamptz. MySQL and MariaDB: DATETIME(6) in UTC (their TIMESTAMP ends in 2038). SQLite: the text
    `YYYY-MM-DD HH:MM:SS[.ffffff]`, UTC, which sorts by time and which SQLite's date functions read.
    """

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The widest instant of each dialect."""
        if dialect.name == "sqlite":
            return Text()
        if dialect.name in MYSQL_FAMILY:
            from sqlalchemy.dialects import mysql

            return mysql.DATETIME(fsp=6)
        return DateTime(timezone=True)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Refuses a naive datetime: it would be read in whatever zone the server has."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("an instant without a time zone")
        if dialect.name == "postgresql":
            return value
        naive = value.astimezone(UTC).replace(tzinfo=None)
        return str(naive) if dialect.name == "sqlite" else naive

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Aware, UTC."""
        if value is None:
            return None
        if dialect.name == "postgresql":
            aware: datetime = value
            return aware.astimezone(UTC)
        return (datetime.fromisoformat(value) if isinstance(value, str) else value).replace(tzinfo=UTC)


class Pounds(TypeDecorator[Decimal]):
    """Pounds, exact to COST_PLACES decimals: NUMERIC, or on SQLite a whole number of millionths."""

    impl = Numeric
    cache_ok = True

    def __init__(self, precision: int = 18) -> None:
        super().__init__(precision, COST_PLACES)
        self.precision = precision

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """SQLite would keep NUMERIC as a binary float."""
        if dialect.name == "sqlite":
            return BigInteger()
        return Numeric(self.precision, COST_PLACES)

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        """Raises ValueError for what the column would round."""
        if value is None:
            return None
        whole = micro(value)
        return whole if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        """Pounds again."""
        if value is None:
            return None
        return Decimal(value).scaleb(-COST_PLACES) if dialect.name == "sqlite" else Decimal(value)


class WallTime(TypeDecorator[time]):
    """A time of day in whole seconds, on SQLite the text `HH:MM:SS`."""

    impl = Time
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """SQLAlchemy's own would write microseconds on SQLite."""
        return Text() if dialect.name == "sqlite" else Time()

    def process_bind_param(self, value: time | None, dialect: Dialect) -> Any:
        """As the database takes it."""
        return value.isoformat("seconds") if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> time | None:
        """A time again."""
        return time.fromisoformat(value) if value is not None and dialect.name == "sqlite" else value
