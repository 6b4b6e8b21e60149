"""A network between a program and a server that can be cut: what is sent meanwhile is held back, not refused."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self


class Link:
    """A loopback port that leads to another one, until it is cut.

    It may forget the connections that there are: they stay, and nothing comes through. Cut, it takes connections and
    answers nothing, as a network does that swallows everything. Mended, it delivers what was held back: what a client
    said before it was given up may arrive late.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self._passes = threading.Event()  # of the connections since the last time that it forgot some
        self._passes.set()
        self._forgotten: list[threading.Event] = []
        self._closed = False
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name=f"link to {target}", daemon=True).start()

    def cut(self) -> None:
        """Let nothing through, in either direction."""
        self._passes.clear()

    def forget(self) -> None:
        """Let nothing through on the connections that there are now; new ones work."""
        self._passes.clear()
        self._forgotten.append(self._passes)
        self._passes = threading.Event()
        self._passes.set()

    def mend(self) -> None:
        """Let everything through again."""
        for passes in (self._passes, *self._forgotten):
            passes.set()

    def close(self) -> None:
        """End the link and every connection through it."""
        self._closed = True
        self.mend()
        with self._lock:
            ends = [self._listener, *self._sockets]
        for one in ends:
            with contextlib.suppress(OSError):  # closed by the other end already
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        passes = self._passes
        passes.wait()
        try:
            server = socket.create_connection(("127.0.0.1", self.target), timeout=60)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        with self._lock:
            self._sockets |= {client, server}
        there = threading.Thread(target=self._pump, args=(client, server, passes), daemon=True)
        there.start()
        self._pump(server, client, passes)
        there.join()
        with self._lock:
            self._sockets -= {client, server}
        client.close()
        server.close()

    def _pump(self, source: socket.socket, sink: socket.socket, passes: threading.Event) -> None:
        with contextlib.suppress(OSError):  # reset by either end
            while content := source.recv(1 << 16):
                passes.wait()
                sink.sendall(content)
        passes.wait()
        for end, how in ((sink, socket.SHUT_WR), (source, socket.SHUT_RD)):
            with contextlib.suppress(OSError):
                end.shutdown(how)
