"""The transport below httpx: one pool of connections, in which every wait has an end.

httpx bounds each read, not a whole answer: a peer that sends a byte now and then would hold a thread for ever. Here
every read also ends at the request's own deadline (`extensions["deadline"]`, of `time.monotonic`) and, within a
quarter of a second, when the program is stopping; so do name look-up, connecting and the TLS handshake.
"""

from __future__ import annotations

import contextlib
import queue
import ssl
import threading
import time
import urllib.request
from typing import TYPE_CHECKING, Any, TypeVar

import httpcore
import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


KEEP_ALIVE = 90.0  # seconds a connection is kept unused: longer than the usual poll interval of a minute
MAX_CONNECTIONS = 16

_FOREVER = float("inf")

T = TypeVar("T")


class Transport(httpx.BaseTransport):
    """HTTP/1.1 over a pool of kept connections, TLS verified, through the environment's proxy for https."""

    def __init__(self, url: httpx.URL, halt: Halt) -> None:
        self._now = _Now()
        self._pool = _pool(url, _Backend(self._now, halt))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; its answer's body is read from the stream of the result. Raises httpx.TransportError."""
        self._now.deadline = request.extensions.get("deadline", _FOREVER)
        sent = httpcore.Request(
            method=request.method,
            url=httpcore.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path,
            ),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with _as_httpx():
            answer = self._pool.handle_request(sent)
        return httpx.Response(answer.status, headers=answer.headers, stream=_Body(answer), extensions=answer.extensions)

    def close(self) -> None:
        """Close every connection. No request may be under way."""
        with _as_httpx():
            self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, answer: httpcore.Response) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        with _as_httpx():
            yield from self._answer.iter_stream()

    def close(self) -> None:
        with _as_httpx():
            self._answer.close()


class _Now(threading.local):
    """The deadline of the request that this thread is at."""

    deadline: float = _FOREVER


class _Stream(httpcore.NetworkStream):
    """A connection whose reads are cut into slices, so that they notice the deadline and the stop."""

    def __init__(self, inner: httpcore.NetworkStream, now: _Now, halt: Halt) -> None:
        self._inner = inner
        self._now = now
        self._halt = halt

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        end = _end(self._now, timeout)
        while True:
            left = _left(end, self._halt)
            try:
                return self._inner.read(max_bytes, min(left, SLICE))
            except httpcore.ReadTimeout:
                continue  # a slice, not the end: nothing was read, the connection is as before

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _left(_end(self._now, timeout), self._halt))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = _left(_end(self._now, timeout), self._halt)
        inner = _aside(lambda: self._inner.start_tls(ssl_context, server_hostname, left), left, self._halt)
        return _Stream(inner, self._now, self._halt)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    def __init__(self, now: _Now, halt: Halt) -> None:
        self._inner = httpcore.SyncBackend()
        self._now = now
        self._halt = halt

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(_end(self._now, timeout), self._halt)
        inner = _aside(
            lambda: self._inner.connect_tcp(host, port, left, local_address, socket_options), left, self._halt
        )
        return _Stream(inner, self._now, self._halt)


def _pool(url: httpx.URL, backend: _Backend) -> httpcore.ConnectionPool:
    settings: dict[str, Any] = {
        "max_connections": MAX_CONNECTIONS,
        "max_keepalive_connections": MAX_CONNECTIONS,
        "keepalive_expiry": KEEP_ALIVE,
        "network_backend": backend,
    }
    if url.scheme == "http":
        # Loopback only: no proxy, and a context that trusts nobody, which costs no time to load certificates.
        return httpcore.ConnectionPool(ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), **settings)
    settings["ssl_context"] = httpx.create_ssl_context()
    proxy = _proxy_for(url)
    if proxy is None:
        return httpcore.ConnectionPool(**settings)
    address = httpcore.URL(
        scheme=proxy.url.raw_scheme, host=proxy.url.raw_host, port=proxy.url.port, target=proxy.url.raw_path
    )
    return httpcore.HTTPProxy(address, proxy_auth=proxy.raw_auth, **settings)


def _proxy_for(url: httpx.URL) -> httpx.Proxy | None:
    """Give the proxy that the environment (`HTTPS_PROXY`, `NO_PROXY`) names for this host."""
    named = urllib.request.getproxies()
    found = named.get("https") or named.get("all")
    if not found or urllib.request.proxy_bypass(url.host):
        return None
    return httpx.Proxy(found if "://" in found else f"http://{found}")


def _aside(work: Callable[[], httpcore.NetworkStream], seconds: float, halt: Halt) -> httpcore.NetworkStream:
    """Do in a thread of its own what can't be cut into slices: name look-up, connect, handshake.

    It is left behind where it takes too long. A connection that comes about after it was left behind is closed at once.
    """
    done: queue.SimpleQueue[httpcore.NetworkStream | Exception] = queue.SimpleQueue()
    left_behind = threading.Event()

    def run() -> None:
        try:
            outcome: httpcore.NetworkStream | Exception = work()
        except Exception as error:  # noqa: BLE001 - carried over to the thread that waits, and raised there
            outcome = error
        done.put(outcome)
        if left_behind.is_set():
            _close_if_any(done)

    threading.Thread(target=run, name="cdrsync-connect", daemon=True).start()
    end = time.monotonic() + seconds
    while True:
        try:
            left = _left(end, halt, httpcore.ConnectTimeout)
            outcome = done.get(timeout=min(left, SLICE))
        except queue.Empty:
            continue
        except (httpcore.ConnectTimeout, httpcore.ReadError):
            left_behind.set()
            _close_if_any(done)
            raise
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def _close_if_any(done: queue.SimpleQueue[httpcore.NetworkStream | Exception]) -> None:
    with contextlib.suppress(queue.Empty):
        late = done.get_nowait()
        if isinstance(late, httpcore.NetworkStream):
            late.close()


def _end(now: _Now, timeout: float | None) -> float:
    return min(now.deadline, time.monotonic() + (_FOREVER if timeout is None else timeout))


def _left(end: float, halt: Halt, late: type[httpcore.TimeoutException] = httpcore.ReadTimeout) -> float:
    """Give the seconds that are left until `end`. Raises where none are, or where the program is stopping."""
    if halt.is_set():
        raise httpcore.ReadError("cdrsync is stopping")
    left = end - time.monotonic()
    if left <= 0:
        raise late("no answer in time")
    return left


@contextlib.contextmanager
def _as_httpx() -> Iterator[None]:
    """Translate what httpcore raises to httpx's tree, which is all that `api` knows."""
    try:
        yield
    except httpcore.TimeoutException as error:
        raise httpx.TimeoutException(str(error)) from error
    except httpcore.ProxyError as error:
        raise httpx.ProxyError(str(error)) from error
    except httpcore.NetworkError as error:
        raise httpx.NetworkError(str(error)) from error
    except httpcore.ProtocolError as error:
        raise httpx.ProtocolError(str(error)) from error
    except httpcore.UnsupportedProtocol as error:
        raise httpx.UnsupportedProtocol(str(error)) from error


SLICE = 0.25  # seconds: how late a blocked wait may notice that it should end


class Halt:
    """A program's stop event and an own one, waited for together."""

    def __init__(self, stop: threading.Event | None = None) -> None:
        self._stop = stop or threading.Event()
        self._own = threading.Event()

    def set(self) -> None:
        """End the waits of this source; the program's event is left alone."""
        self._own.set()

    def is_set(self) -> bool:
        """Say whether either event is set."""
        return self._own.is_set() or self._stop.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait, at most `seconds`; say whether either event is set."""
        end = time.monotonic() + seconds
        while not self.is_set():
            left = end - time.monotonic()
            if left <= 0:
                return False
            self._own.wait(min(left, SLICE))
        return True
