"""Cuts the connection of a server that has fallen silent in the middle of a transaction.

A vanished host is found by the kernel's keep-alives; a server that is frozen still has a kernel that answers them, and
so has a proxy that forgot the connection. The server's own limit ends each statement of a replica: who hears nothing
for longer than `STATEMENT_SECONDS` waits in vain. Who only reads may ask what takes long: there a new connection tells
whether the server still answers anybody, and whether it still works for this one.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError, InvalidatePoolError

from cdrsync.store.databases.choose import kind_of
from cdrsync.store.databases.port import CUT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy.engine import Engine
    from sqlalchemy.pool import ConnectionPoolEntry

    from cdrsync.store.databases.port import DatabaseKind

LONG_SECONDS = 5.0  # for a look whether a connection, or the server, is alive
_ANSWERED = "answered"  # that a connection has, kept beside it by the pool


class _Heard(NamedTuple):
    """Of a driver's connection in use: when the server was last asked or heard, monotonic."""

    at: float
    kind: DatabaseKind
    asked: bool = False  # the server owes an answer
    is_lost: Callable[[_Heard, Any], bool] | None = None  # None: whoever is silent is
    patience: float = CUT_SECONDS  # seconds


_heard: dict[Any, _Heard] = {}
_closed: set[type[Exception]] = {OSError, ValueError}  # what is raised by a connection that is closed already
_watching: threading.Thread | None = None


def watch(engine: Engine, arguments: Mapping[str, Any], *, limited: bool) -> None:
    """Watch an engine's connections, and replace one that died while it was not in use.

    `limited`: the server ends each of their statements in time. `arguments` are what the driver is told beside the URL.
    """
    _closed.add(engine.dialect.loaded_dbapi.Error)
    watched = _Watched(engine, None if limited else _looking(engine, arguments))
    event.listen(engine, "checkout", watched.taken)
    event.listen(engine, "checkin", watched.gone)
    event.listen(engine, "reset", watched.put_back)
    event.listen(engine, "invalidate", watched.gone)
    event.listen(engine, "close", watched.gone)
    event.listen(engine, "before_cursor_execute", watched.asked)
    event.listen(engine, "after_cursor_execute", watched.answered)
    event.listen(engine, "handle_error", watched.failed)


class _Watched:
    """What an engine tells of its connections."""

    def __init__(self, engine: Engine, is_lost: Callable[[_Heard, Any], bool] | None) -> None:
        self._engine = engine
        self._kind = kind_of(engine.dialect.name)
        self._is_lost = is_lost

    def taken(self, connection: Any, entry: ConnectionPoolEntry, *_: Any) -> None:
        is_new = not entry.info.get(_ANSWERED)
        self._mark(connection, patience=LONG_SECONDS, is_lost=None)
        try:
            self._kind.ping(self._engine, connection)
        except self._engine.dialect.loaded_dbapi.Error as error:
            # One that was cut fell silent: whatever swallowed it has the others of its time, too.
            was_cut = _heard.pop(connection, None) is None
            if is_new:  # the pool would make another one, and then call it a mistake of ours
                raise self._kind.unavailable(error) from error
            raise (InvalidatePoolError if was_cut else DisconnectionError)(str(error)) from error
        entry.info[_ANSWERED] = True  # it goes with the connection
        self._mark(connection)

    def put_back(self, connection: Any, *_: Any) -> None:
        if connection in _heard:
            self._mark(connection, is_lost=None)  # to roll back takes no time

    def gone(self, connection: Any, *_: Any) -> None:
        _heard.pop(connection, None)

    def asked(self, connection: Any, *_: Any) -> None:
        self._mark(connection.connection.dbapi_connection, asked=True)

    def answered(self, connection: Any, *_: Any) -> None:
        self._mark(connection.connection.dbapi_connection)

    def failed(self, context: Any) -> None:
        connection = context.connection
        if connection is not None and not connection.closed and not connection.invalidated:
            self._mark(connection.connection.dbapi_connection)

    def _mark(self, connection: Any, **more: Any) -> None:
        told: dict[str, Any] = {"is_lost": self._is_lost, **more}
        _heard[connection] = _Heard(time.monotonic(), self._kind, **told)
        _begin_to_watch()


def _looking(engine: Engine, arguments: Mapping[str, Any]) -> Callable[[_Heard, Any], bool]:
    """A look whether a connection is lost, over a new one. One that the server refuses has an answer, too."""
    positional, named = engine.dialect.create_connect_args(engine.url)
    named = {**named, **arguments, **kind_of(engine.dialect.name).look_arguments}

    def is_lost(heard: _Heard, connection: Any) -> bool:
        begun = time.monotonic()
        waits = False
        with (
            contextlib.suppress(*_closed),
            contextlib.closing(engine.dialect.loaded_dbapi.connect(*positional, **named)) as look,
        ):
            waits = heard.asked and heard.kind.waits(look, connection) and not _has_come(heard, connection)
        return waits or time.monotonic() - begun > LONG_SECONDS

    return is_lost


def _has_come(heard: _Heard, connection: Any) -> bool:
    """Whether there is something to read on a connection."""
    reading: list[Any] = [heard.kind.descriptor(connection)]
    return bool(select.select(reading, [], [], 0)[0])


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
            if now - heard.at <= heard.patience:
                continue
            if heard.is_lost is None:
                _cut(connection, heard)
            else:
                waiting = _heard[connection] = heard._replace(at=math.inf)
                threading.Thread(target=_look, args=(connection, waiting), name="silence", daemon=True).start()


def _look(connection: Any, waiting: _Heard) -> None:
    if waiting.is_lost is None or waiting.is_lost(waiting, connection):
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
