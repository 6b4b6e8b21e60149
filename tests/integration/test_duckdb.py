"""The SQLite file in DuckDB and in pandas' way: every view and table can be read, with types, and says the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import duckdb
import pytest
from duckdb_extensions import import_extension

from cdrsync.store.admin import dictionary, views
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.numbering import classify
from tests.support.examples import page
from tests.support.eyes import alike, seen
from tests.support.small_account import CALLS
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEXTS_THERE = {"ended_at"}  # what SQLite works out as a text, and no CAST that both know would type
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
    store.save(page(CALLS[0]._replace(duration=CALLS[0].duration + 1)))
    store.close()
    return str(tmp_path / "cdrsync.db")


@pytest.fixture
def duck(file: str) -> Iterator[Any]:
    import_extension("sqlite_scanner")
    with duckdb.connect() as connection:
        connection.execute("LOAD sqlite_scanner")
        connection.execute(f"ATTACH '{file}' AS cdrsync (TYPE sqlite, READ_ONLY)")
        yield connection


def test_every_view_and_table_can_be_read(duck: Any, file: str) -> None:
    """As many rows as SQLite has, and each column of the views in a type that calculates and compares."""
    engine = open_engine(f"sqlite:///{file}")
    for one in dictionary.dictionary():
        found = duck.execute(f"SELECT * FROM cdrsync.{one.name}")
        types = {name: str(kind) for name, kind, *_ in found.description}
        assert len(found.fetchall()) == len(seen(engine, f"SELECT * FROM {one.name}")), one.name
        if one.kind == "table":
            continue
        for column in one.columns:
            wanted = TYPES.get(column.type, "INT" if column.type in ("integer", "bigint") else "VARCHAR")
            if column.name in TEXTS_THERE or column.name.startswith("has_"):
                continue  # SQLite's flags are 0 and 1
            assert wanted in types[column.name], (one.name, column.name, types[column.name])
    engine.dispose()


def test_callbacks_are_found_by_their_caller(duck: Any) -> None:
    """DuckDB works the view out itself, and compares no call with all the others: ten thousand take it seconds."""
    ((_, plan),) = duck.execute("EXPLAIN SELECT * FROM cdrsync.callbacks").fetchall()
    assert "HASH_JOIN" in plan
    for pairs in ("CROSS_PRODUCT", "NL_JOIN", "NESTED_LOOP", "IE_JOIN"):
        assert pairs not in plan


def test_answers_are_sqlites(duck: Any, file: str) -> None:
    """Every view has the same rows in both, value by value."""
    engine = open_engine(f"sqlite:///{file}")
    for name in views.ORDER:
        found = duck.execute(f"SELECT * FROM cdrsync.{name}")
        columns = [column[0] for column in found.description]
        theirs = [
            {column: alike(value) for column, value in zip(columns, row, strict=True)} for row in found.fetchall()
        ]
        assert theirs, name
        ours = seen(engine, f"SELECT * FROM {name}")
        assert sorted(map(str, theirs)) == sorted(map(str, ours)), name
    engine.dispose()
    (sums,) = duck.execute("SELECT SUM(cost_micros) FROM cdrsync.calls").fetchall()
    assert duck.execute("SELECT SUM(user_cost), COUNT(uid) FROM cdrsync.cdr").fetchall() == [(*sums, len(CALLS))]
