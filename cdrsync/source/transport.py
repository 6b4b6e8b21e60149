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
import os
import ssl
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import httpx

from cdrsync.errors import ConfigError
from cdrsync.source.stop import SLICE

if TYPE_CHECKING:
    from cdrsync.source.stop import StopEvent

T = TypeVar("T")

KEEP_ALIVE = 90.0  # seconds a connection is kept unused: longer than the usual poll interval of a minute
MAX_CONNECTIONS = 16
MAX_PORT = 65535
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
            verify=_trusting() if https else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
            proxy=proxy_for(url),
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
        tls = answer.extensions["network_stream"].get_extra_info("ssl_object")
        seen = {"tls": (tls.version(), tls.getpeercert())} if tls is not None else {}
        body = bytearray()  # no list of pieces: each of a byte would cost fifty
        try:
            async for piece in answer.aiter_raw():
                body += piece
                if len(body) > self._max_bytes:
                    break
        finally:
            await answer.aclose()
        return httpx.Response(
            answer.status_code, headers=answer.headers, stream=httpx.ByteStream(bytes(body)), extensions=seen
        )


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


def proxy_for(url: httpx.URL) -> httpx.Proxy | None:
    """Give the proxy that the environment names for this host. Raises ConfigError, without the proxy's password."""
    if url.scheme != "https":
        return None
    names = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
    name = next((name for name in names if os.environ.get(name)), None)
    if name is None or urllib.request.proxy_bypass(url.host):
        return None
    found = os.environ[name]
    try:
        proxy = httpx.Proxy(found if "://" in found else f"http://{found}")
    except (httpx.InvalidURL, ValueError):
        proxy = None
    if proxy is None or not _can_be_asked(proxy.url):
        raise ConfigError(
            [f"{name}: not the address of an HTTP proxy"],
            hint="It is http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT with %23 for # and %40 for @ in the "
            "password; NO_PROXY names hosts that need none",
        )
    return proxy


def _can_be_asked(proxy: httpx.URL) -> bool:
    port = proxy.port or 1
    return proxy.scheme in {"http", "https"} and bool(proxy.host) and "%" not in proxy.host and 0 < port <= MAX_PORT


def _trusting() -> ssl.SSLContext:
    """Trust what this machine trusts: OpenSSL's store, or what SSL_CERT_FILE and SSL_CERT_DIR name in its place.

    A machine without any certificates gets those that come with httpx. Raises ConfigError.
    """
    named = {name: Path(os.environ[name]) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)}
    context = ssl.create_default_context()
    for name, path in named.items():
        try:
            if name == "SSL_CERT_FILE":
                context.load_verify_locations(path)
            else:
                next(path.iterdir(), None)
        except (OSError, ssl.SSLError) as error:
            why = "holds no certificates" if isinstance(error, ssl.SSLError) else error.strerror
            raise ConfigError([f"{name}: {path}: {why}"], hint="Unset it, or name the certificates to trust") from None
    if not named and not _has_certificates():
        import certifi

        context.load_verify_locations(certifi.where())
    return context


def _has_certificates() -> bool:
    usual = ssl.get_default_verify_paths()
    folder = Path(usual.openssl_capath)
    return Path(usual.openssl_cafile).is_file() or (folder.is_dir() and any(folder.iterdir()))
