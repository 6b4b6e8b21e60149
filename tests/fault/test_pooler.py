"""A pooler that gives each transaction another session, as PgBouncer does in its transaction mode."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import psycopg
import pytest
from sqlalchemy import select

from cdrsync.store.databases.engine import open_engine
from cdrsync.store.schema.tables import cdr
from tests.fault.pooler import TransactionPooler
from tests.support.databases import PostgresqlServer, database_name
from tests.support.rig import rig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Database

STATE = "SELECT name, setting FROM pg_settings WHERE name NOT IN ('application_name') ORDER BY name"
PREPARED = "SELECT count(*) FROM pg_prepared_statements"
TEMPORARY = "SELECT count(*) FROM pg_class WHERE relpersistence = 't'"


@pytest.fixture
def pooler(migrated: Database) -> Iterator[TransactionPooler]:
    assert isinstance(migrated.server, PostgresqlServer)
    with TransactionPooler(migrated.server.port) as running:
        yield running


def through(pooler: TransactionPooler, database: Database) -> str:
    """The database's URL with the pooler in between."""
    return f"postgresql+psycopg://postgres@127.0.0.1:{pooler.port}/{database_name(database.url)}"


@pytest.mark.parametrize("migrated", ["postgresql"], indirect=True)
def test_all_is_stored_through_a_transaction_pooler(migrated: Database, pooler: TransactionPooler) -> None:
    """A catch-up, look-backs and an audit, value by value: nothing rests on a session."""
    with rig(through(pooler, migrated), calls=500) as r:
        r.run()
        for _ in range(20):
            r.world.add()
        r.run("poll")
        r.run("look_back")
        assert r.assert_equal() == 520


@pytest.mark.parametrize("migrated", ["postgresql"], indirect=True)
def test_times_are_read_in_utc_whatever_a_session_has_set(migrated: Database, pooler: TransactionPooler) -> None:
    """The pool's sessions may be left in any zone and date style by others."""
    url = through(pooler, migrated)
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as other:
        for _ in range(2):
            other.execute("SET TIME ZONE 'Asia/Kathmandu'")
            other.execute("SET DateStyle = 'SQL, DMY'")
    with rig(url, calls=50) as r:
        r.run()
        r.assert_equal()
        engine = open_engine(url)
        with engine.connect() as connection:
            read = connection.execute(select(cdr.c.uid, cdr.c.started_at)).all()
        engine.dispose()
        truth = {call.uid: datetime.fromtimestamp(call.started, UTC) for call in r.world.records()}
        assert dict(map(tuple, read)) == truth


@pytest.mark.parametrize("migrated", ["postgresql"], indirect=True)
def test_nothing_leaks_to_the_poolers_other_clients(migrated: Database) -> None:
    """After a transaction its session is as it was: no time limit of ours, nothing prepared, no temporary table."""
    with rig(migrated.url, calls=300) as r:
        r.run()
        session = r.store.replica.engine.raw_connection()  # type: ignore[attr-defined]
        with contextlib.closing(session), psycopg.connect(migrated.url.replace("+psycopg", "")) as other:
            ours = session.driver_connection
            assert ours.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
            assert ours.execute(STATE).fetchall() == other.execute(STATE).fetchall()
            assert ours.execute(PREPARED).fetchall() == ours.execute(TEMPORARY).fetchall() == [(0,)]
