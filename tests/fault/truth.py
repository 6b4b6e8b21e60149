"""What must be true of a database at any moment, whoever was killed when, held against the operator's own records."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import inspect, select

from cdrsync.store.databases.choose import kind_of
from cdrsync.store.schema import versions
from cdrsync.store.schema.tables import NUMBER_LENGTH, cdr, checkpoint, coverage, number
from cdrsync.sync.streams import Stream
from tests.support.rig import COLUMNS, expected

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import date

    from sqlalchemy.engine import Connection, Engine

    from tests.support.operator import Call


@dataclass(frozen=True)
class Truth:
    """The operator's records, and what the campaign did to them."""

    calls: Sequence[Call]
    history_top: int  # the highest uid there was when the world began: days of history were complete from then on
    late: Collection[int] = ()  # uids that became visible after higher ones
    changed: Collection[int] = ()  # uids whose values changed: the table may hold what was true before


def violations(engine: Engine, truth: Truth) -> list[str]:
    """Everything that is wrong, one line each; none before there is a schema.

    Of one moment: a server may still be at the last commit of a program that was killed.
    """
    with engine.connect().execution_options(**kind_of(engine.dialect.name).snapshot) as connection:
        if not _has_schema(connection):
            return []
        rows = connection.execute(select(cdr)).all()
        marks = {row.stream: row for row in connection.execute(select(checkpoint))}
        ledger = connection.execute(select(coverage)).all()
        numbers = set(connection.execute(select(number.c.number)).scalars())
    held = {row.uid: row for row in rows}
    readable = {call.uid: call for call in truth.calls if call.raw is None}
    found = [f"doubled: uid {uid}" for uid, count in Counter(row.uid for row in rows).items() if count > 1]
    found += [f"held without being the operator's: uid {uid}" for uid in held.keys() - readable.keys()]
    found += _wrong_values(held, readable, truth)
    missing = [call for call in readable.values() if call.uid not in held and call.uid not in truth.late]
    found += _ahead(missing, marks, ledger, truth.history_top)
    found += _ledger_differs(rows, ledger)
    unnoted = {text for row in rows for text in (row.anumber, row.bnumber, row.dialled) if text} - numbers
    found += [f"number of a held call not noted: {text!r}" for text in unnoted if len(text) <= NUMBER_LENGTH]
    return found


def _has_schema(connection: Connection) -> bool:
    """Whether the schema was ever brought up to date: a killed upgrade may have left some of its steps undone."""
    if versions.VERSION_TABLE not in inspect(connection).get_table_names():
        return False
    version = connection.exec_driver_sql(f"SELECT version_num FROM {versions.VERSION_TABLE}").scalars().all()
    return version == [versions.head()]


def _wrong_values(held: dict[int, Any], readable: dict[int, Call], truth: Truth) -> Iterator[str]:
    for uid in held.keys() & readable.keys() - set(truth.changed):
        ours, theirs = tuple(getattr(held[uid], name) for name in COLUMNS), expected(readable[uid])
        if ours != theirs:
            different = {name: (a, b) for name, a, b in zip(COLUMNS, ours, theirs, strict=True) if a != b}
            yield f"other values than the operator's: uid {uid}: {str(different)[:300]}"


def _ahead(missing: list[Call], marks: dict[str, Any], ledger: Sequence[Any], history_top: int) -> Iterator[str]:
    """Calls that are not held although a checkpoint or the ledger says that they are."""
    begun, tail = marks.get("bootstrap"), marks.get(Stream.TAIL)
    if tail is not None and tail.high_water_uid is not None:
        first: date | None = begun and begun.window_first
        for call in missing:
            if call.uid <= tail.high_water_uid and (first is None or call.calldate >= first.isoformat()):
                yield f"checkpoint {tail.high_water_uid} ahead of uid {call.uid} of {call.calldate}"
    downloaded = {row.call_date.isoformat() for row in ledger if row.downloaded_at is not None}
    for call in missing:
        if call.uid <= history_top and call.calldate in downloaded:
            yield f"ledger ahead: {call.calldate} is downloaded without uid {call.uid}"


def _ledger_differs(rows: Sequence[Any], ledger: Sequence[Any]) -> Iterator[str]:
    counted: dict[date, list[Any]] = defaultdict(lambda: [0, 0, 0])
    for row in rows:
        day = counted[row.call_date]
        day[0] += 1
        day[1] += row.duration
        day[2] += row.user_cost
    for row in ledger:
        figures = counted.pop(row.call_date, [0, 0, 0])
        if [row.calls, row.duration, row.charge] != figures:
            yield f"ledger of {row.call_date}: {[row.calls, row.duration, row.charge]}, rows: {figures}"
    for missing in counted:
        yield f"no ledger of {missing}"
