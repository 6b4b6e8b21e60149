"""Is what a program stored what the source had? Compared value by value before any time of it counts."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import column, create_engine, select, table, text

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from sqlalchemy import ColumnClause

    from tests.benchmarks.data import Call
    from tests.benchmarks.programs import Program

MILLIONTH = Decimal("0.000001")
FLAGS = ("has_recorded_call", "has_voicemail_recording", "has_fax_document")


class WrongRows(Exception):
    """A program did not store what the source had. Its times are worthless."""


def compare(program: Program, database_url: str, calls: list[Call]) -> None:
    """Raises WrongRows at the first value that differs, at a missing row and at one too many."""
    names = program.columns
    with closing(_rows(program, database_url)) as rows:
        for position, call in enumerate(calls):
            row = next(rows, None)
            if row is None:
                raise WrongRows(f"{program.name}: {position} rows instead of {len(calls)}")
            wanted = tuple(getattr(call, name) for name in names)
            if row != wanted:
                differing = [
                    f"{name}: {got!r} instead of {want!r}"
                    for name, got, want in zip(names, row, wanted, strict=True)
                    if got != want
                ]
                raise WrongRows(f"{program.name}: uid {call.uid}: {'; '.join(differing)}")
        if (row := next(rows, None)) is not None:
            raise WrongRows(f"{program.name}: a row that the source never had: {row}")


def rewritten(database_url: str) -> int:
    """How many of cdrsync's rows say that they changed after they were first stored."""
    engine = create_engine(database_url)
    with engine.connect() as connection:
        count = int(connection.scalar(text("SELECT count(*) FROM cdr WHERE changed_at <> first_seen_at")) or 0)
    engine.dispose()
    return count


def _rows(program: Program, database_url: str) -> Generator[tuple[Any, ...], None, None]:
    """The rows by uid, each value in the form in which `Call` has it."""
    kind = database_url.split(":", 1)[0].split("+", 1)[0]
    schema, _, name = program.table.rpartition(".")
    columns: list[ColumnClause[Any]] = [column(one) for one in program.columns]
    source = table(name, *columns, schema=schema or None)
    statement = select(*columns).select_from(source).order_by(column("uid"))
    readers: list[tuple[int, Callable[[Any], Any]]] = [
        (position, reader) for position, one in enumerate(program.columns) if (reader := _reader(kind, one)) is not None
    ]
    engine = create_engine(database_url)
    try:
        with engine.connect().execution_options(stream_results=True, yield_per=5000) as connection:
            for found in connection.execute(statement):
                row = list(found)
                for position, reader in readers:
                    if row[position] is not None:
                        row[position] = reader(row[position])
                yield tuple(row)
    finally:
        engine.dispose()


def _reader(kind: str, name: str) -> Callable[[Any], Any] | None:
    """How a database's own form of a column becomes the source's."""
    readers: dict[str, Callable[[Any], Any]] = {}
    if kind == "sqlite":
        readers |= {
            "call_date": date.fromisoformat,
            "call_time": time.fromisoformat,
            "started_at": _instant,
            "user_cost": lambda millionths: int(millionths) * MILLIONTH,
        }
    elif kind == "mysql":
        readers |= {
            "call_time": lambda since: (
                (datetime.min.replace(tzinfo=UTC) + since).time() if isinstance(since, timedelta) else since
            ),
            "started_at": lambda naive: naive.replace(tzinfo=UTC),
        }
    if kind in ("sqlite", "mysql"):
        readers |= dict.fromkeys(FLAGS, bool)
    return readers.get(name)


def _instant(text_of_it: str) -> datetime:
    instant = datetime.fromisoformat(text_of_it)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
