"""waitress in a thread of its own: slow, silent and too many clients keep nobody out, and its end waits for none.

/livez has a thread to itself, so that a database that hangs, and whoever waits for it, never holds it up.
"""

from __future__ import annotations

import os
import resource
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher

from cdrsync.web.app import LIVE, MAX_BODY_BYTES

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

THREADS = 4  # one may hang in the database (see state.Recent), the others answer
CONNECTIONS = 256  # beyond them those that have waited longest are closed
FEWEST_CONNECTIONS = 4
REQUEST_SECONDS = 10.0  # for a request to arrive whole
IDLE_SECONDS = 30.0  # a connection that says nothing is closed
END_SECONDS = 2.0  # what is being answered when the end comes may take as long
LOOK_ROUND = 1.0  # seconds between two looks for slow clients


class WebServer:
    """A running web server; `close` ends it."""

    def __init__(self, app: WSGIApplication, listener: socket.socket) -> None:
        self._sockets: dict[int, Any] = {}
        self._dispatcher = _Dispatcher()
        self._server = _Server(app, listener, self._sockets, self._dispatcher)
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
            # Not earlier: the thread may see by itself that it is to end, and the trigger must still be there to pull.
            wasyncore.close_all(self._sockets, ignore_all=True)

    def _run(self) -> None:
        # waitress's own `run` ends only by KeyboardInterrupt in the main thread, which here belongs to the daemon.
        looked = time.monotonic()
        while not self._stopping:
            # poll, since select can't watch a descriptor above 1,023.
            wasyncore.loop(timeout=LOOK_ROUND, map=self._sockets, count=1, use_poll=True)
            if (now := time.monotonic()) - looked >= LOOK_ROUND:
                looked = now
                self._server.close_slow(now)
        self._dispatcher.shutdown(END_SECONDS)
        wasyncore.loop(timeout=0, map=self._sockets, count=2, use_poll=True)  # send what was answered meanwhile


class _Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    """A connection that knows since when it waits for its client."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.waits_since = time.monotonic()
        super().__init__(*args, **options)

    def received(self, data: bytes) -> Any:
        """Take what the client sent."""
        if self.request is None:
            self.waits_since = time.monotonic()
        return super().received(data)

    def service(self) -> None:
        """Answer a request."""
        super().service()
        self.waits_since = time.monotonic()

    def patience(self) -> float:
        """Seconds that it may wait."""
        return IDLE_SECONDS if self.request is None else REQUEST_SECONDS


class _Server(TcpWSGIServer):  # type: ignore[misc]  # waitress has no types
    """Accepts connections, and closes those that wait too long or are too many."""

    channel_class = _Channel

    def __init__(
        self, app: WSGIApplication, listener: socket.socket, sockets: dict[int, Any], dispatcher: _Dispatcher
    ) -> None:
        self._room = _room()
        adjustments = Adjustments(
            sockets=[listener],
            connection_limit=2**20,  # room is made, not waited for
            channel_timeout=3600,  # see close_slow
            max_request_body_size=MAX_BODY_BYTES,
            max_request_header_size=16 * 1024,
            clear_untrusted_proxy_headers=True,
            ident=None,  # no Server header: whoever scans learns nothing
        )
        place = (listener.family, listener.type, listener.proto, listener.getsockname())
        super().__init__(
            app, sockets, _sock=listener, dispatcher=dispatcher, adj=adjustments, bind_socket=False, sockinfo=place
        )

    def handle_accept(self) -> None:
        """Accept one connection. Where there is no room, or no descriptor is left, the longest waiting makes room."""
        before = len(self._map)
        super().handle_accept()
        if len(self._map) == before or len(self.active_channels) > self._room:
            waiting = self._waiting()
            if waiting:
                waiting[0].will_close = True
            elif len(self._map) == before:
                time.sleep(0.05)  # or it would be asked for again at once

    def close_slow(self, now: float) -> None:
        """Close the connections whose client takes too long."""
        for channel in self._waiting():
            if now - channel.waits_since > channel.patience():
                channel.will_close = True

    def _waiting(self) -> list[_Channel]:
        """Connections on which nothing is being answered, the one that waits longest first."""
        channels = [c for c in self.active_channels.values() if not (c.requests or c.total_outbufs_len or c.will_close)]
        return sorted(channels, key=lambda channel: channel.waits_since)


class _Dispatcher:
    """The threads that answer."""

    def __init__(self) -> None:
        self._pages, self._live = ThreadedTaskDispatcher(), ThreadedTaskDispatcher()
        self._pages.set_thread_count(THREADS)
        self._live.set_thread_count(1)

    def add_task(self, channel: _Channel) -> None:
        """Let a connection's next request be answered."""
        path = getattr(channel.requests[0], "path", None)  # a malformed request has none, and is answered with 400
        (self._live if path == LIVE else self._pages).add_task(channel)

    def shutdown(self, timeout: float) -> None:
        """End the threads; what takes longer than `timeout` seconds is left."""
        self._live.shutdown(timeout=timeout)
        self._pages.shutdown(timeout=timeout)


def _room() -> int:
    """How many connections there is room for: half of the descriptors that are left to the process at most."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    try:
        used = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough
    except OSError:
        return CONNECTIONS
    return CONNECTIONS if limit < 0 else max(FEWEST_CONNECTIONS, min(CONNECTIONS, (limit - used) // 2))


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
