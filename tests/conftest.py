"""Fixtures that every folder of tests shares: real databases, fresh for each test."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import hypothesis
import pytest

from cdrsync.source import brake
from tests.support.databases import SERVERLESS, SERVERS
from tests.support.order import FromBothEnds, place
from tests.support.server_process import roomy
from tests.support.servers import Servers
from tests.support.statements import share_among_engines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xdist.remote import Producer

    from tests.support.databases import DatabaseServer

pytest_plugins = ("tests.support.canary",)

# Speed is measured in benchmarks: how long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile("cdrsync", deadline=None)
hypothesis.settings.load_profile("cdrsync")

# Nothing that is imported and collected ever becomes garbage: to look for it takes a third of a collection's time.
gc.disable()

share_among_engines()

# Where pytest makes its temporary folders. A disk that others write to makes every commit to a file slow.
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(roomy()))

KINDS = tuple(SERVERS)

NAMED_BY = 80  # characters or bytes of a parameter, at most

# Fixtures of a module that are dear: the tests of one run in one process
SHARED = {
    *("browser", "odd", "calls_database", "prometheus", "leaking_run", "installed", "questioned", "views"),
    "charted",
}


@dataclass(frozen=True)
class Database:
    """One database of a server: `kind` is sqlite, postgresql or mariadb."""

    url: str
    kind: str
    server: DatabaseServer


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a server, and what one process is to run: pytest-xdist keeps a group of tests together.

    These are the tests that stop a server of their own, kind by kind, and those that share what SHARED names.
    """
    for item in items:
        params = (
            item.callspec.params.values() if isinstance(item, pytest.Function) and hasattr(item, "callspec") else ()
        )
        kinds = [value for value in params if value in KINDS]
        fixtures = set(getattr(item, "fixturenames", ()))
        if set(kinds) - SERVERLESS or "odd" in fixtures or ("servers" in fixtures and not kinds):
            item.add_marker(pytest.mark.server)
        if item.get_closest_marker("own_server") is not None:
            item.add_marker(pytest.mark.xdist_group(f"own {kinds[0]}"))
        for name in SHARED & fixtures:
            item.add_marker(pytest.mark.xdist_group(name))
    if items and hasattr(items[0].config, "workerinput"):  # among the processes of pytest-xdist
        items.sort(key=place)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """From now on there is garbage; what is there already need not be looked at again."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FromBothEnds | None:
    """Who hands out the tests."""
    return FromBothEnds(config, log) if config.getvalue("dist") == "loadgroup" else None


@pytest.fixture(autouse=True)
def _every_operator_is_new() -> None:
    """A port is given again: an operator of an earlier test that asked for patience does not hold up the next one."""
    brake._brake.cache_clear()


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name a test after the beginning of a long value: some are megabytes, which every process would hold and send."""
    if isinstance(val, str | bytes) and len(val) > NAMED_BY:
        return ascii(val[:NAMED_BY])
    return None


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Servers]:
    """Every server of the run, stopped at its end."""
    base = tmp_path_factory.getbasetemp()
    among_others = hasattr(request.config, "workerinput")  # a process of pytest-xdist: its folder is in the run's
    found = Servers(base.parent if among_others else base)
    yield found
    found.close()


def _server(request: pytest.FixtureRequest, servers: Servers) -> DatabaseServer:
    own = request.node.get_closest_marker("own_server") is not None
    return servers.own(request.param) if own else servers.get(request.param)


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Database]:
    """A new, empty database of each kind in turn."""
    server = _server(request, servers)
    url = server.create()
    yield Database(url, server.kind, server)
    server.drop(url)


@pytest.fixture(params=KINDS)
def migrated(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Database]:
    """A new database of each kind in turn, with today's tables."""
    server = _server(request, servers)
    url = servers.migrated(server)
    yield Database(url, server.kind, server)
    server.drop(url)
