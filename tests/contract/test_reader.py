"""A reader may read what it was granted, and nothing else: tried, on PostgreSQL and MariaDB."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from cdrsync.cli import main
from cdrsync.errors import ConfigError
from cdrsync.store.admin import dictionary, migrate
from cdrsync.store.admin.grant import grant_reader
from cdrsync.store.admin.views import tables_read
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.schema.tables import metadata
from tests.support.databases import MariadbServer, PostgresqlServer, database_name
from tests.support.examples import FIRST, page
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Engine

    from tests.conftest import Database

VIEWS = [view.name for view in dictionary.views()]
TABLES = sorted(metadata.tables)
WITHOUT_ACCOUNT = ("calendar", "hours", "call_reasons", "number", "account", "replica")


class Readers:
    """A database with two accounts, and roles in it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.engine = open_engine(database.url)
        self.tables_read = (
            tables_read() if database.kind == "mariadb" else []
        )  # there, views read with the reader's rights
        self._names: list[str] = []

    def create(self, name: str) -> str:
        """A role that may log in and nothing else; its name is its own, for roles are the whole server's."""
        name = f"{name}_{uuid4().hex[:8]}"
        if isinstance(self.database.server, PostgresqlServer):
            self.database.server.execute(f'CREATE ROLE "{name}" LOGIN')
        elif isinstance(self.database.server, MariadbServer):
            self.database.server.execute(f"CREATE USER '{name}'@'127.0.0.1' IDENTIFIED BY 'reading'")
        self._names.append(name)
        return name

    def connect(self, name: str) -> Engine:
        """An engine that logs in as the role."""
        url = make_url(self.database.url).set(username=name)
        return create_engine(url if self.database.kind == "postgresql" else url.set(password="reading"))

    def close(self) -> None:
        """Leave no role to the next test's server."""
        self.engine.dispose()
        self.database.server.drop(self.database.url)
        if isinstance(self.database.server, PostgresqlServer | MariadbServer):
            for name in self._names:
                host = "" if self.database.kind == "postgresql" else "@'127.0.0.1'"
                kind, quote = ("ROLE", '"') if not host else ("USER", "'")
                self.database.server.execute(f"DROP {kind} {quote}{name}{quote}{host}")


@pytest.fixture
def readers(migrated: Database) -> Iterator[Readers]:
    if migrated.kind == "sqlite":
        pytest.skip("SQLite has no users")
    for name in ("main", "customer"):
        store = OwnStore(migrated.url, name)
        store.open()
        store.save(page(FIRST._replace(alias=name), completes=(FIRST.call_date,)))
        store.close()
    made = Readers(migrated)
    yield made
    made.close()


def test_a_grant_outlives_a_change_of_a_view(readers: Readers) -> None:
    """Views change by replacement: who could read them before an upgrade can read them after it, and still no table."""
    name = readers.create("analyst")
    grant_reader(readers.engine, name)
    migrate.upgrade(readers.engine)
    engine = readers.connect(name)
    assert {view: rows(engine, view) for view in ("numbers", "calls")} == {"numbers": 2, "calls": 2}
    assert refused(engine, "SELECT * FROM reject") == []
    engine.dispose()


def refused(engine: Engine, *statements: str) -> list[str]:
    """Those of the statements that went through although they must not."""
    allowed = []
    for statement in statements:
        try:
            with engine.begin() as connection:
                connection.execute(text(statement))
        except DBAPIError as error:
            if not _no_right(error):
                raise
        else:
            allowed.append(statement)
    return allowed


def _no_right(error: DBAPIError) -> bool:
    """Refused for want of a right, or because a view of sums can't be written at all."""
    number = error.orig.args[0] if error.orig else None
    return getattr(error.orig, "sqlstate", None) in ("42501", "55000") or number in (1142, 1044, 1143, 1227, 1288, 1471)


def writes(name: str) -> list[str]:
    return [
        f"INSERT INTO {name} SELECT * FROM {name}",
        f"DELETE FROM {name}",
        *(
            [f"UPDATE {name} SET account_id = 7"]
            if name not in ("calendar", "hours", "call_reasons", "number", "account", "replica")
            else []
        ),
    ]


def rows(engine: Engine, name: str) -> int:
    with engine.connect() as connection:
        return len(connection.execute(text(f"SELECT * FROM {name}")).all())


def test_a_reader_reads_the_views_and_nothing_else(readers: Readers) -> None:
    """Every view can be read; no table; nothing can be written, made, changed or removed."""
    name = readers.create("analyst")
    grant_reader(readers.engine, name)
    engine = readers.connect(name)
    assert [rows(engine, view) > 0 for view in VIEWS] == [view not in ("changes", "callbacks") for view in VIEWS]
    hidden = {*TABLES, "alembic_version"} - set(readers.tables_read)
    assert refused(engine, *(f"SELECT * FROM {table}" for table in hidden)) == []
    assert refused(engine, *(statement for view in VIEWS for statement in writes(view))) == []
    assert refused(engine, "CREATE TABLE mine (a integer)", "DROP VIEW calls", "DROP TABLE cdr") == []
    assert rows(readers.engine, "cdr") == 2
    engine.dispose()


def test_tables_too_where_asked_and_not_any_longer(readers: Readers) -> None:
    """`--tables` adds reading the tables; a grant without it takes that back."""
    name = readers.create("auditor")
    grant_reader(readers.engine, name, tables=True)
    engine = readers.connect(name)
    assert [rows(engine, table) >= 0 for table in (*TABLES, *VIEWS)] == [True] * (len(TABLES) + len(VIEWS))
    assert refused(engine, *(statement for table in TABLES for statement in writes(table))) == []
    assert refused(engine, "SELECT * FROM alembic_version", "TRUNCATE TABLE cdr", "DROP TABLE cdr") == []
    grant_reader(readers.engine, name)
    assert refused(engine, *(f"SELECT * FROM {table}" for table in set(TABLES) - set(readers.tables_read))) == []
    assert rows(engine, "calls") == 2
    engine.dispose()


def test_a_reader_of_one_account(readers: Readers) -> None:
    """On PostgreSQL a customer of a reseller sees their own rows under the same names, and can't look past them."""
    name = readers.create("Cust omer: 100%")
    if readers.database.kind != "postgresql":
        with pytest.raises(ConfigError, match="only PostgreSQL"):
            grant_reader(readers.engine, name, accounts=["customer"])
        return
    grant_reader(readers.engine, name)
    grant_reader(readers.engine, name, accounts=["customer"])
    engine = readers.connect(name)
    for view in VIEWS:
        with engine.connect() as connection:
            found = connection.execute(text(f"SELECT * FROM {view}")).mappings().all()
        assert {row.get("account", "customer") for row in found} <= {"customer"}
        assert view in ("changes", "callbacks") or found
    hidden = [f"SELECT * FROM public.{name}" for name in (*TABLES, *VIEWS)]
    assert refused(engine, *hidden) == []
    assert peeked(engine) == ["customer"]
    grant_reader(readers.engine, name)
    assert rows(engine, "calls") == 2
    engine.dispose()


def peeked(engine: Engine) -> list[str]:
    """What a function of the reader's own gets to see when the planner may call it first."""
    with engine.connect() as connection:
        connection.execute(text("CREATE TEMP TABLE seen (alias text)"))
        connection.execute(
            text(
                "CREATE FUNCTION pg_temp.peek(alias text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS"
                " $$ BEGIN INSERT INTO seen VALUES (alias); RETURN true; END $$"
            )
        )
        connection.execute(text("SELECT * FROM calls WHERE pg_temp.peek(alias)"))
        return list(connection.execute(text("SELECT alias FROM seen")).scalars())


def test_what_can_not_be_granted_is_said(readers: Readers) -> None:
    """A role that is not there is not made; one that may write is no reader; an unknown account is named."""
    with pytest.raises(ConfigError, match=r"no (role|user or role) 'nobody_here'"):
        grant_reader(readers.engine, "nobody_here")
    if readers.database.kind == "postgresql":
        with pytest.raises(ConfigError, match="may write anyway"):
            grant_reader(readers.engine, "postgres")
        with pytest.raises(ConfigError, match="no account 'mian'"):
            grant_reader(readers.engine, readers.create("reseller"), accounts=["mian"])
    users: Any = readers.database.server
    names = "SELECT rolname FROM pg_roles" if readers.database.kind == "postgresql" else "SELECT user FROM mysql.user"
    assert "nobody_here" not in [row[0] for row in users.execute(names)]


def test_who_may_not_grant_is_told(readers: Readers) -> None:
    """A reader can't make others readers: no traceback, but what is missing."""
    name = readers.create("first")
    grant_reader(readers.engine, name, tables=True)
    second = readers.create("second")
    engine = readers.connect(name)
    with pytest.raises(ConfigError, match=r"may not grant|too few rights"):
        grant_reader(engine, second)
    engine.dispose()


def test_the_command(readers: Readers, capsys: pytest.CaptureFixture[str]) -> None:
    """`cdrsync db grant-reader ROLE --json` says what the role may read, and by which statements."""
    name = readers.create("tool")
    assert main(["db", "grant-reader", name, "--database-url", readers.database.url, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["role"], said["objects"], said["accounts"]) == (name, [*VIEWS, *readers.tables_read], [])
    assert any(statement.startswith("GRANT SELECT ON ") for statement in said["statements"])
    assert database_name(readers.database.url)


def test_sqlite_has_no_users(tmp_path: Any) -> None:
    """There the file's permissions decide, and the message says so."""
    sqlite3.connect(tmp_path / "x.db").close()
    engine = open_engine(f"sqlite:///{tmp_path / 'x.db'}")
    with pytest.raises(ConfigError, match="permissions"):
        grant_reader(engine, "anyone")
    engine.dispose()
