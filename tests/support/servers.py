"""The database servers of a test run: each started once, by the first of its processes that asks, and used by all.

pytest-xdist runs tests in several processes. They meet in a folder: `KIND` there holds a started server as another
process can use it, and whoever uses it keeps a shared lock on the file. The process that started it waits for all of
them, then removes the file and stops the server; who comes later starts another.
"""

from __future__ import annotations

import fcntl
import os
import pickle
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

import pytest

from cdrsync.store.admin import migrate
from cdrsync.store.databases.engine import open_engine
from tests.support.databases import (
    SERVERLESS,
    DatabaseServer,
    GivenMysqlServer,
    NotInstalled,
    open_server,
)
from tests.support.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Servers:
    """What the tests of one process use. `folder` is the same for all processes of the run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shared: dict[str, DatabaseServer] = {}
        self._own: dict[str, DatabaseServer] = {}
        self._started: list[str] = []
        self._used: dict[str, BinaryIO] = {}

    def get(self, kind: str) -> DatabaseServer:
        """The server that all share. Skips the test where it is not installed, fails it if CDRSYNC_REQUIRE_ALL=1."""
        if kind not in self._shared:
            self._shared[kind] = _installed(kind) if kind in SERVERLESS else self._join(kind)
        return self._shared[kind]

    def own(self, kind: str) -> DatabaseServer:
        """A server of this process alone, which a test may stop, kill and set up as it likes."""
        if kind not in self._own:
            self._own[kind] = _installed(kind)
        return self._own[kind]

    def migrated(self, server: DatabaseServer) -> str:
        """The URL of a new database with today's schema: a copy, which is faster than making the tables anew."""
        if not server.template:
            server.template = self._template(server)
        return server.copy(server.template)

    def close(self) -> None:
        """Stop what this process started, once the others have finished with it."""
        for file in self._used.values():
            file.close()
        for kind in self._started:
            path = self._folder / kind
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                path.unlink()
                self._shared[kind].close()
        self._started.clear()
        for server in (*self._own.values(), *(one for kind, one in self._shared.items() if kind in SERVERLESS)):
            server.close()

    def _template(self, server: DatabaseServer) -> str:
        """The URL of a database to copy. On a server that is shared the first process that asks makes it for all."""
        if server.kind not in self._used or server is not self._shared[server.kind]:
            return _upgraded(server.create())
        path = self._folder / server.kind
        with _alone(self._folder / f"{server.kind}.lock"):
            known: DatabaseServer = pickle.loads(path.read_bytes())
            if not known.template:
                known.template = _upgraded(server.create())
                path.write_bytes(pickle.dumps(known))
            return known.template

    def _join(self, kind: str) -> DatabaseServer:
        """The server that another process has started, or a new one."""
        path = self._folder / kind
        with _alone(self._folder / f"{kind}.lock"):
            if file := _held(path):
                self._used[kind] = file
                running: DatabaseServer = pickle.load(file)
                return running
            given = os.environ.get("CDRSYNC_TEST_MYSQL_URL") if kind == "mariadb" else None
            server = GivenMysqlServer(given) if given else _installed(kind)
            assert isinstance(server, ServerProcess)
            server.shared = True
            path.write_bytes(pickle.dumps(server))
            self._started.append(kind)
            held = _held(path)
            assert held is not None
            self._used[kind] = held
        return server


def _held(path: Path) -> BinaryIO | None:
    """The file of a server that runs until this file is closed, or None where there is none."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    fcntl.flock(file, fcntl.LOCK_SH)
    if os.fstat(file.fileno()).st_nlink:
        return file
    file.close()  # it was stopped while we waited for the lock
    return None


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _installed(kind: str) -> DatabaseServer:
    try:
        return open_server(kind)
    except NotInstalled as missing:
        if os.environ.get("CDRSYNC_REQUIRE_ALL") == "1":
            raise
        pytest.skip(str(missing))


def _upgraded(url: str) -> str:
    engine = open_engine(url)
    migrate.upgrade(engine)
    engine.dispose()
    return url
