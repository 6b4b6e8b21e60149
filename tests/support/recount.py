"""A database held against the operator's own records, account by account: values, ledger, summaries and views."""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import select, text

from cdrsync.store.schema.tables import account, call_day, cdr, coverage
from cdrsync.store.summaries import BY_MONTH
from tests.support.rig import COLUMNS, expected

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy.engine import Connection, Engine, Row

    from tests.support.operator import Call

Figures = tuple[int, int, Decimal]
"""Calls, their duration, their cost."""

NOTHING: Figures = (0, 0, Decimal(0))


def differences(engine: Engine, name: str, calls: Sequence[Call]) -> list[str]:
    """What is wrong with an account, one line each: a call lost, doubled or other; sums that are not its calls'."""
    with engine.connect() as connection:
        account_id = connection.execute(select(account.c.id).where(account.c.name == name)).scalar_one()
        rows = connection.execute(select(cdr).where(cdr.c.account_id == account_id)).all()
        found = [f"{name}: {line}" for line in _rows(rows, calls)]
        found += [f"{name}: {line}" for line in _sums(connection, account_id, name, rows)]
    return found


def _rows(rows: Sequence[Row[Any]], calls: Sequence[Call]) -> Iterator[str]:
    held = {row.uid: tuple(getattr(row, column) for column in COLUMNS) for row in rows}
    truth = {call.uid: expected(call) for call in calls}
    yield from (f"doubled: {uid}" for uid, count in Counter(row.uid for row in rows).items() if count > 1)
    yield from (f"lost: {uid}" for uid in sorted(truth.keys() - held.keys()))
    yield from (f"held without being the operator's: {uid}" for uid in sorted(held.keys() - truth.keys()))
    for uid in sorted(held.keys() & truth.keys()):
        pairs = zip(COLUMNS, held[uid], truth[uid], strict=True)
        if other := {column: (ours, theirs) for column, ours, theirs in pairs if ours != theirs}:
            yield f"uid {uid} has other values: {str(other)[:300]}"


def _sums(connection: Connection, account_id: int, name: str, rows: Sequence[Row[Any]]) -> Iterator[str]:
    """The ledger of each day, every split of the summary of each day that has one, and the view of days."""
    truth = _counted((row.call_date, row) for row in rows)
    ledger = connection.execute(select(coverage).where(coverage.c.account_id == account_id)).all()
    for row in ledger:
        ours, theirs = (row.calls, row.duration, row.charge), truth.get(row.call_date, NOTHING)
        if ours != theirs:
            yield f"the ledger of {row.call_date}: {ours}, not {theirs}"
    yield from (f"no ledger of {day}" for day in sorted(truth.keys() - {row.call_date for row in ledger}))
    summed = {row.call_date for row in ledger if row.summed}
    stated: dict[Any, Figures] = {}
    for row in connection.execute(select(call_day).where(call_day.c.account_id == account_id)):
        key = (row.split, row.call_date, row.call_hour, row.called_number if row.split == "number" else None)
        stated[key] = _add(stated.get(key, NOTHING), row.calls, row.duration, row.cost)
    wanted = _counted(
        (key, row)
        for row in rows
        for key in (
            ("day", row.call_date, None, None),
            ("hour", row.call_date, row.call_time.hour, None),
            ("number", row.call_date, None, row.bnumber),
            ("destination", row.call_date, None, None),
        )
    )
    for key in sorted(stated.keys() | wanted.keys(), key=str):
        right = wanted.get(key) if key[1] in summed else None  # the views take what is there
        if key[0] != BY_MONTH and stated.get(key) != right:
            yield f"the summary of {key}: {stated.get(key)}, not {right}"
    view = text("SELECT call_date, calls, duration FROM calls_daily WHERE account = :name")
    shown = {
        str(row.call_date): (int(row.calls), int(row.duration)) for row in connection.execute(view, {"name": name})
    }
    if shown != {str(day): figures[:2] for day, figures in truth.items()}:
        yield f"calls_daily: {shown}"


def _counted(keyed: Iterable[tuple[Any, Row[Any]]]) -> dict[Any, Figures]:
    found: dict[Any, Figures] = defaultdict(lambda: NOTHING)
    for key, row in keyed:
        found[key] = _add(found[key], 1, row.duration, row.user_cost)
    return dict(found)


def _add(figures: Figures, calls: int, duration: int, cost: Decimal) -> Figures:
    return figures[0] + calls, figures[1] + duration, figures[2] + cost
