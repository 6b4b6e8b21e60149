"""Column types that mean exactly the same on every database.

What databases do differently by default would lose or blur something here: SQLite has neither decimals nor time zones,
MySQL's text compares without case and trailing spaces, and its JSON is rewritten when stored. What each uses instead
stands in its file (`databases`). Migrations use them as well: what one means to a database stays once released.
"""

from __future__ import annotations

from datetime import UTC, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import CheckConstraint, DateTime, Numeric, Text, Time, cast
from sqlalchemy.types import TypeDecorator, TypeEngine

from cdrsync.model import COST_PLACES
from cdrsync.store.databases.choose import kind_of
from cdrsync.store.databases.port import micro

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Dialect


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
        return kind_of(dialect.name).text(dialect, self.length, long=self.long)


class Number(Exact):
    """A telephone number as text: sorted byte by byte, which is quick."""

    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return kind_of(dialect.name).number(dialect, self.length)


class JsonText(TypeDecorator[str]):
    """A JSON document handed over and read back as its canonical text, so that it compares character by character."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return kind_of(dialect.name).json(dialect)

    def column_expression(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """Read as text: psycopg would parse `json`."""
        return cast(column, Text)

    def bind_processor(self, dialect: Dialect) -> Any:
        """The text itself: SQLAlchemy's JSON would quote it once more."""
        del dialect

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        del dialect, coltype


def json_check(condition: str, name: str) -> Any:
    """A constraint on a column of JsonText, where the database would hold any text there."""
    return CheckConstraint(condition, name=name).ddl_if(callable_=_holds_any_text)


def _holds_any_text(*_: Any, dialect: Dialect, **__: Any) -> bool:
    return kind_of(dialect.name).json_needs_check


class Instant(TypeDecorator[datetime]):
    """An aware UTC instant, to the microsecond."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return kind_of(dialect.name).instant()

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Refuses a naive datetime: it would be read in whatever zone the server has."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("an instant without a time zone")
        return kind_of(dialect.name).bound_instant(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Aware, UTC."""
        del dialect
        if value is None:
            return None
        read: datetime = datetime.fromisoformat(value) if isinstance(value, str) else value
        return read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC)


class Pounds(TypeDecorator[Decimal]):
    """Pounds, exact to COST_PLACES decimals."""

    impl = Numeric
    cache_ok = True

    def __init__(self, precision: int = 18) -> None:
        super().__init__(precision, COST_PLACES)
        self.precision = precision

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return kind_of(dialect.name).pounds(self.precision)

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        """Raises ValueError for what the column would round."""
        if value is None:
            return None
        micro(value)
        return kind_of(dialect.name).bound_pounds(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        return None if value is None else kind_of(dialect.name).read_pounds(value)


class WallTime(TypeDecorator[time]):
    """A time of day in whole seconds."""

    impl = Time
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return kind_of(dialect.name).time()

    def process_bind_param(self, value: time | None, dialect: Dialect) -> Any:
        return None if value is None else kind_of(dialect.name).bound_time(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> time | None:
        del dialect
        return time.fromisoformat(value) if isinstance(value, str) else value
