"""Cuts the connection of a server that has fallen silent in the middle of a transaction.

A vanished host is found by the kernel's keep-alives; a server that is frozen still has a kernel that answers them. The
server's own limit ends each statement of a replica (`STATEMENT_SECONDS`): who hears nothing for longer waits in vain.
PyMySQL has a limit of its own for that.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError

from cdrsync.errors import DatabaseUnavailable
from cdrsync.store.databases.port import CUT_SECONDS

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

LONG_SECONDS = 5.0  # for a look whether a connection is alive

_heard: dict[Any, float] = {}  # driver's connections in use: when the server was last asked or heard, monotonic
_closed: set[type[Exception]] = {OSError, ValueError}  # what is raised by a connection that is closed already
_watching: threading.Thread | None = None


def watch(engine: Engine) -> None:
    """Watch an engine's connections, and replace one that died while it was not in use."""
    _closed.add(engine.dialect.loaded_dbapi.Error)

    @event.listens_for(engine, "checkout")
    def _checkout(connection: Any, record: Any, proxy: Any) -> None:
        del record, proxy
        _mark(connection)
        begun = time.monotonic()
        try:
            engine.dialect.do_ping(connection)
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
        _mark(connection.connection.dbapi_connection)


def _mark(connection: Any) -> None:
    global _watching  # noqa: PLW0603 - one thread for every engine of the process
    _heard[connection] = time.monotonic()
    if _watching is None or not _watching.is_alive():
        _watching = threading.Thread(target=_watch, name="silence", daemon=True)
        _watching.start()


def _watch() -> None:
    while True:
        time.sleep(1.0)
        now = time.monotonic()
        for connection, heard in list(_heard.items()):
            if now - heard > CUT_SECONDS and _heard.pop(connection, None) is not None and hasattr(connection, "fileno"):
                with contextlib.suppress(*_closed), socket.socket(fileno=os.dup(connection.fileno())) as one:
                    one.shutdown(socket.SHUT_RDWR)
