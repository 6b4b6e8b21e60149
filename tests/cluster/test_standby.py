"""Servers that can only be read: a streaming replica of PostgreSQL, a replica of MariaDB. Said, with the remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.canary import LOGIN
from tests.support.clusters import Standby
from tests.support.databases import MariadbServer, PostgresqlServer, database_name
from tests.support.operator import World, running
from tests.support.processes import cdrsync, daemon, environment, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Database

READ_WRITE = "target_session_attrs=read-write"


@pytest.fixture
def pair() -> Iterator[tuple[PostgresqlServer, Standby]]:
    """A primary, and a standby that follows it."""
    primary = PostgresqlServer()
    try:
        standby = Standby(primary)
        try:
            yield primary, standby
        finally:
            standby.close()
    finally:
        primary.close()


@pytest.mark.waits
@pytest.mark.server
def test_a_standby_is_named_with_the_remedy(pair: tuple[PostgresqlServer, Standby]) -> None:
    """By doctor, sync and run, before there is a schema and after; where it is promoted, the daemon goes on by itself.

    With both servers in the URL the one that can be written is taken.
    """
    primary, standby = pair
    url = primary.create()
    there = standby.url(database_name(url))
    standby.follow()
    world = World(logins=[LOGIN])
    world.add_history(calls=40, days=2)
    with running(world) as api:
        for made in (False, True):
            doctor = cdrsync("doctor", env=environment(api, there))
            assert doctor.returncode == 78, doctor.stdout
            assert "this server is a standby" in doctor.stdout
            assert READ_WRITE in doctor.stdout
            sync = cdrsync("sync", env=environment(api, there))
            assert (sync.returncode, READ_WRITE in sync.stderr) == (69, True), sync.stderr
            if not made:
                both = f"postgresql://postgres@127.0.0.1:{standby.port},127.0.0.1:{primary.port}/{database_name(url)}"
                run = cdrsync("sync", env=environment(api, f"{both}?{READ_WRITE}"))
                assert run.returncode == 0, run.stderr
                standby.follow()
        with daemon(environment(api, there, http_listen="", log_format="json")) as process:
            until(lambda: any(READ_WRITE in line for line in process.lines), "the remedy in the log")
            standby.execute("SELECT pg_promote()")
            assert process.event("lease taken")["account"] == "default"
            assert process.stop() == 0


@pytest.mark.waits
@pytest.mark.own_server
@pytest.mark.parametrize("migrated", ["mariadb"], indirect=True)
def test_a_read_only_server_of_mariadb_is_named_with_the_remedy(migrated: Database) -> None:
    """By doctor and sync."""
    server = migrated.server
    assert isinstance(server, MariadbServer)
    server.execute("CREATE OR REPLACE USER plain@'127.0.0.1'")
    server.execute(f"GRANT ALL ON {database_name(migrated.url)}.* TO plain@'127.0.0.1'")
    url = migrated.url.replace("root@", "plain@")
    with running(World(logins=[LOGIN])) as api:
        server.execute("SET GLOBAL read_only = 1")
        try:
            doctor, sync = (cdrsync(command, env=environment(api, url)) for command in ("doctor", "sync"))
        finally:
            server.execute("SET GLOBAL read_only = 0")
    assert doctor.returncode == 78
    assert "this server is read-only, as a replica is" in doctor.stdout
    assert sync.returncode == 69
    assert "Name the server in database_url that can be written" in sync.stderr
