"""A proxy or firewall forgets the connections that there are: they stay open, nothing comes, and new ones work."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from cdrsync.errors import DatabaseUnavailable, Retry
from cdrsync.store.databases import errors, port
from cdrsync.store.databases.engine import open_engine
from tests.fault.trouble import SERVERS
from tests.support.databases import MariadbServer, PostgresqlServer, database_name
from tests.support.examples import FIRST, page
from tests.support.network import Link
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Database

IN_TIME = 20.0 + 10.0  # seconds; the latter are what a busy machine may add


@pytest.fixture
def link(migrated: Database) -> Iterator[Link]:
    assert isinstance(migrated.server, PostgresqlServer | MariadbServer)
    with Link(migrated.server.port) as made:
        yield made


def through(link: Link, database: Database) -> str:
    """The database's URL with the link in between."""
    scheme = "postgresql+psycopg://postgres" if database.kind == "postgresql" else "mysql+pymysql://root"
    return f"{scheme}@127.0.0.1:{link.port}/{database_name(database.url)}"


@pytest.mark.waits
@SERVERS
def test_connections_forgotten_between_two_uses_are_replaced(migrated: Database, link: Link) -> None:
    """All of the pool at once, and whoever reads notices nothing but a pause."""
    engine = open_engine(through(link, migrated))
    with contextlib.ExitStack() as opened:
        opened.callback(engine.dispose)
        for connection in [engine.connect() for _ in range(3)]:
            connection.close()
        link.forget()
        begun = time.monotonic()
        for connection in [opened.enter_context(engine.connect()) for _ in range(3)]:
            assert connection.exec_driver_sql("SELECT 1").scalar() == 1
        assert time.monotonic() - begun < IN_TIME


@pytest.mark.waits
@SERVERS
@pytest.mark.parametrize("moment", ["before the query", "before its answer"])
def test_whoever_reads_gives_a_forgotten_connection_up(migrated: Database, link: Link, moment: str) -> None:
    """The server has nothing more to say to it, and is asked over another one; that one works."""
    sleep = "pg_sleep" if migrated.kind == "postgresql" else "SLEEP"
    engine = open_engine(through(link, migrated))
    with contextlib.ExitStack() as opened:
        opened.callback(engine.dispose)
        connection = opened.enter_context(engine.connect())
        connection.exec_driver_sql("SELECT 1")
        forget = threading.Timer(0.0 if moment == "before the query" else 0.5, link.forget)
        forget.start()
        if moment == "before the query":
            forget.join()
        begun = time.monotonic()
        with pytest.raises(DatabaseUnavailable), errors.translated():
            connection.exec_driver_sql(f"SELECT {sleep}(1)")
        assert time.monotonic() - begun < IN_TIME
        with engine.connect() as other:
            assert other.exec_driver_sql("SELECT 1").scalar() == 1
        assert time.monotonic() - begun < IN_TIME + 1


@pytest.mark.waits
@SERVERS
def test_whoever_reads_may_take_time(migrated: Database) -> None:
    """What is silent because nobody asks is not cut (an export writes its file), nor is a query that takes long."""
    sleep = "pg_sleep" if migrated.kind == "postgresql" else "SLEEP"
    seconds = port.CUT_SECONDS + 3
    engine = open_engine(migrated.url)
    with contextlib.ExitStack() as opened:
        opened.callback(engine.dispose)
        pausing, asking = opened.enter_context(engine.connect()), opened.enter_context(engine.connect())
        pausing.exec_driver_sql("SELECT 1")
        begun = time.monotonic()
        asking.exec_driver_sql(f"SELECT {sleep}({seconds})")
        assert time.monotonic() - begun > seconds - 1
        assert pausing.exec_driver_sql("SELECT 2").scalar() == 2


@pytest.mark.waits
@SERVERS
def test_a_page_goes_over_another_connection(migrated: Database, link: Link) -> None:
    """Whoever writes loses its connections between two pages, and saves the next one in time."""
    with contextlib.closing(OwnStore(through(link, migrated), "default", lease_seconds=60.0)) as store:
        store.open()
        store.save(page(FIRST))
        link.forget()
        begun = time.monotonic()
        try:
            store.save(page(FIRST._replace(uid=2)))
        except Retry:
            store.open()
            store.save(page(FIRST._replace(uid=2)))
        assert time.monotonic() - begun < IN_TIME


@SERVERS
def test_a_new_connection_that_ends_at_once_is_the_servers_trouble(migrated: Database) -> None:
    """As where a pooler takes connections that it has no room for: said as such, and soon over."""
    engine, other = open_engine(migrated.url), open_engine(migrated.url)
    ends = "SELECT pg_terminate_backend({})" if migrated.kind == "postgresql" else "KILL {}"
    with contextlib.ExitStack() as opened:
        opened.callback(engine.dispose)
        opened.callback(other.dispose)
        server = opened.enter_context(other.connect())
        engine.connect().close()
        engine.dispose()

        def end(connection: Any, *_: Any) -> None:
            number = connection.info.backend_pid if migrated.kind == "postgresql" else connection.thread_id()
            server.exec_driver_sql(ends.format(number))

        event.listen(engine, "connect", end)
        for _ in range(3):
            with pytest.raises(DatabaseUnavailable), errors.translated():
                engine.connect()
        event.remove(engine, "connect", end)
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT 1").scalar() == 1
