"""`cdrsync db distribute`: what it would do, where it refuses, and on a real Citus cluster that all works as before.

The last runs where CDRSYNC_TEST_CITUS_URL names a coordinator's database, by a user who may make schemas and roles.
"""

from __future__ import annotations

import json
import os
import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

import pytest
from sqlalchemy import create_engine, make_url, text

from cdrsync.cli import main
from cdrsync.errors import ConfigError
from cdrsync.model import Checkpoint, Period
from cdrsync.store.admin import dictionary, distribute, migrate
from cdrsync.store.admin.grant import grant_reader
from cdrsync.store.admin.views import ORDER
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.privacy.eraser import Eraser
from cdrsync.store.privacy.rules import DELETE, Key
from cdrsync.store.reads.status import every_account
from cdrsync.store.schema import tables
from tests.support.examples import FIRST, calls, page
from tests.support.rig import rig
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Engine

    from tests.conftest import Database

ACCOUNTS = [f"account-{n}" for n in range(6)]
KEY = Key("a long random text")
CITUS = "CDRSYNC_TEST_CITUS_URL"
GIVEN = os.environ.get(CITUS)


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


# ── a real cluster ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program would call the variable unknown."""
    monkeypatch.delenv(CITUS, raising=False)


@pytest.fixture
def spread() -> Iterator[str]:
    """The URL of a schema of its own in the cluster's database, with today's tables and calls of one account."""
    if GIVEN is None:
        pytest.skip(f"{CITUS} names no Citus cluster (CONTRIBUTING.md says how to have one)")
    url = make_url(GIVEN)
    name = f"cdrsync_{os.getpid()}"
    administrator = create_engine(url, isolation_level="AUTOCOMMIT")
    with administrator.connect() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
        try:
            here = url.update_query_dict({"schema": name}).render_as_string(hide_password=False)
            engine = open_engine(here)
            migrate.upgrade(engine)
            with OwnStoreOpen(here, ACCOUNTS[0]) as store:
                store.save(page(*calls(30), checkpoint=Checkpoint("tail", FIRST.uid + 29)))
            engine.dispose()
            yield here
        finally:
            connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
    administrator.dispose()


class OwnStoreOpen(OwnStore):
    """Open for the length of a block."""

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def rows(engine: Engine, query: str, **values: Any) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(text(query), values))


def answers(engine: Engine) -> dict[str, list[str]]:
    """What each view says."""
    return {view: sorted(map(str, rows(engine, f"SELECT * FROM {view}"))) for view in ORDER}


def test_a_cluster_works_as_one_server_does(spread: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Planned, done, and nothing left to be done; views, sync, audit, erasure, retention, forgetting and readers."""
    engine = open_engine(spread)
    before = answers(engine)
    assert main(["db", "distribute", "--dry-run", "--json", "--database-url", spread]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["done"] is False
    assert [step["what"].partition(":")[0] for step in planned["steps"][:2]] == ["account, number", "cdr"]
    assert main(["db", "distribute", "--yes", "--database-url", spread]) == 0
    assert main(["db", "distribute", "--yes", "--database-url", spread]) == 0
    assert "nothing is left to be done" in capsys.readouterr().out
    assert answers(engine) == before
    nothing_left_behind(engine)
    many_accounts(spread, engine)
    as_the_operator_says(spread)
    personal_data_ends(spread, engine)
    upgraded_again(spread, engine)
    read_by_a_reader(spread, engine)
    cut_off_in_the_middle(spread, engine)
    engine.dispose()


def nothing_left_behind(engine: Engine) -> None:
    """The coordinator keeps no copy of what moved: an erasure would not reach it."""
    for table in (*distribute.REFERENCE, *distribute.distributed()):
        assert rows(engine, f"SELECT pg_relation_size('{table.name}')") == [(0,)], table.name


def many_accounts(url: str, engine: Engine) -> None:
    """New accounts go to several nodes by themselves, each with all that belongs to it."""
    for name in ACCOUNTS:
        with OwnStoreOpen(url, name) as store:
            store.save(page(*calls(30), checkpoint=Checkpoint("tail", FIRST.uid + 29)))
            store.save(page(FIRST._replace(duration=99)))
            too_long = FIRST._replace(uid=1, anumber="".join(random.Random(7).choices("0123456789abcdef", k=20_000)))
            assert store.save(page(too_long)).rejected == 1  # by a node's index, and it stops no other
            while store.sum_days():
                pass
    nodes = rows(
        engine,
        "SELECT DISTINCT nodeport, nodename FROM account JOIN pg_dist_shard_placement"
        " ON shardid = get_shard_id_for_distribution_column('cdr', account.id)",
    )
    assert len(nodes) > 1
    assert {one.calls for one in every_account(engine)} == {30}
    assert sorted(rows(engine, "SELECT calls FROM calls_daily")) == [(30,)] * len(ACCOUNTS)


def as_the_operator_says(url: str) -> None:
    """A whole catch-up, an audit and the summary of an account named default."""
    with rig(url, calls=300, days=3) as r:
        r.run()
        since = r.clock().date() - timedelta(days=9)
        held = rows(r.engine, "SELECT count(*) FROM cdr JOIN account ON id = account_id WHERE name = 'default'")
        assert held == [(300,)]
        assert {call.uid for call in r.world.records()} == {
            uid
            for (uid,) in rows(
                r.engine,
                "SELECT uid FROM cdr JOIN account ON id = account_id WHERE name = 'default' AND call_date > :since",
                since=since,
            )
        }
        assert r.audit.run([Period.ALL], heal=True).gaps == []
        while r.store.sum_days():
            pass


def personal_data_ends(url: str, engine: Engine) -> None:
    """A number, what is old, an account."""
    eraser = Eraser(engine, ACCOUNTS[0], KEY)
    assert eraser.erase_number("07921255043").calls == 30
    assert list(Eraser(engine, ACCOUNTS[1], None).prune(FIRST.call_date + timedelta(days=1), DELETE))[-1].calls == 30
    assert rows(engine, "SELECT count(*) FROM number WHERE number = :number", number=FIRST.anumber) == [(1,)]
    with OwnStoreOpen(url, ACCOUNTS[2]) as store:
        assert store.forget() == 30
    names = {name for (name,) in rows(engine, "SELECT name FROM account")}
    assert names == {*ACCOUNTS, "default"} - {ACCOUNTS[2]}


def upgraded_again(url: str, engine: Engine) -> None:
    """`db upgrade` makes the views anew, `db check` reads them all."""
    assert main(["db", "upgrade", "--database-url", url]) == 0
    assert main(["db", "check", "--database-url", url]) == 0
    assert main(["status", "--json", "--database-url", url]) == 0
    assert all(answers(engine)[view] for view in ("calls", "calls_daily", "numbers", "coverage_daily"))
    for view in dictionary.views():
        if "account" in {column.name for column in view.columns}:  # as few columns as can be: joins are left out
            assert rows(engine, f"SELECT count(*) FROM {view.name} WHERE account = 'nobody'") == [(0,)], view.name


def read_by_a_reader(url: str, engine: Engine) -> None:
    """Granted so that every view can really be read, on every node; nothing can be written."""
    name = f"reader_{os.getpid()}"
    with engine.begin() as connection:
        connection.execute(text(f"CREATE ROLE {name} LOGIN"))
    try:
        assert main(["db", "grant-reader", name, "--database-url", url]) == 0
        reader = create_engine(open_engine(url).url.set(username=name))
        seen = {view: len(rows(reader, f"SELECT * FROM {view}")) for view in ORDER}
        assert seen == {view: len(rows(engine, f"SELECT * FROM {view}")) for view in ORDER}
        with pytest.raises(Exception, match="permission denied"), reader.begin() as connection:
            connection.execute(text("DELETE FROM cdr"))
        reader.dispose()
        with pytest.raises(ConfigError, match="on a Citus cluster"):
            grant_reader(engine, name, accounts=[ACCOUNTS[0]])
    finally:
        with engine.begin() as connection:
            connection.execute(text(f"DROP OWNED BY {name}"))
            connection.execute(text(f"DROP ROLE {name}"))


def cut_off_in_the_middle(url: str, engine: Engine) -> None:
    """What one table lacks is made by the next run, and its rows are those that it had."""
    held = rows(engine, "SELECT count(*) FROM reject")
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE reject DROP CONSTRAINT fk_reject_account_id_account"))
        connection.execute(text("SELECT undistribute_table('reject')"))
    assert distribute.plan(engine).steps[0].what.startswith("reject: by account_id, with cdr")
    assert main(["db", "distribute", "--yes", "--database-url", url]) == 0
    assert distribute.plan(engine).steps == ()
    assert rows(engine, "SELECT count(*) FROM reject") == held
