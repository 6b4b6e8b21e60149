"""What a database in trouble is to the store: Retry where it passes by itself, one line, no secret."""

from __future__ import annotations

import contextlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg
import pymysql
import pytest
from sqlalchemy import event, insert, make_url, text, update
from sqlalchemy.engine import Connection, Engine

from cdrsync.errors import ConfigError, DatabaseUnavailable
from cdrsync.model import Reject
from cdrsync.store.admin import migrate
from cdrsync.store.databases import port, postgresql_access, sqlite
from cdrsync.store.databases.choose import kind_of_error
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.schema.tables import coverage, number, reject
from tests.support.clock import Clock
from tests.support.databases import PostgresqlServer, database_name
from tests.support.examples import FIRST, calls, page
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cdrsync.store.save import SqlStore
    from tests.conftest import Database
    from tests.support.eyes import Eyes

LOCKS = {
    "sqlite": ("BEGIN IMMEDIATE", "ROLLBACK"),
    "postgresql": ("BEGIN; LOCK TABLE cdr", "ROLLBACK"),
    "mariadb": ("LOCK TABLES cdr WRITE", "UNLOCK TABLES"),
}


@contextlib.contextmanager
def locked(database: Database) -> Iterator[None]:
    """Somebody else, an analyst or a dump, holds the table."""
    lock, free = LOCKS[database.kind]
    engine = open_engine(database.url)
    connection = engine.raw_connection()
    cursor = connection.cursor()
    cursor.execute(lock)
    yield
    cursor.execute(free)
    cursor.close()
    connection.close()
    engine.dispose()


def test_a_lock_wait_passes_by_itself(migrated: Database, eyes: Eyes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the page is stored; the same store goes on as soon as the table is free, without a new lease."""
    monkeypatch.setattr(port, "SILENT_SECONDS", 1)
    monkeypatch.setattr(port, "STATEMENT_SECONDS", 1)
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.2)
    store = OwnStore(migrated.url, "main")
    store.open()
    cdrs = calls(10)
    with locked(migrated), pytest.raises(DatabaseUnavailable):
        store.save(page(*cdrs))
    assert eyes.cdrs() == []
    assert store.save(page(*cdrs)).inserted == 10
    store.close()


def test_a_table_that_is_gone_for_a_while(store: SqlStore, eyes: Eyes) -> None:
    """As while a backup is restored: no fault of ours, and it goes on when the table is there again."""
    rejected = page(FIRST, rejects=[Reject(5, "<CDR/>", "bad")])
    rename(eyes, "reject", "away")
    with pytest.raises(DatabaseUnavailable, match="reject") as gone:
        store.save(rejected)
    assert "restored" in gone.value.hint
    rename(eyes, "away", "reject")
    store.open()
    assert (store.save(rejected).inserted, len(eyes.rows(reject))) == (1, 1)


def rename(eyes: Eyes, table: str, to: str) -> None:
    with eyes.engine.begin() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {to}")


def test_a_deadlock_is_over_before_anybody_hears_of_it(store: SqlStore, eyes: Eyes, migrated: Database) -> None:
    """The database undoes the page in favour of another transaction: it is saved at once again."""
    if migrated.kind == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    pair = [FIRST, FIRST._replace(uid=FIRST.uid + 1, call_date=FIRST.call_date + timedelta(days=1))]
    store.save(page(*pair))
    undone: list[str] = []
    event.listen(Engine, "handle_error", lambda context: undone.append(str(context.original_exception)))
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        if migrated.kind == "postgresql"
        else "SELECT count(*) FROM information_schema.innodb_trx AS trx JOIN information_schema.processlist AS client"
        " ON client.id = trx.trx_mysql_thread_id WHERE trx_state = 'LOCK WAIT' AND client.db = DATABASE()"
    )
    with eyes.engine.connect() as other, eyes.engine.connect() as watch, ThreadPoolExecutor(1) as pool:
        if migrated.kind == "postgresql":
            other.exec_driver_sql("SET deadlock_timeout = '1min'")  # the other one finds it, and is undone
        else:  # the lighter one is undone
            other.execute(insert(number), [{"number": f"heavy {n}", "first_seen_at": Clock()()} for n in range(500)])
        for call in reversed(pair):
            other.execute(update(coverage).where(coverage.c.call_date == call.call_date).values(note="seen"))
            if call is pair[1]:
                saving = pool.submit(store.save, page(*(call._replace(uid=call.uid + 10) for call in pair)))
                wait_for(lambda: _fresh(watch, waiting))
        other.commit()
        assert saving.result(30).inserted == 2
    assert any("deadlock" in text.lower() for text in undone)


def _fresh(connection: Connection, query: str) -> object:
    """An answer of now, not of when the transaction began."""
    found = connection.exec_driver_sql(query).scalar()
    connection.rollback()
    return found


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)  # InnoDB shows what it showed before to whoever asks sooner


def test_a_user_without_rights_is_a_matter_of_configuration(migrated: Database) -> None:
    """Trying again would not help; the database's own words are in the message."""
    if not isinstance(migrated.server, PostgresqlServer):
        pytest.skip("PostgreSQL's roles stand for all")
    name = database_name(migrated.url)
    reader = f"reader_{name}"
    migrated.server.execute(f"CREATE ROLE {reader} LOGIN")
    url = migrated.url.replace("postgres@", f"{reader}@")
    with pytest.raises(ConfigError, match="too few rights: permission denied for table alembic_version"):
        OwnStore(url, "main").open()


def test_a_read_only_database_may_become_writable_again(migrated: Database) -> None:
    """A replica before its promotion, a maintenance window."""
    if not isinstance(migrated.server, PostgresqlServer):
        pytest.skip("PostgreSQL can make one database read-only")
    name = database_name(migrated.url)
    migrated.server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    store = OwnStore(migrated.url, "main")
    with pytest.raises(DatabaseUnavailable, match="read-only"):
        store.open()
    migrated.server.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    store.open()
    assert store.save(page(FIRST)).inserted == 1
    store.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", "can't be read"),
        ("oracle://host/name", "names oracle: cdrsync knows sqlite, postgresql, mysql, mariadb"),
        ("nosuch://host/name", "can't be read: there is no nosuch"),
        ("postgresql+nosuch://user:secret@host/name", r"can't be read: there is no postgresql\+nosuch\b(?!.*secret)"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:///.", "names a directory"),
        ("sqlite:////dev/null", "names a device or a pipe"),
        ("postgresql+psycopg://user@host:port/name", "can't be read"),
    ],
)
def test_a_url_that_can_not_be_used_is_refused(url: str, words: str) -> None:
    """Before anything is connected."""
    with pytest.raises(ConfigError, match=words):
        open_engine(url)


@pytest.mark.parametrize("plain", ["postgresql", "mysql", "mariadb"])
def test_a_scheme_without_a_driver_means_ours(plain: str) -> None:
    """Not SQLAlchemy's default, which isn't installed."""
    driver = open_engine(f"{plain}://user@127.0.0.1/name").driver
    assert driver == ("psycopg" if plain == "postgresql" else "pymysql")


@pytest.mark.parametrize(
    ("size", "words"), [(None, "is not a SQLite database"), (20_000, "is damaged"), (40_000, "is damaged")]
)
def test_a_file_that_is_no_whole_database_is_for_a_person(size: int | None, words: str, tmp_path: Path) -> None:
    """Trying again would not help, whether it never was one or was cut off."""
    path = tmp_path / "calls.db"
    if size is None:
        path.write_bytes(b"no database at all. " * 500)
    else:
        made = open_engine(f"sqlite:///{path}")
        migrate.upgrade(made)
        made.dispose()
        os.truncate(path, size)
    with pytest.raises(ConfigError, match=words):
        OwnStore(f"sqlite:///{path}", "main").open()
    engine = open_engine(f"sqlite:///{path}")
    with pytest.raises(ConfigError, match=words):
        migrate.check(engine)
    engine.dispose()


REMEDIES = {
    "nobody listens": port.START_HINT,
    "no such host": port.NAME_HINT,
    "no such database": "CREATE DATABASE",
    "no such user": "Mend user and password",
    "no encryption to be had": "ssl",
}


@pytest.mark.parametrize("what", REMEDIES)
@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
def test_a_connection_that_fails_is_told_with_the_remedy_for_just_that(database: Database, what: str) -> None:
    """Nobody is sent to look at a disk because a password is wrong."""
    given = make_url(database.url)
    here = given.set(host=given.host or "127.0.0.1", port=given.port or int(str(given.query["port"])), query={})
    mode = "sslmode" if database.kind == "postgresql" else "ssl_mode"
    url = {
        "nobody listens": here.set(port=9),
        "no such host": here.set(host="no-such-host.invalid"),
        "no such database": here.set(database="no_such_database"),
        "no such user": here.set(username="no_such_user"),
        "no encryption to be had": here.set(query={mode: "require"}),
    }[what]
    with pytest.raises(DatabaseUnavailable) as raised:
        OwnStore(url.render_as_string(hide_password=False), "main").open()
    assert REMEDIES[what] in raised.value.hint, str(raised.value)


SAID = [
    (psycopg.OperationalError("consuming input failed: SSL error: unexpected eof while reading"), port.LOST_HINT),
    (psycopg.OperationalError("consuming input failed: SSL SYSCALL error: EOF detected"), port.LOST_HINT),
    (psycopg.OperationalError("sending query failed: SSL connection has been closed unexpectedly"), port.LOST_HINT),
    (psycopg.errors.AdminShutdown("terminating connection\nSSL connection has been closed"), port.LOST_HINT),
    (pymysql.OperationalError(2006, "MySQL server has gone away (SSLEOFError(8, 'EOF occurred'))"), port.LOST_HINT),
    (pymysql.OperationalError(2013, "Lost connection to MySQL server during query ([SSL: BAD])"), port.LOST_HINT),
    (psycopg.errors.QueryCanceled("canceling statement due to statement timeout"), postgresql_access.SLOW_HINT),
    (psycopg.errors.QueryCanceled("canceling statement due to user request"), None),
    (psycopg.errors.UndefinedFile('could not open file "base/5/1": No such file or directory'), None),
    (psycopg.OperationalError("connection failed: port 5432 failed: Connection timed out"), port.START_HINT),
]
"""What drivers say, as they said it, and what a person can do about it; None: to look at each step."""


@pytest.mark.parametrize(("error", "hint"), SAID)
def test_a_session_that_ends_is_no_matter_of_certificates_nor_of_a_server_that_is_not_there(
    error: psycopg.Error | pymysql.MySQLError, hint: str | None
) -> None:
    """Debian's PostgreSQL speaks TLS to everybody: each restart of it was told with how to set up certificates."""
    kind = kind_of_error(error)
    assert kind is not None
    assert kind.unavailable(error).hint == (hint or DatabaseUnavailable.default_hint)


def test_a_server_that_is_not_there_is_said_in_one_line_without_the_password() -> None:
    """The message names no secret."""
    for url in ("postgresql+psycopg://user:hunter2@127.0.0.1:9/name", "mysql+pymysql://user:hunter2@127.0.0.1:9/name"):
        with pytest.raises(DatabaseUnavailable) as caught:
            OwnStore(url, "main").open()
        assert "hunter2" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_instants_of_other_sessions_are_utc(eyes: Eyes, migrated: Database) -> None:
    """Every connection of ours speaks UTC, whatever the server's zone is."""
    if migrated.kind == "sqlite":
        pytest.skip("SQLite has no sessions")
    query = "SHOW TimeZone" if migrated.kind == "postgresql" else "SELECT @@session.time_zone"
    with eyes.engine.connect() as connection:
        assert connection.execute(text(query)).scalar() in ("UTC", "+00:00")
