"""waitress in a thread of its own, with an end that does not wait for slow readers."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any

from cdrsync.web.app import MAX_BODY_BYTES

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

THREADS = 8  # one may hang in the database (see recent), the others answer
CONNECTIONS = 64
IDLE_SECONDS = 30  # a connection that says nothing is closed
END_SECONDS = 2.0  # what is being answered when the end comes may take as long


class WebServer:
    """A running web server; `close` ends it."""

    def __init__(self, app: WSGIApplication, listener: socket.socket) -> None:
        from waitress.server import create_server

        self._sockets: dict[int, Any] = {}
        self._server = create_server(
            app,
            map=self._sockets,
            sockets=[listener],
            threads=THREADS,
            connection_limit=CONNECTIONS,
            channel_timeout=IDLE_SECONDS,
            cleanup_interval=IDLE_SECONDS // 2,
            max_request_body_size=MAX_BODY_BYTES,
            max_request_header_size=16 * 1024,
            clear_untrusted_proxy_headers=True,
            ident=None,  # no Server header: whoever scans learns nothing
        )
        host, self.port = listener.getsockname()[:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="web", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening, finish what is being answered (END_SECONDS at most), close every connection."""
        if not self._stopping:
            self._stopping = True
            self._server.pull_trigger()
            self._thread.join()

    def _run(self) -> None:
        # waitress's own `run` ends only by KeyboardInterrupt in the main thread, which here belongs to the daemon.
        from waitress import wasyncore

        while not self._stopping:
            wasyncore.loop(timeout=10, map=self._sockets, count=1)
        self._server.task_dispatcher.shutdown(timeout=END_SECONDS)
        wasyncore.loop(timeout=0, map=self._sockets, count=2)  # send what was answered meanwhile
        wasyncore.close_all(self._sockets, ignore_all=True)


def serve(app: WSGIApplication, host: str, port: int) -> WebServer:
    """Serve the app on an address, port 0 for any free one. Raises OSError where the address can't be had."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return WebServer(app, listener)
