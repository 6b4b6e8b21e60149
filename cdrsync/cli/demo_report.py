"""What the demo shows at its end: the comparison with the stand-in's own records, and the database from the inside."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from sqlalchemy import select

from cdrsync.cli import output
from cdrsync.model import FIELDS, Kind
from cdrsync.sandbox.calls import SOMETIMES
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.schema import tables
from cdrsync.sync.streams import Stream

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from rich.console import Console

    from cdrsync.sandbox import Call, World

CHART_ROWS = 6
DIFFERENCES_SHOWN = 5
BLOCKS = " ▁▂▃▄▅▆▇█"
BLOCKS_ASCII = " .:#"

NAMES = {element: name for name, element in SOMETIMES.items()}  # that a stand-in's Call has for elements
COMPARED = (*(field.column for field in FIELDS), "started_at", "extra")

QUERIES = {
    "Busiest callers": """\
SELECT caller, count(*) AS calls, sum(duration) / 60 AS minutes FROM calls
WHERE NOT caller_withheld GROUP BY caller ORDER BY calls DESC LIMIT 3""",
    "Missed calls by number": """\
SELECT called_number, alias, missed, calls FROM numbers
ORDER BY missed DESC LIMIT 3""",
    "What the operator changed later": """\
SELECT changed_at, uid, column_name, old_value, new_value FROM changes
ORDER BY id DESC LIMIT 3""",
}


def today() -> date:
    """The day it is for the operator."""
    return datetime.now(ZoneInfo("Europe/London")).date()


def count(database: Path) -> int:
    with closing(_open(database)) as connection:
        return int(connection.execute("SELECT count(*) FROM cdr").fetchone()[0])


def _open(database: Path) -> sqlite3.Connection:
    """Only read from, yet opened for writing: whoever closes last then tidies up SQLite's -wal and -shm files."""
    return sqlite3.connect(f"file:{quote(str(database.resolve()))}?mode=rw", uri=True)


def differences(database: Path, calls: Sequence[Call]) -> list[str]:
    """Compare every column of every row with the stand-in's records; one line for each difference."""
    engine = open_engine(f"sqlite:///{database.resolve()}")
    try:
        with engine.connect() as connection:
            columns = [tables.cdr.c[name] for name in COMPARED]
            held = {row.uid: tuple(row) for row in connection.execute(select(*columns))}
    finally:
        engine.dispose()
    found = []
    for call in calls:
        row = held.pop(call.uid, None)
        if row is None:
            found.append(f"uid {call.uid} is missing")
        elif (expected := _row_of(call, row)) != row:
            unequal = [f"{n} {a!r} != {b!r}" for n, a, b in zip(COMPARED, row, expected, strict=True) if a != b]
            found.append(f"uid {call.uid}: {', '.join(unequal)}")
    return found + [f"uid {uid} is not the operator's" for uid in held]


def _row_of(call: Call, held: Sequence[Any]) -> tuple[Any, ...]:
    """The row that a call must give. A flag that the operator left out keeps whatever was known of it."""
    known = dict(zip(COMPARED, held, strict=True))
    row: dict[str, Any] = {}
    for field in FIELDS:
        sent = getattr(call, NAMES.get(field.element, field.element))
        match field.kind:
            case Kind.DATE:
                row[field.column] = date.fromisoformat(sent)
            case Kind.TIME:
                row[field.column] = time.fromisoformat(sent)
            case Kind.POUNDS:
                row[field.column] = Decimal(sent)
            case Kind.FLAG if sent is None:
                row[field.column] = known[field.column]
            case _:
                row[field.column] = sent
    return (*row.values(), datetime.fromtimestamp(call.started, UTC), known["extra"] if call.extra else None)


def show(console: Console, database: Path, world: World, found: list[str], seconds: float) -> None:
    calls = world.records()
    with closing(_open(database)) as connection:
        held = int(connection.execute("SELECT count(*) FROM cdr").fetchone()[0])
        per_day = connection.execute("SELECT call_date, count(*) FROM cdr GROUP BY call_date ORDER BY call_date")
        console.print("\n[bold]Calls per day[/]")
        for line in chart([(date.fromisoformat(day), calls) for day, calls in per_day], _blocks(console)):
            console.print(line, markup=False)
        console.print("\n[bold]Checkpoint[/]")
        (uid,) = connection.execute("SELECT high_water_uid FROM checkpoint WHERE stream = ?", (Stream.TAIL,)).fetchone()
        console.print(f"high water: uid {uid}; the next poll asks for what comes after it")
        console.print(f"\n[bold]The file to open[/]\n{database}  ({database.stat().st_size / 1e6:.1f} MB, SQLite)")
        console.print("\n[bold]Three queries to try[/], and their answers")
        for title, sql in QUERIES.items():
            console.print(f"-- {title}\n{sql};", style="cyan", markup=False)
            answer = connection.execute(sql)
            for line in aligned([column[0] for column in answer.description], answer):
                console.print(f"    {line}", markup=False)
    console.print("\n[bold]Equal?[/]")
    for difference in found[:DIFFERENCES_SHOWN]:
        console.print(difference, markup=False)
    console.print(f"the operator's stand-in has {len(calls):,} calls, the database {held:,}")
    verdict = "[green]All equal[/], every column of every row" if not found else f"[red]{len(found)} differences[/]"
    console.print(f"{verdict}. {seconds:.0f} s in all.")


def _blocks(console: Console) -> str:
    try:
        BLOCKS.encode(console.encoding)
    except UnicodeEncodeError:
        return BLOCKS_ASCII
    return BLOCKS


def chart(per_day: Sequence[tuple[date, int]], blocks: str = BLOCKS) -> list[str]:
    """Columns, one a day, under a scale, over the first and the last day."""
    if not per_day:
        return ["none"]
    most = max(calls for _, calls in per_day)
    width = len(f"{most:,}")
    steps = len(blocks) - 1
    heights = [round(calls * CHART_ROWS * steps / most) for _, calls in per_day]
    lines = []
    for row in reversed(range(CHART_ROWS)):
        label = f"{most:,}" if row == CHART_ROWS - 1 else "0" if row == 0 else ""
        lines.append(f"{label:>{width}} " + "".join(blocks[min(steps, max(0, h - row * steps))] for h in heights))
    first, last = per_day[0][0].isoformat(), per_day[-1][0].isoformat()
    return [*lines, " " * (width + 1) + f"{first}{last:>{max(len(last) + 2, len(per_day) - len(first))}}"]


def aligned(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Rows of a query as lines of aligned columns, numbers to the right."""
    table = list(rows)
    right = [n for row in table[:1] for n, value in enumerate(row) if isinstance(value, int | float)]
    return output.aligned(table, headings, right=right)
