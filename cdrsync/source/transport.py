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
import io
import os
import ssl
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import httpx

from cdrsync.errors import ApiUnreachable, ConfigError
from cdrsync.model import utc_now
from cdrsync.source.brake import brake_of
from cdrsync.source.http_answer import BUSY, LATER, OUT_OF_ORDER, retry_after
from cdrsync.source.stop import SLICE, stopping

if TYPE_CHECKING:
    from cdrsync.source.stop import StopEvent

T = TypeVar("T")

_FIRST = threading.Lock()  # two threads that come first must not make two

KEEP_ALIVE = 90.0  # seconds a connection is kept unused: longer than the usual poll interval of a minute
MAX_CONNECTIONS = 64  # of all accounts together
KEPT_CONNECTIONS = 16  # unused ones
MAX_PORT = 65535
LOOK_UPS = 2  # of names, at once: each has a thread
CLOSING = 2.0  # seconds that the end of the connections may take


class Transport(httpx.BaseTransport):
    """HTTP/1.1 over kept connections, TLS verified, through the environment's proxy for https.

    A request's extension `deadline` (of `time.monotonic`) ends it. Of its answer `max_bytes` and a
    piece are read at most.
    """

    def __init__(self, url: httpx.URL, stop: StopEvent, max_bytes: int) -> None:
        self._stop = stop
        self._max_bytes = max_bytes
        self._brake = brake_of(str(url))
        https, proxy = url.scheme == "https", proxy_for(url)
        with _FIRST:
            self._shared: _Shared | None = _shared((https, proxy and str(proxy.url), proxy and proxy.raw_auth))
            self._inner = self._shared.taken(proxy, https=https)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and read its answer. Raises httpx.TransportError, ApiUnreachable while the host rests."""
        deadline = request.extensions["deadline"]
        if not self._brake.wait(deadline, self._stop):
            raise stopping() if self._stop.is_set() else self._resting()
        working = asyncio.run_coroutine_threadsafe(self._answer(request), _loop())
        try:
            answer = _result(working, deadline, self._stop)
        except ssl.SSLError as error:  # after the handshake, which httpx lets through
            raise httpx.ReadError(str(error)) from error
        wish = retry_after(answer.headers, utc_now())
        refused = answer.status_code == BUSY or (answer.status_code >= OUT_OF_ORDER and wish is not None)
        self._brake.answered(refused=refused, retry_after=wish)
        return answer

    def _resting(self) -> ApiUnreachable:
        """The host is closed beyond the request's deadline: it asked another request to come back later."""
        seconds = self._brake.opens_at() - time.monotonic()
        return ApiUnreachable(f"the operator wants to rest for {seconds:.0f} s more", hint=LATER, retry_after=seconds)

    def close(self) -> None:
        """Close every connection, unless other accounts use them."""
        shared, self._shared = self._shared, None
        last = shared.given_back() if shared is not None else None
        if last is not None:
            closing = asyncio.run_coroutine_threadsafe(last.aclose(), _loop())
            concurrent.futures.wait([closing], CLOSING)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        answer = await self._inner.handle_async_request(request)
        tls = answer.extensions["network_stream"].get_extra_info("ssl_object")
        seen = {"tls": (tls.version(), tls.getpeercert())} if tls is not None else {}
        body = io.BytesIO()  # no list of pieces: each of a byte would cost fifty
        try:
            async for piece in answer.aiter_raw():
                body.write(piece)
                if body.tell() > self._max_bytes:
                    break
        finally:
            await answer.aclose()
        return httpx.Response(
            answer.status_code, headers=answer.headers, stream=httpx.ByteStream(body.getvalue()), extensions=seen
        )


class _Shared:
    """The connections of all accounts of the process that ask in the same way: certificates are loaded once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._inner: httpx.AsyncHTTPTransport | None = None

    def taken(self, proxy: httpx.Proxy | None, *, https: bool) -> httpx.AsyncHTTPTransport:
        """For one more account. Raises ConfigError."""
        with self._lock:
            if self._inner is None:
                self._inner = httpx.AsyncHTTPTransport(
                    # Plain http is for loopback: a context that trusts nobody costs no time to load certificates.
                    verify=_trusting() if https else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
                    proxy=proxy,
                    limits=httpx.Limits(
                        max_connections=MAX_CONNECTIONS,
                        max_keepalive_connections=KEPT_CONNECTIONS,
                        keepalive_expiry=KEEP_ALIVE,
                    ),
                )
            self._users += 1
            return self._inner

    def given_back(self) -> httpx.AsyncHTTPTransport | None:
        """By one account; what is to be closed where it was the last."""
        with self._lock:
            self._users -= 1
            last, self._inner = (self._inner, None) if not self._users else (None, self._inner)
            return last


@functools.cache
def _shared(way: tuple[object, ...]) -> _Shared:
    del way  # what it is found by
    return _Shared()


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


def _loop() -> asyncio.AbstractEventLoop:
    """The one loop of the process; its thread ends with the program."""
    with _FIRST:
        return _started_loop()


@functools.cache
def _started_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(LOOK_UPS, "look-up"))
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


def named(proxy: httpx.Proxy | None) -> str | None:
    """A proxy's HOST:PORT, without its user and password."""
    if proxy is None:
        return None
    return f"{proxy.url.host}:{proxy.url.port or (443 if proxy.url.scheme == 'https' else 80)}"


def password_of(proxy: httpx.Proxy | None) -> str:
    """A proxy's password, "" where it has none."""
    return proxy.raw_auth[1].decode() if proxy and proxy.raw_auth else ""


def way(url: httpx.URL, proxy: httpx.Proxy | None) -> str:
    """Name a host, and the proxy that the way to it leads through."""
    return f"{url.host} through the proxy {named(proxy)}" if proxy else url.host


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
