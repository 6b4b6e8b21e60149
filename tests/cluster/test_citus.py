"""On a real Citus cluster all works as on one server: by the guide's own commands, and while daemons are at work."""

from __future__ import annotations

import json
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import create_engine, text

from cdrsync.cli import main
from cdrsync.errors import ConfigError
from cdrsync.model import Checkpoint, Period
from cdrsync.store.admin import dictionary, distribute
from cdrsync.store.admin.grant import grant_reader
from cdrsync.store.admin.views import ORDER
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.privacy.eraser import Eraser
from cdrsync.store.privacy.rules import DELETE, Key
from cdrsync.store.reads.status import every_account
from tests.fault.fresh import upgraded
from tests.support.canary import LOGIN
from tests.support.citus import Citus, citus
from tests.support.examples import FIRST, calls, page
from tests.support.fleet import Fleet
from tests.support.guide import blocks
from tests.support.operator import Settings, World, running
from tests.support.processes import cdrsync, environment, until
from tests.support.recount import differences
from tests.support.rig import rig
from tests.support.stores import opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.engine import Engine

ACCOUNTS = [f"account-{n}" for n in range(4)]
KEY = Key("a long random text")

pytestmark = [pytest.mark.waits, pytest.mark.xdist_group("citus")]  # one cluster for all


@pytest.fixture(scope="module")
def cluster() -> Iterator[Citus]:
    """A coordinator and two workers, set up by the first of the guide's commands."""
    with citus() as found:
        yield found


def test_the_guide_works_as_it_is_typed(cluster: Citus) -> None:
    """Its second block, word for word, in the database that the first one made; then a catch-up is equal and read."""
    world = World(Settings(), logins=[LOGIN], seed=3)
    world.add_history(calls=500, days=5)
    with running(world) as api:
        env = environment(api, cluster.url())
        said = cluster.type(blocks("sh")[1], env, answers="y\n")
        assert "done" in said.splitlines()
        assert "grafana may read: calls, " in said
        for command in ("sync", "audit"):
            done = cdrsync(command, env=env)
            assert done.returncode == 0, done.stderr
    engine = open_engine(cluster.url())
    assert differences(engine, "default", world.records()) == []
    engine.dispose()
    assert seen_by("grafana", cluster.url())["calls"] == 500


def test_readers_of_before_are_named_and_granted_again(cluster: Citus, capsys: pytest.CaptureFixture[str]) -> None:
    """A server becomes a cluster: roles that its workers do not know hinder nothing, and each remedy said is right."""
    cluster.coordinator.execute('CREATE ROLE "early one" LOGIN', "postgres")
    for node in cluster.nodes:
        node.execute("CREATE DATABASE early OWNER cdrsync", "postgres")
    url = upgraded(cluster.url(database="early"))
    grant = ["db", "grant-reader", "early one", "--database-url", url]
    assert main([*grant, "--tables"]) == 0
    cluster.join("early")
    assert main(["db", "distribute", "--yes", "--database-url", url]) == 0
    said = capsys.readouterr().out
    assert "early one: the rights to read end, until they are granted again" in said
    assert "Now, again: cdrsync db grant-reader --tables 'early one'" in said
    assert main(grant) == 78
    said = capsys.readouterr().err
    for worker in cluster.nodes[1:]:
        assert f"{worker.address}:{worker.port}" in said
        worker.execute(said.partition("as a superuser: ")[2], "early")
    assert main(grant) == 0
    assert seen_by("early one", url)["call_reasons"] > 0
    assert main(["db", "grant-reader", "nobody", "--database-url", url]) == 78
    assert "in this very database" in capsys.readouterr().err


def test_a_page_that_locks_the_other_way_round_stops_nothing(cluster: Citus) -> None:
    """The database ends one of the two: the step, which is done again."""
    url = upgraded(cluster.create())
    engine = open_engine(url)
    planned = distribute.plan(engine)
    first = distribute.Plan(planned.nodes, planned.shards, planned.steps[:1])
    page = create_engine(engine.url.set(username="postgres"))
    with page.begin() as connection, ThreadPoolExecutor(1) as beside:
        connection.execute(text("SET LOCAL deadlock_timeout = '10min'"))  # the other one looks first
        connection.execute(text("LOCK TABLE coverage IN ROW EXCLUSIVE MODE"))
        done = beside.submit(distribute.distribute, engine, first)
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'coverage'::regclass"
        until(lambda: rows(engine, waiting) == [(1,)], "the step waits for the page")
        connection.execute(text("LOCK TABLE account IN ROW SHARE MODE"))
        connection.commit()
        done.result(60)
    page.dispose()
    assert [step.what for step in distribute.plan(engine).steps] == [step.what for step in planned.steps[1:]]
    engine.dispose()


def test_tables_are_spread_under_daemons_at_work(cluster: Citus, tmp_path: Path) -> None:
    """Amid history and polls, after each step: no call is lost or doubled, every account goes on, untouched by hand."""
    url = upgraded(cluster.create())
    quick: dict[str, Any] = {"poll_interval": "1s", "lookback_interval": "2s", "page_size": "50"}
    with Fleet(url, [url] * 2, tmp_path, accounts=3, history=3000, rate=20, witnessed=False, **quick) as fleet:
        until(fleet.settled, lambda: f"every account has a replica: {fleet.holders()}")
        planned = distribute.plan(fleet.engine)
        for step in planned.steps:
            distribute.distribute(fleet.engine, distribute.Plan(planned.nodes, planned.shards, (step,)))
            fleet.arrive()
        assert distribute.plan(fleet.engine).steps == ()
        outcome = fleet.finish()
    assert outcome.compared > 9_000
    assert outcome.differences == []


# ── all that is done with it ───────────────────────────────────────────────────────────────────────────────────────


def rows(engine: Engine, query: str, **values: Any) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(text(query), values))


def answers(engine: Engine) -> dict[str, list[str]]:
    """What each view says."""
    return {view: sorted(map(str, rows(engine, f"SELECT * FROM {view}"))) for view in ORDER}


def test_a_cluster_works_as_one_server_does(cluster: Citus, capsys: pytest.CaptureFixture[str]) -> None:
    """Planned, done, and nothing left to be done; views, sync, audit, erasure, retention, forgetting and readers."""
    spread = upgraded(cluster.create())
    with opened(spread, ACCOUNTS[0]) as store:
        store.save(page(*calls(30), checkpoint=Checkpoint("tail", FIRST.uid + 29)))
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
    cut_off_in_the_middle(spread, engine)
    read_by_a_reader(spread, engine, cluster)
    engine.dispose()


def nothing_left_behind(engine: Engine) -> None:
    """The coordinator keeps no copy of what moved: an erasure would not reach it."""
    for table in (*distribute.REFERENCE, *distribute.distributed()):
        assert rows(engine, f"SELECT pg_relation_size('{table.name}')") == [(0,)], table.name


def many_accounts(url: str, engine: Engine) -> None:
    """New accounts go to several nodes by themselves, each with all that belongs to it."""
    for name in ACCOUNTS:
        with opened(url, name) as store:
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
    with opened(url, ACCOUNTS[2]) as store:
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


def read_by_a_reader(url: str, engine: Engine, cluster: Citus) -> None:
    """Granted so that every view can really be read, on every node; nothing can be written."""
    cluster.coordinator.execute("CREATE ROLE reader LOGIN")
    assert main(["db", "grant-reader", "reader", "--database-url", url]) == 0
    assert seen_by("reader", url) == {view: len(rows(engine, f"SELECT * FROM {view}")) for view in ORDER}
    reader = create_engine(open_engine(url).url.set(username="reader"))
    with pytest.raises(Exception, match="permission denied"), reader.begin() as connection:
        connection.execute(text("DELETE FROM cdr"))
    reader.dispose()
    with pytest.raises(ConfigError, match="on a Citus cluster"):
        grant_reader(engine, "reader", accounts=[ACCOUNTS[0]])


def seen_by(role: str, url: str) -> dict[str, int]:
    """How many rows each view shows to a role."""
    reader = create_engine(open_engine(url).url.set(username=role))
    seen = {view: len(rows(reader, f"SELECT * FROM {view}")) for view in ORDER}
    reader.dispose()
    return seen


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
