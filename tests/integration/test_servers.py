"""The suite's own servers: whoever gets one may use it until it lets go, whenever the others start and end."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.databases import PostgresqlServer
from tests.support.processes import until
from tests.support.servers import Servers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.databases import DatabaseServer

KIND = "postgresql"
pytestmark = pytest.mark.server


@pytest.fixture
def first(tmp_path: Path) -> Iterator[Servers]:
    """What the first process of a run uses: it has started the server."""
    servers = Servers(tmp_path)
    servers.get(KIND)
    yield servers
    if servers._started:
        servers.close()


def address(server: DatabaseServer) -> str:
    assert isinstance(server, PostgresqlServer)
    return server.url()


def lives(server: DatabaseServer) -> bool:
    assert isinstance(server, PostgresqlServer)
    return server.execute("SELECT 1") == [(1,)]


def test_who_comes_after_the_end_starts_another(first: Servers, tmp_path: Path) -> None:
    """A process whose first test with a server comes when all others have finished finds none that is dead."""
    first.close()
    late = Servers(tmp_path)
    assert lives(late.get(KIND))
    late.close()
    assert not (tmp_path / KIND).exists()


def test_who_comes_during_the_end_starts_another(
    first: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has found the server's file, and waits for the lock while the one that started the server stops it."""
    server, path = first.get(KIND), tmp_path / KIND
    inode = path.stat().st_ino
    ending, may_end = threading.Event(), threading.Event()
    unlink = Path.unlink

    def remove(self: Path, *, missing_ok: bool = False) -> None:
        if self == path and not may_end.is_set():
            ending.set()
            may_end.wait(60)
        unlink(self, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", remove)
    late = Servers(tmp_path)
    with ThreadPoolExecutor(2) as pool:
        end = pool.submit(first.close)
        assert ending.wait(60)
        joins = pool.submit(late.get, KIND)
        try:
            until(lambda: waits_for_a_lock(inode), "the late one has found the file")
        finally:
            may_end.set()
        end.result(60)
        found = joins.result(60)
    assert lives(found)
    assert address(found) != address(server)
    late.close()


def test_a_server_runs_until_the_last_has_let_go(first: Servers, tmp_path: Path) -> None:
    """The one that started it waits for the one that came later."""
    inode = (tmp_path / KIND).stat().st_ino
    late = Servers(tmp_path)
    server = late.get(KIND)
    assert address(server) == address(first.get(KIND))
    with ThreadPoolExecutor(1) as pool:
        end = pool.submit(first.close)
        try:
            until(lambda: waits_for_a_lock(inode), "the first one waits")
            assert lives(server)
        finally:
            late.close()
        end.result(60)


def waits_for_a_lock(inode: int) -> bool:
    """Whether somebody waits for a lock on a file."""
    locks = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    return any("-> FLOCK" in line and f":{inode} " in line for line in locks)
