"""`cdrsync db distribute` where nothing can be distributed; what it does on a cluster is in `tests/cluster`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdrsync.cli import main
from cdrsync.store.admin import distribute
from cdrsync.store.schema import tables

if TYPE_CHECKING:
    import pytest

    from tests.conftest import Database


def test_every_table_has_its_place() -> None:
    """One that is added to the schema is spread, or somebody has decided otherwise."""
    spread = distribute.distributed()
    assert {table.name for table in (*spread, *distribute.REFERENCE, *distribute.LOCAL)} == set(tables.metadata.tables)
    assert (spread[0], spread[-1]) == (tables.cdr, tables.lease)  # where shards are, and what holds off a second one


def test_what_can_not_be_distributed_is_refused(migrated: Database, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 78: another database than PostgreSQL, and PostgreSQL without the extension, with the remedy."""
    assert main(["db", "distribute", "--yes", "--database-url", migrated.url]) == 78
    said = capsys.readouterr().err
    if migrated.kind == "postgresql":
        assert "the database has no extension citus" in said
        assert "CREATE EXTENSION citus" in said
    else:
        assert "can't be distributed: only PostgreSQL with the extension Citus can" in said
