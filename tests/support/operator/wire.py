"""A small threading HTTP/1.1 server for the operator's WSGI app.

waitress owns its sockets, and werkzeug's server closes each connection after one answer. Here connections are kept
alive as the operator's are, and the app can break one: a body that raises `ConnectionCutError` ends it, by a TCP reset
if it says so.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType
    from wsgiref.types import WSGIApplication, WSGIEnvironment

ON_A_SOCKET = "tests.on_a_socket"
"""In the WSGI environment where a real connection stands behind a request."""

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: close() sends RST


class ConnectionCutError(Exception):
    """Raised by a response body to end the connection here; `reset` tells how."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__("connection cut by the operator")
        self.reset = reset


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def do_POST(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def log_message(self, *_: object) -> None:
        """Nothing: the world counts requests, and the address lines of http.server would only fill terminals."""

    def _serve(self) -> None:
        try:
            self._answer()
        except ConnectionCutError as cut:
            self.close_connection = True
            if cut.reset:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                self.server.forget(self.connection)
                self.connection.close()
        except OSError:
            self.close_connection = True  # the client went away, as clients may

    def _answer(self) -> None:
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], *_: object) -> Any:
            started.append((status, headers))

        body = self.server.app(self._environ(), start_response)
        try:
            self._send(*started[0], body)
        finally:
            close = getattr(body, "close", None)
            if close is not None:
                close()

    def _environ(self) -> WSGIEnvironment:
        path, _, query = self.path.partition("?")
        environ: WSGIEnvironment = {
            "REQUEST_METHOD": self.command,
            "SCRIPT_NAME": "",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": self.headers.get("Content-Length", "0"),
            "SERVER_NAME": str(self.server.server_address[0]),
            "SERVER_PORT": str(self.server.server_address[1]),
            "SERVER_PROTOCOL": self.request_version,
            "REMOTE_ADDR": str(self.client_address[0]),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": BytesIO(self.rfile.read(int(self.headers.get("Content-Length", "0")))),
            "wsgi.errors": BytesIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
            ON_A_SOCKET: True,
        }
        for name, value in self.headers.items():
            environ["HTTP_" + name.upper().replace("-", "_")] = value
        return environ

    def _send(self, status: str, headers: list[tuple[str, str]], body: Iterable[bytes]) -> None:
        code, _, reason = status.partition(" ")
        self.send_response_only(int(code), reason)
        chunked = not any(name.lower() == "content-length" for name, _ in headers)
        if chunked:
            headers = [*headers, ("Transfer-Encoding", "chunked")]
        for name, value in headers:
            self.send_header(name, value)
        parts = iter(body)
        first = next(parts, b"")  # a body that is cut before its first byte must leave no status line behind
        self.end_headers()
        for part in _framed(first, parts) if chunked else _whole(first, parts):
            self.wfile.write(part)


def _whole(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _framed(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    for part in _whole(first, rest):
        if part:
            yield b"%x\r\n%b\r\n" % (len(part), part)
    yield b"0\r\n\r\n"


class Server(ThreadingHTTPServer):
    """Serves a WSGI app on its own threads between `with` and its end; afterwards no connection is left open."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    allow_reuse_address = True

    def __init__(self, app: WSGIApplication, host: str, port: int) -> None:
        """Bind at once; port 0 takes a free one. Raises OSError where the address can't be had."""
        self.app = app
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="sandbox", daemon=True)

    @property
    def port(self) -> int:
        """The port in use."""
        return int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection, so that the end can close it."""
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget it again."""
        self.forget(request)
        super().shutdown_request(request)

    def forget(self, request: socket.socket) -> None:
        """A connection that is about to be closed."""
        with self._open_lock:
            self._open.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no news; the default would print a traceback for it."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()
        with self._open_lock:
            left = list(self._open)
        for connection in left:
            with contextlib.suppress(OSError):  # it may be closing at this very moment
                connection.shutdown(socket.SHUT_RDWR)
