"""The schema: made, checked, taken back, refused; the same on every database."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from alembic import command
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Column, event, inspect, text
from sqlalchemy.engine import make_url

from cdrsync.errors import ConfigError, DatabaseUnavailable, SchemaMismatch
from cdrsync.store.admin import migrate, views
from cdrsync.store.databases.engine import open_engine, url_of
from cdrsync.store.schema import versions
from cdrsync.store.schema.tables import UNDER_THE_MIGRATIONS, metadata
from cdrsync.store.schema.types import Exact
from tests.support.databases import MariadbServer, database_name
from tests.support.processes import environment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from sqlalchemy import Table
    from sqlalchemy.engine import Engine

    from tests.conftest import Database


@pytest.fixture
def engine(database: Database) -> Iterator[Engine]:
    engine = open_engine(database.url)
    yield engine
    engine.dispose()


def tables(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        return set(inspect(connection).get_table_names())


def test_the_migrations_make_exactly_the_tables_of_the_program(
    engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    """`alembic check` finds nothing to add, on every database, and says so to the standard output of the moment."""
    migrate.upgrade(engine)
    config = migrate.alembic_config()
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.check(config)
    assert capsys.readouterr().out == "No new upgrade operations detected.\n"
    assert set(metadata.tables) <= tables(engine)


def _parts(of_a_table: Any) -> list[str]:
    """Columns, indexes or options, in whatever order they are told."""
    return list(map(str, of_a_table.items() if isinstance(of_a_table, dict) else of_a_table))


SCHEMES = [
    *(("postgresql", scheme) for scheme in ("postgresql", "postgres")),
    *(("mariadb", scheme) for scheme in ("mysql", "mariadb", "mariadb+pymysql")),
]


@pytest.mark.parametrize(("database", "scheme"), SCHEMES, indirect=["database"])
def test_every_scheme_of_a_database_makes_the_same_schema(database: Database, scheme: str) -> None:
    """SQLAlchemy takes MySQL and MariaDB for two, and tells each what is said to it alone."""
    other = database.server.create()
    made = []
    for url, made_by in ((other, other), (database.url, f"{scheme}:{database.url.partition(':')[2]}")):
        engine = open_engine(made_by)
        migrate.upgrade(engine)
        assert views.broken(engine) == []
        engine.dispose()
        engine = open_engine(url)
        seen = inspect(engine)
        parts = (seen.get_multi_columns(), seen.get_multi_indexes(), seen.get_multi_table_options())
        made.append(
            {str((*name, part)) for of_tables in parts for name, of_one in of_tables.items() for part in _parts(of_one)}
        )
        engine.dispose()
    database.server.drop(other)
    assert made[0] == made[1]


def test_down_and_up_again(engine: Engine) -> None:
    """`downgrade base` leaves nothing of ours but the empty version table, and the way up is open again."""
    migrate.upgrade(engine)
    migrate.downgrade(engine, "base")
    assert {"alembic_version"} == tables(engine)
    assert migrate.current(engine) is None
    migrate.upgrade(engine)
    assert versions.head() == migrate.current(engine)


def test_a_column_that_is_there_already_is_added_once(engine: Engine) -> None:
    """A migration that adds a column may be cut off behind it, and run again: MySQL has committed it by then."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE calls (uid integer)"))
        for _ in range(2):
            migrate.add_column(Operations(MigrationContext.configure(connection)), "calls", Column("tariff", Exact()))
        assert [column["name"] for column in inspect(connection).get_columns("calls")] == ["uid", "tariff"]


def test_ensure_upgrades_once(engine: Engine) -> None:
    """An empty database is upgraded, an up-to-date one left alone."""
    assert migrate.ensure(engine, auto=True) is True
    assert migrate.ensure(engine, auto=True) is False
    migrate.check(engine)


PREPARE = """
import sys
from cdrsync import config
from cdrsync.wiring.database import Database
Database(config.load(config.Inputs()), shares=True).prepare()
print(sorted(sys.modules.keys() & {"alembic", "mako"}))
"""


def test_a_daemon_keeps_nothing_of_an_upgrade(engine: Engine) -> None:
    """Alembic, and what it needs, would stay in its memory for good: the upgrade is a process of its own."""
    url = url_of(engine).render_as_string(hide_password=False)
    run = [sys.executable, "-c", PREPARE]
    done = subprocess.run(run, env=environment("http://127.0.0.1:1/", url), capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    migrate.check(engine)


def test_what_goes_wrong_in_the_upgrades_process_is_told_as_it_was(engine: Engine) -> None:
    """Class, message and remedy; and where it ends otherwise, how."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE cdr (balance integer)"))
    with pytest.raises(SchemaMismatch, match="named cdr that is not cdrsync's") as here:
        migrate.upgrade(engine)
    with pytest.raises(SchemaMismatch) as apart_told:
        migrate.upgrade_apart(engine)
    assert (apart_told.value.message, apart_told.value.hint) == (here.value.message, here.value.hint)
    assert tables(engine) == {"cdr"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_upgrade_that_a_signal_ends_passes(
    engine: Engine, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a service is stopped, or memory is short: no fault of ours, and it is done again."""
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\nkill -{number:d} $$\n", encoding="ascii")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(DatabaseUnavailable, match=f"ended by signal {number:d}") as raised:
        migrate.upgrade_apart(engine)
    assert "done again" in raised.value.hint


def test_an_upgrades_process_that_fails_is_told(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a failure, not a schema that is up to date."""
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(RuntimeError, match="the upgrade of the schema ended with 1"):
        migrate.upgrade_apart(engine)


def test_an_empty_database_is_left_alone_where_upgrades_are_off(engine: Engine) -> None:
    """With auto_migrate off, the message names the version and the command, and nothing is made."""
    with pytest.raises(SchemaMismatch, match=f"{versions.head()}.*cdrsync db upgrade"):
        migrate.ensure(engine, auto=False)
    assert set() == tables(engine)


def test_a_newer_schema_is_refused(engine: Engine) -> None:
    """Both versions are named; neither ensure nor upgrade touches it."""
    migrate.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999_future'"))
    for attempt in (migrate.check, migrate.upgrade, lambda engine: migrate.ensure(engine, auto=True)):
        with pytest.raises(SchemaMismatch, match=f"9999_future.*{versions.head()}"):
            attempt(engine)
    assert migrate.current(engine) == "9999_future"


@pytest.mark.parametrize("version", versions.UNRELEASED)
def test_a_schema_of_before_the_first_release_is_refused_with_the_remedy(engine: Engine, version: str) -> None:
    """Its versions would be taken for newer ones; what helps is a new database, and nothing is touched."""
    migrate.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE alembic_version SET version_num = '{version}'"))
    for attempt in (migrate.check, migrate.upgrade, lambda engine: migrate.ensure(engine, auto=True)):
        with pytest.raises(SchemaMismatch, match=f"{version} of before the first release") as refused:
            attempt(engine)
        assert "new database" in str(refused.value.hint)
    assert migrate.current(engine) == version


def test_an_upgrade_makes_the_views_anew(engine: Engine) -> None:
    """`cdrsync db upgrade` is the remedy for a view that is gone or no longer works, at the newest version too."""
    migrate.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("DROP VIEW calendar"))
    migrate.upgrade(engine)
    with engine.connect() as connection:
        assert {view.name for view in views.views()} == set(inspect(connection).get_view_names())


@pytest.mark.parametrize("name", ["account", "cdr", "hours"])
def test_a_table_of_somebody_else_is_refused(engine: Engine, name: str) -> None:
    """A database that has a table of its own, called like a table or view of ours, is not touched."""
    with engine.begin() as connection:
        connection.execute(text(f"CREATE TABLE {name} (balance integer)"))
    with pytest.raises(SchemaMismatch, match=f"named {name} that is not cdrsync's"):
        migrate.ensure(engine, auto=True)
    assert {name} == tables(engine)


def test_a_view_of_somebody_else_is_refused(engine: Engine) -> None:
    """It would be replaced by ours, and nobody would know."""
    with engine.begin() as connection:
        connection.execute(text("CREATE VIEW hours AS SELECT 1 AS worked"))
    with pytest.raises(SchemaMismatch, match="named hours that is not cdrsync's"):
        migrate.ensure(engine, auto=True)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT worked FROM hours")).scalar() == 1


def test_a_view_with_other_columns_is_made_anew_or_named(engine: Engine) -> None:
    """PostgreSQL replaces no view whose columns differ: the error says which, and what to do."""
    migrate.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("DROP VIEW calendar"))
        connection.execute(text("CREATE VIEW calendar AS SELECT 1 AS worked"))
    assert views.broken(engine) == ["calendar"]
    if engine.dialect.name != "postgresql":
        migrate.upgrade(engine)
        assert views.broken(engine) == []
        return
    with pytest.raises(ConfigError, match='cannot change name of view column "worked"') as refused:
        migrate.upgrade(engine)
    assert "drop it" in str(refused.value.hint)


def test_two_upgraders_at_once(database: Database) -> None:
    """Of several upgraders one does the work; the others wait and find it done."""
    failures: list[BaseException] = []

    def run() -> None:
        engine = open_engine(database.url)
        try:
            migrate.ensure(engine, auto=True)
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            failures.append(error)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    engine = open_engine(database.url)
    assert versions.head() == migrate.current(engine)
    engine.dispose()


@pytest.mark.parametrize("database", ["postgresql", "mariadb"], indirect=True)
@pytest.mark.parametrize("made", [UNDER_THE_MIGRATIONS[:1], UNDER_THE_MIGRATIONS], ids=["one table", "both"])
def test_an_upgrader_that_makes_its_first_tables_in_this_very_moment(
    database: Database, engine: Engine, made: Sequence[Table]
) -> None:
    """Two replicas start together on an empty database: between the look and CREATE the other one made it."""
    other = open_engine(database.url)
    met: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def _overtaken(_: object, cursor: object, said: str, *more: object) -> None:
        del cursor, more
        if not met and "CREATE TABLE replica" in said:
            met.append(said)
            metadata.create_all(other, tables=made)

    assert migrate.ensure(engine, auto=True)
    assert met
    assert migrate.current(engine) == versions.head()
    other.dispose()


def test_an_upgrade_that_was_cut_off_is_resumed(engine: Engine) -> None:
    """MySQL commits each table by itself: what a killed upgrade left behind is completed by the next."""
    migrate.upgrade(engine)
    cascade = " CASCADE" if engine.dialect.name == "postgresql" else ""
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM alembic_version"))
        for table in ("cdr", "operator_totals"):
            connection.execute(text(f"DROP TABLE {table}{cascade}"))
    assert migrate.ensure(engine, auto=True) is True
    assert set(metadata.tables) <= tables(engine)


def test_every_table_and_column_carries_a_comment(engine: Engine) -> None:
    """Where the database has comments, a person in psql or a BI tool finds the meaning there."""
    if engine.dialect.name == "sqlite":
        pytest.skip("SQLite has no comments")
    migrate.upgrade(engine)
    with engine.connect() as connection:
        found = inspect(connection)
        bare = [
            f"{table}.{column['name']}"
            for table in metadata.tables
            for column in found.get_columns(table)
            if not column.get("comment")
        ]
        untitled = [table for table in metadata.tables if not found.get_table_comment(table)["text"]]
    assert bare == []
    assert untitled == []


@pytest.mark.parametrize("database", ["mariadb"], indirect=True)  # others' dumps keep the words that were given
def test_the_server_takes_its_own_words_for_every_view(database: Database) -> None:
    """What a dump says of a view is what the server says of it, and that must make the view again."""
    source, target = open_engine(database.url), open_engine(database.server.create())
    for engine in (source, target):
        migrate.upgrade(engine)
    with source.connect() as told, target.connect() as made:
        for view in views.ORDER:
            words = told.exec_driver_sql(f"SHOW CREATE VIEW {view}").one()[1].replace("%", "%%")
            made.exec_driver_sql(words.replace("CREATE ", "CREATE OR REPLACE ", 1))
    assert views.broken(target) == []
    for engine in (source, target):
        engine.dispose()
    database.server.drop(target.url.render_as_string(hide_password=False))


def test_a_restore_by_another_owner_is_noticed_and_mended(database: Database) -> None:
    """Mysqldump names who made a view, and nobody but root may restore it so: check says which are missing."""
    if not isinstance(database.server, MariadbServer):
        pytest.skip("only MySQL and MariaDB name a view's maker in a dump")
    server = database.server
    source = open_engine(database.url)
    migrate.upgrade(source)
    source.dispose()
    target = make_url(server.create())
    server.execute("CREATE USER heir@'127.0.0.1' IDENTIFIED BY 'inherits'")
    server.execute(f"GRANT ALL ON `{target.database}`.* TO heir@'127.0.0.1'")
    where = ["--host=127.0.0.1", f"--port={target.port}"]
    try:
        dump = ["mariadb-dump", *where, "--user=root", database_name(database.url)]
        dumped = subprocess.run(dump, capture_output=True, check=True)
        client = ["mariadb", *where, "--user=heir", "--password=inherits", "--force", str(target.database)]
        subprocess.run(client, input=dumped.stdout, capture_output=True, check=False)
        engine = open_engine(
            str(target.set(username="heir", password="inherits").render_as_string(hide_password=False))
        )
        assert set(views.broken(engine)) == set(views.ORDER)
        migrate.upgrade(engine)
        assert views.broken(engine) == []
        engine.dispose()
    finally:
        server.execute("DROP USER heir@'127.0.0.1'")
        server.drop(str(target))


def test_a_view_whose_maker_is_gone_works(database: Database) -> None:
    """Whoever asks reads with their own rights; a view from before that is named by the check and mended."""
    if not isinstance(database.server, MariadbServer):
        pytest.skip("only MySQL and MariaDB remember a view's maker")
    server, name = database.server, database_name(database.url)
    server.execute("CREATE USER maker@'127.0.0.1' IDENTIFIED BY 'makes'")
    server.execute(f"GRANT ALL ON `{name}`.* TO maker@'127.0.0.1'")
    url = make_url(database.url).set(username="maker", password="makes")
    made = open_engine(url.render_as_string(hide_password=False))
    migrate.upgrade(made)
    with made.begin() as connection:
        connection.execute(text("ALTER SQL SECURITY DEFINER VIEW hours AS SELECT 1 AS call_hour, '' AS label FROM cdr"))
    made.dispose()
    server.execute("DROP USER maker@'127.0.0.1'")
    engine = open_engine(database.url)
    assert views.broken(engine) == ["hours"]
    migrate.upgrade(engine)
    assert views.broken(engine) == []
    engine.dispose()


COLLISION = {
    "postgresql": "DO $$ BEGIN RAISE SQLSTATE '40001'; END $$",
    "mariadb": "SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213, MESSAGE_TEXT = 'Deadlock found'",
}


@pytest.mark.parametrize("database", COLLISION, indirect=True)
@pytest.mark.parametrize("statement", ["SELECT version_num", "TABLE IF NOT EXISTS cdr ", "INDEX ix_cdr", "VIEW calls"])
def test_an_upgrade_that_another_node_interrupts_goes_on(database: Database, engine: Engine, statement: str) -> None:
    """A cluster may undo any statement in favour of another node's; the same upgrade ends well all the same."""
    met: list[str] = []

    @event.listens_for(engine, "before_cursor_execute", retval=True)
    def _collide(_: object, cursor: object, said: str, parameters: Any, *more: object) -> tuple[str, Any]:
        del cursor, more
        if met or statement not in said:
            return said, parameters
        met.append(said)
        return COLLISION[database.kind], ()

    assert migrate.ensure(engine, auto=True)
    assert met
    assert migrate.current(engine) == versions.head()
    assert set(metadata.tables) <= tables(engine)
