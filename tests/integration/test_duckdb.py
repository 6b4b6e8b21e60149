"""The SQLite file in DuckDB and in pandas' way: every view and table can be read, with types, and says the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from duckdb_extensions import import_extension

from cdrsync.store.admin import dictionary
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.numbering import classify
from tests.support.examples import page
from tests.support.eyes import seen
from tests.support.small_account import CALLS
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

README_MACRO = "CREATE MACRO datetime(t, s) AS CAST(t AS TIMESTAMP) + CAST(s AS INTERVAL)"
TEXTS_THERE = {"callbacks"}  # views that DuckDB has SQLite run, which knows no types then
TYPES = {"timestamptz": "TIMESTAMP", "date": "DATE", "numeric": "DOUBLE", "boolean": "BOOLEAN"}


@pytest.fixture
def file(tmp_path: Path) -> str:
    from cdrsync.store.admin import migrate

    url = f"sqlite:///{tmp_path / 'cdrsync.db'}"
    engine = open_engine(url)
    migrate.upgrade(engine)
    engine.dispose()
    store = OwnStore(url, "main", classify=classify)
    store.open()
    store.save(page(*CALLS[:3]))
    store.sum_days()
    store.save(page(*CALLS))
    store.close()
    return str(tmp_path / "cdrsync.db")


@pytest.fixture
def duck(file: str) -> Iterator[Any]:
    import_extension("sqlite_scanner")
    with duckdb.connect() as connection:
        connection.execute("LOAD sqlite_scanner")
        connection.execute(README_MACRO)
        connection.execute(f"ATTACH '{file}' AS cdrsync (TYPE sqlite, READ_ONLY)")
        yield connection


def test_every_view_and_table_can_be_read(duck: Any, file: str) -> None:
    """As many rows as SQLite has, and each column of the views in a type that calculates and compares."""
    engine = open_engine(f"sqlite:///{file}")
    for one in dictionary.dictionary():
        found = duck.execute(f"SELECT * FROM cdrsync.{one.name}")
        types = {name: str(kind) for name, kind, *_ in found.description}
        assert len(found.fetchall()) == len(seen(engine, f"SELECT * FROM {one.name}")), one.name
        if one.kind == "table" or one.name in TEXTS_THERE:
            continue
        for column in one.columns:
            wanted = TYPES.get(column.type, "INT" if column.type in ("integer", "bigint") else "VARCHAR")
            if (one.name == "calendar" and column.type == "date") or column.name.startswith("has_"):
                continue  # a calendar's days are made of digits, SQLite's flags are 0 and 1
            assert wanted in types[column.name], (one.name, column.name, types[column.name])
    engine.dispose()


def test_answers_are_sqlites(duck: Any, file: str) -> None:
    engine = open_engine(f"sqlite:///{file}")
    for query in (
        "SELECT SUM(calls), SUM(answered), SUM(cost_micros) FROM {}calls_daily",
        "SELECT COUNT(*), SUM(cost_micros), SUM(duration) FROM {}calls",
        "SELECT COUNT(*), MIN(iso_week), MAX(iso_week), SUM(weekday), SUM(quarter) FROM {}calendar",
        "SELECT COUNT(uid), SUM(user_cost) FROM {}cdr",
    ):
        (ours,) = seen(engine, query.format(""))
        assert duck.execute(query.format("cdrsync.")).fetchone() == tuple(int(str(value)) for value in ours.values())
    ends = duck.execute("SELECT CAST(max(ended_at) AS VARCHAR) FROM cdrsync.calls").fetchone()
    assert ends == ("2014-03-30 01:15:01",)
    engine.dispose()
