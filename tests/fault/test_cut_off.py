"""A replica that does not reach its database says so before another one takes its accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from tests.fault.trouble import SERVERS
from tests.support.canary import LOGIN
from tests.support.databases import MariadbServer, PostgresqlServer
from tests.support.operator import World, running
from tests.support.processes import daemon, environment, until

if TYPE_CHECKING:
    from tests.conftest import Database

LEASE = 'cdrsync_lease_held{account="default"}'


@SERVERS
@pytest.mark.own_server
def test_a_replica_that_is_cut_off_claims_no_lease(migrated: Database) -> None:
    """The server is frozen between two polls: metric and probes tell within the lease's time, from memory alone.

    Beats come through again, and all is as before without another poll.
    """
    assert isinstance(migrated.server, PostgresqlServer | MariadbServer)
    world = World(logins=[LOGIN])
    with running(world) as api:
        env = environment(
            api, migrated.url, http_listen="127.0.0.1:0", log_format="json", lease_seconds="3", poll_interval="1h",
            lookback_interval="0",
        )  # fmt: skip
        with daemon(env) as process:
            url = str(process.event("started")["page"]).rstrip("/")

            def told(path: str) -> str:
                return httpx.get(f"{url}{path}", timeout=60).text

            until(lambda: told("/readyz") == "ready\n", "ready")
            until(lambda: f"{LEASE} 1.0" in told("/metrics"), "the lease")
            migrated.server.freeze()
            try:
                until(lambda: "has not reached the database" in told("/livez"), "a word of it")
                assert f"{LEASE} 0.0" in told("/metrics")
                assert "has not reached the database" in told("/readyz")
            finally:
                migrated.server.thaw()
            until(lambda: f"{LEASE} 1.0" in told("/metrics"), "the lease again")
            until(lambda: told("/readyz") == "ready\n", "ready again")
            until(lambda: told("/livez") == "alive\n", "alive again")
            assert process.stop() == 0
