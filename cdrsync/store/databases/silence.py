"""Cuts the connection of a server that has fallen silent in the middle of a transaction.

A vanished host is found by the kernel's keep-alives; a server that is frozen still has a kernel that answers them. The
server's own limit ends each statement of a replica (`STATEMENT_SECONDS`): who hears nothing for longer waits in vain.
Who only reads may ask what takes long: there a new connection tells whether the server still answers anybody.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError

from cdrsync.errors import DatabaseUnavailable
from cdrsync.store.databases.choose import kind_of
from cdrsync.store.databases.port import CUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy.engine import Engine

    from cdrsync.store.databases.port import DatabaseKind

LONG_SECONDS = 5.0  # for a look whether a connection, or the server, is alive


class _Heard(NamedTuple):
    """Of a driver's connection in use: when the server was last asked or heard, monotonic."""

    at: float
    kind: DatabaseKind
    is_frozen: Callable[[], bool] | None  # None: whoever is silent is


_heard: dict[Any, _Heard] = {}
_closed: set[type[Exception]] = {OSError, ValueError}  # what is raised by a connection that is closed already
_watching: threading.Thread | None = None


def watch(engine: Engine, arguments: Mapping[str, Any], *, limited: bool) -> None:
    """Watch an engine's connections, and replace one that died while it was not in use.

    `limited`: the server ends each of their statements in time. `arguments` are what the driver is told beside the URL.
    """
    _closed.add(engine.dialect.loaded_dbapi.Error)
    kind = kind_of(engine.dialect.name)
    is_frozen = None if limited else _looking(engine, arguments)

    def mark(connection: Any) -> None:
        _heard[connection] = _Heard(time.monotonic(), kind, is_frozen)
        _begin_to_watch()

    @event.listens_for(engine, "checkout")
    def _checkout(connection: Any, record: Any, proxy: Any) -> None:
        del record, proxy
        mark(connection)
        begun = time.monotonic()
        try:
            kind.ping(engine, connection)
        except engine.dialect.loaded_dbapi.Error as error:
            _heard.pop(connection, None)
            if time.monotonic() - begun > LONG_SECONDS:  # another connection would take as long
                raise DatabaseUnavailable("the database does not answer") from error
            raise DisconnectionError(str(error)) from error

    @event.listens_for(engine, "checkin")
    def _checkin(connection: Any, record: Any) -> None:
        del record
        _heard.pop(connection, None)

    @event.listens_for(engine, "invalidate")
    @event.listens_for(engine, "close")
    def _gone(connection: Any, *_: Any) -> None:
        _heard.pop(connection, None)

    @event.listens_for(engine, "before_cursor_execute")
    @event.listens_for(engine, "after_cursor_execute")
    def _execute(connection: Any, *_: Any) -> None:
        mark(connection.connection.dbapi_connection)


def _looking(engine: Engine, arguments: Mapping[str, Any]) -> Callable[[], bool]:
    """A look whether the server answers a new client. One that it refuses has an answer, too."""
    positional, named = engine.dialect.create_connect_args(engine.url)
    named = {**named, **arguments, **kind_of(engine.dialect.name).look_arguments}

    def is_frozen() -> bool:
        begun = time.monotonic()
        with contextlib.suppress(*_closed):
            engine.dialect.loaded_dbapi.connect(*positional, **named).close()
        return time.monotonic() - begun > LONG_SECONDS

    return is_frozen


def _begin_to_watch() -> None:
    global _watching  # noqa: PLW0603 - one thread for every engine of the process
    if _watching is None or not _watching.is_alive():
        _watching = threading.Thread(target=_watch, name="silence", daemon=True)
        _watching.start()


def _watch() -> None:
    while True:
        time.sleep(1.0)
        now = time.monotonic()
        for connection, heard in list(_heard.items()):
            if now - heard.at <= CUT_SECONDS:
                continue
            if heard.is_frozen is None:
                _cut(connection, heard)
            else:
                waiting = _heard[connection] = heard._replace(at=math.inf)
                arguments = (connection, waiting, heard.is_frozen)
                threading.Thread(target=_look, args=arguments, name="silence", daemon=True).start()


def _look(connection: Any, waiting: _Heard, is_frozen: Callable[[], bool]) -> None:
    if is_frozen():
        _cut(connection, waiting)
    elif _heard.get(connection) is waiting:
        _heard[connection] = waiting._replace(at=time.monotonic())


def _cut(connection: Any, heard: _Heard) -> None:
    """End a connection of which nothing was heard since then."""
    if _heard.get(connection) is heard and _heard.pop(connection, None) is not None:
        with contextlib.suppress(*_closed):
            descriptor = heard.kind.descriptor(connection)
            if descriptor is not None:
                with socket.socket(fileno=os.dup(descriptor)) as one:
                    one.shutdown(socket.SHUT_RDWR)
