"""httpx's own transport, with an end to every wait.

httpx bounds each read, not a whole answer: a peer that sends a byte now and then would hold a thread for ever, and name
look-up has no bound at all. Here httpx works on an event loop in a thread of its own, where whatever waits can be
cancelled: at the request's deadline, and within a quarter of a second of a stop. An address that does not answer costs
a quarter of a second, for the next one is tried beside it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import ssl
import threading
import time
import urllib.request
from typing import TYPE_CHECKING, TypeVar

import httpx

from cdrsync.source.stop import SLICE

if TYPE_CHECKING:
    from cdrsync.source.stop import StopEvent

T = TypeVar("T")

KEEP_ALIVE = 90.0  # seconds a connection is kept unused: longer than the usual poll interval of a minute
MAX_CONNECTIONS = 16
CLOSING = 2.0  # seconds that the end of the connections may take


class Transport(httpx.BaseTransport):
    """HTTP/1.1 over kept connections, TLS verified, through the environment's proxy for https.

    A request's extension `deadline` (of `time.monotonic`) ends it. Of its answer `max_bytes` and a
    piece are read at most.
    """

    def __init__(self, url: httpx.URL, stop: StopEvent, max_bytes: int) -> None:
        self._stop = stop
        self._max_bytes = max_bytes
        https = url.scheme == "https"
        self._inner = httpx.AsyncHTTPTransport(
            # Plain http is for loopback: a context that trusts nobody costs no time to load certificates.
            verify=httpx.create_ssl_context() if https else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            proxy=_proxy_for(url) if https else None,
            limits=httpx.Limits(
                max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS, keepalive_expiry=KEEP_ALIVE
            ),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and read its answer. Raises httpx.TransportError."""
        working = asyncio.run_coroutine_threadsafe(self._answer(request), _loop())
        return _result(working, request.extensions["deadline"], self._stop)

    def close(self) -> None:
        """Close every connection."""
        closing = asyncio.run_coroutine_threadsafe(self._inner.aclose(), _loop())
        concurrent.futures.wait([closing], CLOSING)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        answer = await self._inner.handle_async_request(request)
        body = bytearray()  # no list of pieces: each of a byte would cost fifty
        try:
            async for piece in answer.aiter_raw():
                body += piece
                if len(body) > self._max_bytes:
                    break
        finally:
            await answer.aclose()
        return httpx.Response(answer.status_code, headers=answer.headers, stream=httpx.ByteStream(bytes(body)))


def _result(working: concurrent.futures.Future[T], deadline: float, stop: StopEvent) -> T:
    try:
        while not stop.is_set():
            left = deadline - time.monotonic()
            if left <= 0:
                raise httpx.ReadTimeout("it did not end in time")
            if concurrent.futures.wait([working], min(left, SLICE)).done:
                return working.result()
        raise httpx.ReadError("cdrsync is stopping")
    finally:
        working.cancel()  # nothing happens where it is done


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """The one loop of the process; its thread ends with the program."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="cdrsync-http", daemon=True).start()
    return loop


def _proxy_for(url: httpx.URL) -> httpx.Proxy | None:
    """Give the proxy that the environment (`HTTPS_PROXY`, `NO_PROXY`) names for this host."""
    named = urllib.request.getproxies()
    found = named.get("https") or named.get("all")
    if not found or urllib.request.proxy_bypass(url.host):
        return None
    return httpx.Proxy(found if "://" in found else f"http://{found}")
