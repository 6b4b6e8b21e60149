"""Users of a database who may do little: what lacks is found and said, readers get no more than the views."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import make_url

from cdrsync.errors import ConfigError, DatabaseUnavailable
from cdrsync.store.admin import migrate, views
from cdrsync.store.admin.grant import grant_reader
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.databases.errors import translated
from tests.contract.first_sync import obstacles, synced
from tests.fault.trouble import cut
from tests.support.databases import MariadbServer, PostgresqlServer, database_name
from tests.support.examples import calls, page
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Database

NOBODY = 65_534


def test_rights_that_lack_are_found(migrated: Database) -> None:
    """On this database, not on another; of those that are needed, also the rarer ones."""
    if migrated.kind == "sqlite":
        pytest.skip("SQLite has no users")
    name = database_name(migrated.url)
    user = f"poor_{name}"[:32]
    if isinstance(migrated.server, PostgresqlServer):
        migrated.server.execute(f"CREATE ROLE {user} LOGIN")
        url = migrated.url.replace("postgres@", f"{user}@")
        assert "may not read and write account, alembic_version, cdr" in obstacles(url)
        return
    pattern = name.replace("_", r"\_")
    with mariadb_user(migrated, "other_database.*", "ALL") as (url, say):
        say(f"GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, CREATE VIEW ON `{pattern}`.* TO USER")
        assert f"no DROP, REFERENCES on {name}" in obstacles(url)
        say(f"GRANT DROP, REFERENCES ON `{pattern}`.* TO USER")
        assert obstacles(url) == ""


@contextlib.contextmanager
def mariadb_user(database: Database, what: str, rights: str) -> Iterator[tuple[str, Callable[[str], object]]]:
    """A user with some rights on something: its URL, and how the server is told more of it, as USER."""
    assert isinstance(database.server, MariadbServer)
    execute = database.server.execute
    user = f"poor_{database_name(database.url)}"[:32]
    execute(f"CREATE USER {user}@'%' IDENTIFIED BY ''")
    execute(f"GRANT {rights} ON {what} TO {user}@'%'")
    url = make_url(database.url).set(username=user).render_as_string(hide_password=False)
    yield url, lambda statement: execute(statement.replace("USER", f"{user}@'%'"))
    execute(f"DROP USER {user}@'%'")


@pytest.mark.parametrize("migrated", ["mariadb"], indirect=True)
def test_a_right_that_is_granted_again_counts_at_once(migrated: Database) -> None:
    """MariaDB's sessions keep what they might when they began: a daemon need not be started again all the same."""
    name = database_name(migrated.url)
    with mariadb_user(migrated, f"{name}.*", "ALL") as (url, say):
        store = OwnStore(url, "main")
        store.open()
        say(f"REVOKE INSERT ON {name}.* FROM USER")
        cut(migrated)
        with pytest.raises(ConfigError, match="too few rights: INSERT"):
            store.save(page(*calls(3)))
        say(f"GRANT INSERT ON {name}.* TO USER")
        store.open()
        assert store.save(page(*calls(3))).inserted == 3
        store.close()


@pytest.mark.parametrize("migrated", ["mariadb"], indirect=True)
def test_who_looks_sees_a_right_that_is_granted_at_once(migrated: Database) -> None:
    """The page of a daemon, and its /readyz, say no longer what is no longer so."""
    name = database_name(migrated.url)
    with mariadb_user(migrated, f"{name}.*", "INSERT") as (url, say):
        engine = open_engine(url, looks=True)
        with pytest.raises(ConfigError, match="too few rights: SELECT"):
            migrate.check(engine)
        say(f"GRANT SELECT ON {name}.alembic_version TO USER")
        migrate.check(engine)
        with pytest.raises(ConfigError, match=r"too few rights: SELECT .*calls"):
            views.broken(engine)
        say(f"GRANT SELECT ON {name}.* TO USER")
        assert views.broken(engine) == []
        engine.dispose()


def test_postgresql_without_the_right_to_make_tables(database: Database) -> None:
    """As PostgreSQL 15 and later have it for everybody but the owner of the database."""
    if not isinstance(database.server, PostgresqlServer):
        pytest.skip("PostgreSQL's schemas")
    user = f"tenant_{database_name(database.url)}"
    database.server.execute(f"CREATE ROLE {user} LOGIN")
    url = database.url.replace("postgres@", f"{user}@")
    assert "GRANT USAGE, CREATE ON SCHEMA public" in obstacles(url)
    with pytest.raises(ConfigError, match="permission denied for schema public") as refused:
        synced(url)
    assert "GRANT USAGE, CREATE ON SCHEMA public" in str(refused.value.hint)
    nowhere = f"{url}&schema=nowhere"
    assert "names no schema that is there" in obstacles(nowhere)
    with pytest.raises((ConfigError, DatabaseUnavailable), match="no schema"):
        synced(nowhere)


def test_a_schema_whose_name_must_be_quoted(database: Database) -> None:
    """Capitals and blanks: named in the URL as it is, or by what the server has set for the user."""
    if not isinstance(database.server, PostgresqlServer):
        pytest.skip("PostgreSQL's schemas")
    user = f"quoted_{database_name(database.url)}"
    database.server.execute(f"CREATE ROLE {user} LOGIN")
    database.server.execute(f'ALTER ROLE {user} SET search_path = "Set For The User"')
    url = database.url.replace("postgres@", f"{user}@")
    engine = open_engine(database.url)
    for schema, written in (("Big Calls", f"{url}&schema=Big%20Calls"), ("Set For The User", url)):
        with engine.begin() as connection:
            connection.exec_driver_sql(f'CREATE SCHEMA "{schema}" AUTHORIZATION {user}')
        assert synced(written, *calls(3)).inserted == 3
        assert obstacles(written) == ""
        with engine.connect() as connection:
            assert connection.exec_driver_sql(f'SELECT count(*) FROM "{schema}".calls').scalar() == 3
    engine.dispose()


def test_the_owner_of_a_database_grants_without_owning_the_server(migrated: Database) -> None:
    """Who may not read mysql.user grants to a user that is there, and narrows what was granted before."""
    if not isinstance(migrated.server, MariadbServer):
        pytest.skip("MySQL and MariaDB keep their users in a table that owners of a database may not read")
    execute, name = migrated.server.execute, database_name(migrated.url)
    owner, reader = f"own_{name}"[:32], f"read_{name}"[:32]
    for user in (owner, reader):
        execute(f"CREATE USER {user}@'%' IDENTIFIED BY ''")
    execute(f"GRANT ALL ON {name}.* TO {owner}@'%' WITH GRANT OPTION")
    url = make_url(migrated.url)
    engine = open_engine(url.set(username=owner).render_as_string(hide_password=False))
    own = open_engine(url.set(username=reader).render_as_string(hide_password=False))
    grant_reader(engine, reader, tables=True)
    with own.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM reject").scalar() == 0
    grant_reader(engine, f"{reader}@%")
    with own.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM calls").scalar() == 0
        with pytest.raises(ConfigError, match="too few rights"), translated():
            connection.exec_driver_sql("SELECT count(*) FROM reject")  # none of the tables that the views read
    with pytest.raises(ConfigError, match="no user or role 'nobody_here'"):
        grant_reader(engine, "nobody_here")
    execute(f"REVOKE GRANT OPTION ON {name}.* FROM {owner}@'%'")
    with pytest.raises(ConfigError, match="GRANT command denied") as refused:
        grant_reader(engine, reader)
    assert "WITH GRANT OPTION" in refused.value.hint
    for one in (engine, own):
        one.dispose()
    for user in (owner, reader):
        execute(f"DROP USER {user}@'%'")


def read_as_somebody_else(url: str) -> str:
    """How many calls are read, or why none: by a process of a user that owns nothing. All it needs is imported."""
    receive, send = multiprocessing.Pipe(duplex=False)

    def read() -> None:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        try:
            with translated(), open_engine(url).connect() as connection:
                send.send(str(connection.exec_driver_sql("SELECT count(*) FROM cdr").scalar()))
        except (ConfigError, DatabaseUnavailable) as error:
            send.send(f"{error.exit_code}: {error}")

    process = multiprocessing.get_context("fork").Process(target=read)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    return str(receive.recv())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_reader_of_sqlite_who_may_not_write() -> None:
    """Beside a daemon it reads; alone SQLite refuses, which is said with what works."""
    folder = Path(tempfile.mkdtemp(prefix="cdrsync-read-", dir="/tmp"))
    folder.chmod(0o755)
    url = f"sqlite:///{folder}/calls.db"
    assert synced(url).inserted == 1
    (folder / "calls.db").chmod(0o644)
    try:
        alone = read_as_somebody_else(url)
        assert alone.startswith("78: this user may not write in the folder of the database file")
        assert "read a copy of it" in alone
        store = OwnStore(url, "main")
        store.open()
        assert read_as_somebody_else(url) == "1"
        store.close()
    finally:
        shutil.rmtree(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("name", ["calls.db", "calls.db-wal", "calls.db-shm"])
def test_a_file_of_sqlite_that_another_user_left_is_named(name: str) -> None:
    """As after one command of root's: SQLite says only that it can't open the database."""
    folder = Path(tempfile.mkdtemp(prefix="cdrsync-read-", dir="/tmp"))
    folder.chmod(0o777)
    url = f"sqlite:///{folder}/calls.db"
    synced(url)
    store = OwnStore(url, "main")
    store.open()
    for file in folder.iterdir():
        file.chmod(0o666)
    (folder / name).chmod(0o600)
    try:
        assert read_as_somebody_else(url).startswith(f"69: you may not read {folder}/{name}")
    finally:
        store.close()
        shutil.rmtree(folder)
