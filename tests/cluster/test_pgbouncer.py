"""Behind the real PgBouncer in transaction mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from cdrsync.store.replica import Replica
from tests.support.clusters import pgbouncer
from tests.support.databases import PostgresqlServer
from tests.support.rig import rig

if TYPE_CHECKING:
    from tests.conftest import Database

LIMITS = ("statement_timeout", "idle_in_transaction_session_timeout", "tcp_user_timeout")


@pytest.mark.parametrize("migrated", ["postgresql"], indirect=True)
def test_everything_works_behind_pgbouncer_and_nothing_leaks(migrated: Database) -> None:
    """A catch-up value by value through two sessions; whoever gets them next finds neither limits nor statements."""
    assert isinstance(migrated.server, PostgresqlServer)
    with pgbouncer(migrated.server, migrated.url) as url:
        with rig(url, calls=400) as r:
            r.run()
            r.world.add()
            r.run("poll")
            r.run("look_back")
            assert r.assert_equal() == 401
            with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as other:
                found = {other.execute(f"SHOW {name}").fetchone() for name in LIMITS}
                assert found == {("0",)}
                assert other.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
        first, second = Replica(url), Replica(url)
        names = [f"account-{n}" for n in range(200)]
        assert first.take(names) == {}
        assert len(second.take(names)) == len(names)
        first.leave()
        assert second.take(names) == {}
        second.leave()
