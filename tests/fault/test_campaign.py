"""A short campaign of kills on every database, and the proof that the named points are where they say they are."""

from __future__ import annotations

import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event

from tests.fault import points
from tests.fault.campaign import Campaign
from tests.fault.stand_in import StandIn
from tests.fault.start import Start
from tests.fault.truth import Truth, violations
from tests.support.processes import environment
from tests.support.rig import rig

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Database
    from tests.support.servers import Servers

KILLS = 10
SEED = 1
UPGRADE_STATEMENTS = (4, 25, 49)
"""Of some 55 to 80 that make the tables: before which of them the program is killed. MariaDB commits each by itself."""


@pytest.mark.own_server
@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_a_short_campaign(kind: str, servers: Servers, tmp_path: Path) -> None:
    """Killed at named points and random moments: nothing lost, nothing doubled, no checkpoint ahead of data.

    In the end one undisturbed sync makes the table equal, value by value. `make campaign KILLS=1000` is the long one.
    """
    figures = Campaign(servers.own(kind), tmp_path, kills=KILLS, seed=SEED).run()
    print(figures.line(kind, SEED))
    assert figures.wrong == []
    assert figures.kills >= KILLS
    assert figures.compared > 0


def test_a_commit_while_the_campaign_looks_is_no_loss(migrated: Database) -> None:
    """What a killed program has sent may still be committed: rows and checkpoint are looked at as of one moment."""
    with rig(migrated.url, calls=50) as r:
        late = [r.run]

        @event.listens_for(r.engine, "after_cursor_execute")
        def _commits(_: Any, __: Any, statement: str, *___: Any) -> None:
            if "FROM cdr" in statement and late:
                late.pop()()

        truth = Truth(r.world.records(), history_top=max(call.uid for call in r.world.records()))
        assert violations(r.engine, truth) == []
        assert late == []
        assert violations(r.engine, truth) == []
        assert r.assert_equal() == 50


def test_every_point_is_passed(migrated: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first sync, and one after a record has changed, come by every point: a kill there hits what its name says."""
    passed: Counter[str] = Counter()

    def reached(point: str) -> None:
        passed[point] += 1

    end = points.watch(migrated.kind, reached, monkeypatch.setattr)
    try:
        with rig(migrated.url, calls=50) as r:
            r.world.add(duration=1, raw="<CDR><uid>x</uid></CDR>")
            r.run()
            r.world.change(r.world.records()[-2].uid, duration=7)
            r.clock.advance(3600)
            r.run()
    finally:
        end()
    assert sorted(passed) == sorted(points.names(migrated.kind))


def test_killed_while_the_tables_are_made(database: Database, tmp_path: Path) -> None:
    """Whether a killed upgrade leaves half a schema or nothing: the next start completes it."""
    url = database.url
    with StandIn(calls=20, days=1, seed=1) as operator:
        for nth in UPGRADE_STATEMENTS if database.kind == "mariadb" else UPGRADE_STATEMENTS[1:2]:
            env = environment(operator.url, url)
            upgrade = Start(("db", "upgrade"), env, str(tmp_path / "upgrade"), database.kind, "statement", nth)
            assert upgrade.run(60) == -signal.SIGKILL, upgrade.said()
            sync = Start(("sync",), env, str(tmp_path / "sync"), database.kind)
            assert sync.run(60) == 0, sync.said()
            database.server.drop(url)
            url = database.server.create()
    database.server.drop(url)
