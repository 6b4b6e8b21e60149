"""A transaction pooler in front of PostgreSQL, as PgBouncer is in its transaction mode: small, but real to a client.

Every client connection has two sessions of the server, and gets the other one after each transaction. `sticky` makes it
keep the first one until told otherwise, as a pooler with nothing else to do would.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

SSL_REQUEST, GSS_REQUEST = 80877103, 80877104
READY, IDLE, COPY_IN = b"Z", b"I", b"G"


class TransactionPooler:
    """Listens on a loopback port while the context lasts."""

    def __init__(self, server_port: int, *, sticky: bool = False) -> None:
        self.sticky = sticky
        self._server = ("127.0.0.1", server_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = [self._listener]
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for one in self._open:
            with contextlib.suppress(OSError):  # closed by the other end already
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(10)

    def _run(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(client)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._run(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError):  # either end went away
            sessions = self._log_in(client)
            while True:
                for _ in range(2):
                    self._transaction(client, sessions[0])
                    if not self.sticky:
                        break
                if not self.sticky:
                    sessions.reverse()

    def _log_in(self, client: socket.socket) -> list[socket.socket]:
        """Two sessions of the server; the client hears of the first one."""
        while True:
            (length,) = struct.unpack("!I", _exactly(client, 4))
            startup = _exactly(client, length - 4)
            if struct.unpack("!I", startup[:4])[0] not in (SSL_REQUEST, GSS_REQUEST):
                break
            client.sendall(b"N")
        sessions = []
        for heard in (True, False):
            session = socket.create_connection(self._server)
            self._open.append(session)
            session.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            session.sendall(struct.pack("!I", length) + startup)
            while True:
                message = _message(session)
                if heard:
                    client.sendall(message)
                if message[:1] == READY:
                    break
            sessions.append(session)
        return sessions

    def _transaction(self, client: socket.socket, session: socket.socket) -> None:
        """Everything between the client and one session until it is idle again."""
        while True:
            message = _message(client)
            session.sendall(message)
            if message[:1] not in b"QS":
                continue  # part of an extended query: the server answers at its Sync
            while True:
                answer = _message(session)
                client.sendall(answer)
                if answer[:1] == READY:
                    break
                while answer[:1] == COPY_IN:
                    message = _message(client)
                    session.sendall(message)
                    if message[:1] in b"cf":  # done, failed
                        break
            if answer[5:6] == IDLE:
                return


def _message(peer: socket.socket) -> bytes:
    head = _exactly(peer, 5)
    return head + _exactly(peer, struct.unpack("!I", head[1:])[0] - 4)


def _exactly(peer: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        piece = peer.recv(size - len(content))
        if not piece:
            raise EOFError
        content += piece
    return content
