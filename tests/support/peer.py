"""A peer on loopback that behaves as a test says: real HTTP/1.1 over real sockets, byte by byte."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lxml import etree

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable, Iterator

DEADLINE = 20.0  # seconds until a test that waits for something fails


@dataclass(frozen=True)
class Seen:
    """One request as it arrived. `connection` counts the connections of this peer."""

    head: str
    body: bytes
    connection: int

    @property
    def root(self) -> etree._Element:
        """The document's <NoveroRequest>."""
        return etree.fromstring(self.body)

    @property
    def session_id(self) -> str | None:
        """The <SessionId> directly under <NoveroRequest>."""
        return self.root.findtext("SessionId")

    @property
    def names(self) -> list[str]:
        """What the requests of the document ask, in order."""
        return [one.get("name", "") for one in self.root.iterchildren("Request")]

    def parameters(self, name: str) -> dict[str, str]:
        """The parameters of the first request of that name."""
        (one, *_) = [one for one in self.root.iterchildren("Request") if one.get("name") == name]
        return {str(child.tag): child.text or "" for child in one}

    def ids(self) -> list[str]:
        """The ids of the requests, in order."""
        return [one.get("id", "") for one in self.root.iterchildren("Request")]


class Reset(Exception):
    """Raised by a step: the connection is reset."""


class Peer:
    """Answers each request by the next step; the last one answers all that follow.

    A step gives the bytes to send, whole or in pieces, or raises Reset. An HTTP/1.0 answer, or one that says
    `Connection: close`, ends its connection.
    """

    def __init__(self, *steps: Callable[[Seen], bytes | Iterable[bytes]], tls: ssl.SSLContext | None = None) -> None:
        self.seen: list[Seen] = []
        self.arrived = threading.Semaphore(0)  # released for each request
        self.gone = threading.Event()  # the client closed its connection while an answer was being sent
        self._steps = list(steps)
        self._tls = tls
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        self.url = f"https://localhost:{self.port}/api/" if tls else f"http://127.0.0.1:{self.port}/api/"

    def serve(self) -> None:
        """Accept connections until closed."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._talk, args=(connection, len(self._open)), daemon=True).start()

    def close(self) -> None:
        """End every connection."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            connection.close()

    def _talk(self, connection: socket.socket, number: int) -> None:
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            while request := _read(connection, number):
                with self._lock:
                    self.seen.append(request)
                    step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
                self.arrived.release()
                if not self._answer(connection, step(request)):
                    break
        except Reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            self.gone.set()
        finally:
            connection.close()

    @staticmethod
    def _answer(connection: socket.socket, answer: bytes | Iterable[bytes]) -> bool:
        """Send it; say whether the connection stays open."""
        pieces = [answer] if isinstance(answer, bytes) else answer
        first = b""
        for piece in pieces:
            first = first or piece
            connection.sendall(piece)
        return first.startswith(b"HTTP/1.1") and b"connection: close" not in first.lower()


@contextmanager
def peer(*steps: Callable[[Seen], bytes | Iterable[bytes]], tls: ssl.SSLContext | None = None) -> Iterator[Peer]:
    """A peer that serves while the block runs."""
    one = Peer(*steps, tls=tls)
    thread = threading.Thread(target=one.serve, daemon=True)
    thread.start()
    try:
        yield one
    finally:
        one.close()
        thread.join(DEADLINE)


def http(body: bytes = b"", status: str = "200 OK", **headers: str) -> bytes:
    """One HTTP answer; header names with _ for -."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _read(connection: socket.socket, number: int) -> Seen | None:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return None
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    length = int(lengths[0].split(b":")[1]) if lengths else 0
    while len(body) < length:
        body += connection.recv(65536)
    return Seen(head.decode("latin-1"), body, number)
