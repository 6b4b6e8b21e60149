"""The lease when the database is cut off, away, replaced or gone back: nothing is saved on top of what is not there."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update

from cdrsync.errors import DatabaseUnavailable, LeaseLost, Retry
from cdrsync.model import Checkpoint
from cdrsync.store.databases import port
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.schema.tables import checkpoint, lease
from tests.fault.trouble import cut
from tests.integration.leases import opened, page

if TYPE_CHECKING:
    from tests.conftest import Database


def test_a_cut_connection_is_replaced(migrated: Database) -> None:
    """Nothing rests on a session: what is saved after a cut between two pages is saved by another one."""
    if migrated.kind == "sqlite":
        pytest.skip("SQLite has no connection to cut")
    with opened(migrated.url) as store:
        store.save(page(1))
        cut(migrated)
        assert store.save(page(2)).high_water_uid == 2


def test_a_database_that_has_gone_back_is_read_again(migrated: Database) -> None:
    """After an asynchronous failover, or a restored backup, commits are missing: nothing is saved on top of that."""
    with opened(migrated.url) as store:
        store.save(page(1))
        store.save(page(2))
        engine = open_engine(migrated.url)
        with engine.begin() as connection:
            connection.execute(update(lease).values(commits=lease.c.commits - 1))
            connection.execute(update(checkpoint).values(high_water_uid=1))
        engine.dispose()
        with pytest.raises(LeaseLost, match="gone back"):
            store.save(page(3))
        store.open()
        assert store.checkpoint("tail") == Checkpoint("tail", 1)
        assert store.save(page(2)).high_water_uid == 2


def test_nothing_is_written_to_a_database_file_that_was_replaced(migrated: Database) -> None:
    """SQLite: a backup moved over the file is what is read and written from then on, by pooled connections too."""
    if migrated.kind != "sqlite":
        pytest.skip("only SQLite has a file")
    path = Path(migrated.url.removeprefix("sqlite:///"))
    mark = select(checkpoint.c.high_water_uid)
    reading = open_engine(migrated.url)
    with opened(migrated.url) as store:
        store.save(page(7))
        with contextlib.closing(sqlite3.connect(path)) as old, contextlib.closing(sqlite3.connect(f"{path}.2")) as new:
            old.backup(new)
        store.save(page(8))
        with reading.connect() as connection:
            assert connection.execute(mark).scalar_one() == 8
        replace(path)
        with pytest.raises(LeaseLost, match="gone back"):
            store.save(page(9))
        with reading.connect() as connection:
            assert connection.execute(mark).scalar_one() == 7
        store.open()
        assert store.checkpoint("tail") == Checkpoint("tail", 7)
        store.save(page(10))
        with reading.connect() as connection:
            assert connection.execute(mark).scalar_one() == 10
    reading.dispose()


def replace(path: Path) -> None:
    """Move the backup `.2` over a database file, as an administrator does."""
    Path(f"{path}.2").replace(path)
    for leftover in ("-wal", "-shm"):
        Path(f"{path}{leftover}").unlink(missing_ok=True)


def test_a_database_file_that_is_gone_is_not_made_anew(migrated: Database) -> None:
    """SQLite: neither who writes nor who reads goes on in the file that was removed, or in an empty one."""
    if migrated.kind != "sqlite":
        pytest.skip("only SQLite has a file")
    path = Path(migrated.url.removeprefix("sqlite:///"))
    reading = open_engine(migrated.url)
    with opened(migrated.url) as store:
        store.save(page(7))
        reading.connect().close()
        kept = path.rename(f"{path}.kept")
        for work in (lambda: store.save(page(8)), store.open, reading.connect):
            with pytest.raises((DatabaseUnavailable, LeaseLost), match=r"is gone|does not hold"):
                work()
        assert not path.exists()
        kept.rename(path)
        store.open()
        assert store.checkpoint("tail") == Checkpoint("tail", 7)
    reading.dispose()


@pytest.mark.own_server
def test_a_server_that_is_away_and_comes_back(migrated: Database) -> None:
    """Restarted by force: DatabaseUnavailable while it is away, and all as before once it is back."""
    if migrated.kind == "sqlite":
        pytest.skip("SQLite has no server")
    with opened(migrated.url, lease_seconds=port.CONNECT_SECONDS * 6) as store:
        store.save(page(7))
        migrated.server.stop(signal.SIGKILL)
        try:
            with pytest.raises(Retry):
                store.save(page(8))
            with pytest.raises(DatabaseUnavailable):
                store.checkpoint("tail")
        finally:
            migrated.server.start()
        store.open()
        assert store.checkpoint("tail") == Checkpoint("tail", 7)
        assert store.save(page(8)).high_water_uid == 8
