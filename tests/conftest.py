"""Fixtures that every folder of tests shares: real databases, fresh for each test."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from cdrsync.store.admin import migrate
from cdrsync.store.databases.engine import open_engine
from tests.support.databases import DatabaseServer, NotInstalled, PostgresqlServer, open_server

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest_plugins = ("tests.support.canary",)

KINDS = ("sqlite", "postgresql", "mariadb")


@dataclass(frozen=True)
class Database:
    """One database of a server: `kind` is sqlite, postgresql or mariadb."""

    url: str
    kind: str
    server: DatabaseServer


class Servers:
    """The servers of this test run, each started when first asked for."""

    def __init__(self) -> None:
        self._running: dict[str, DatabaseServer] = {}
        self._template: str | None = None

    def get(self, kind: str) -> DatabaseServer:
        """The server of a kind. Skips the test where it is not installed, fails it if CDRSYNC_REQUIRE_ALL=1."""
        if kind not in self._running:
            try:
                self._running[kind] = open_server(kind)
            except NotInstalled as missing:
                if os.environ.get("CDRSYNC_REQUIRE_ALL") == "1":
                    raise
                pytest.skip(str(missing))
        return self._running[kind]

    def migrated(self, server: DatabaseServer) -> str:
        """The URL of a new database with today's schema."""
        if isinstance(server, PostgresqlServer):  # copying a database is ten times as fast as making the tables
            if self._template is None:
                self._template = _upgraded(server.create())
            return server.create(template=self._template.split("?")[0].rsplit("/", 1)[1])
        return _upgraded(server.create())

    def close(self) -> None:
        """Stop them all."""
        for server in self._running.values():
            server.close()


def _upgraded(url: str) -> str:
    engine = open_engine(url, writer=True)
    migrate.upgrade(engine)
    engine.dispose()
    return url


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Every server of the run, stopped at its end."""
    found = Servers()
    yield found
    found.close()


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Database]:
    """A new, empty database of each kind in turn."""
    server = servers.get(request.param)
    url = server.create()
    yield Database(url, request.param, server)
    server.drop(url)


@pytest.fixture(params=KINDS)
def migrated(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Database]:
    """A new database of each kind in turn, with today's tables."""
    server = servers.get(request.param)
    url = servers.migrated(server)
    yield Database(url, request.param, server)
    server.drop(url)
