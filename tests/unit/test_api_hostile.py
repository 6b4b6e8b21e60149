"""The API's way through a hostile or broken network: every wait ends, nothing is unpacked without bound."""

from __future__ import annotations

import gzip
import socket
import threading
import time
import tracemalloc
import zlib
from typing import TYPE_CHECKING

import pytest

from cdrsync.errors import ApiUnreachable, BadAnswer
from cdrsync.source.exchange import Bounds
from cdrsync.source.retry import RetryPolicy
from tests.support.api import ASK, AT_ONCE, answering, api, obliging
from tests.support.certificates import own_certificate
from tests.support.peer import DEADLINE, Reset, Seen, http, peer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cdrsync.source.api import NoveroApi

SHORT = Bounds(connect=1.0, read=1.0, total=1.0)
MEBIBYTE = 1024 * 1024


def _resets(_: Seen) -> bytes:
    raise Reset


def _cut(seen: Seen) -> bytes:
    """Fewer bytes than announced."""
    return http(answering(seen))[:-100].replace(b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nConnection: close\r\n")


def _cut_unannounced(seen: Seen) -> bytes:
    """A body that ends with the connection, before its own end."""
    return b"HTTP/1.0 200 OK\r\n\r\n" + answering(seen)[:-100]


@pytest.mark.parametrize(
    "step",
    [
        _resets,
        _cut,
        _cut_unannounced,
        lambda _: b"HTTP/1.0 ",
        lambda _: b"\x16\x03\x01\x02\x00\x01\x00\x01",
        lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: many\r\nConnection: close\r\n\r\n",
        lambda _: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nZZ\r\n",
        lambda _: b"HTTP/1.1 200 OK\r\nConnection: close\r\n" + b"X: y\r\n" * 100_000,
        lambda seen: http(answering(seen), Content_Encoding="br"),
        lambda seen: http(answering(seen), Content_Encoding="gzip"),
        lambda seen: http(gzip.compress(answering(seen))[:-8], Content_Encoding="gzip"),
        lambda seen: http(gzip.compress(answering(seen)) + b"more", Content_Encoding="gzip"),
        lambda seen: http(gzip.compress(answering(seen)) + gzip.compress(b"") * 10_000, Content_Encoding="gzip"),
        lambda seen: http(zlib.compress(answering(seen)), Content_Encoding="deflate"),
        lambda seen: http(answering(seen, session_id="Q" * 5000)),
    ],
)
def test_a_broken_reply(step: Callable[[Seen], bytes]) -> None:
    """A reply that breaks off or makes no sense is a failure of the way; the next attempt is a new one."""
    with peer(step, obliging) as one:
        source = api(one.url)
        with pytest.raises(ApiUnreachable):
            source.ask([ASK])
        assert len(source.ask([ASK]).answers) == 1
        source.close()


def test_nobody_listens() -> None:
    """A port that nobody listens at is unreachable."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    source = api(f"http://127.0.0.1:{port}/")
    with pytest.raises(ApiUnreachable, match=r"the connection to 127\.0\.0\.1 failed"):
        source.ask([ASK])
    source.close()


def test_a_kept_connection_that_the_server_closed() -> None:
    """A server that ends its kept connections costs no failure."""
    closing = lambda seen: http(answering(seen), Connection="close")  # noqa: E731
    with peer(closing) as one:
        source = api(one.url)
        for _ in range(5):
            source.ask([ASK])
        source.close()

    assert [seen.connection for seen in one.seen] == [1, 2, 3, 4, 5]


def _bomb() -> bytes:
    """200 MB of white space in 200 kB."""
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    begin, blanks = (
        squeeze.compress(part) + squeeze.flush(zlib.Z_FULL_FLUSH)  # refers to nothing before it, so it can be repeated
        for part in (b"<NoveroResponse>", b" " * MEBIBYTE)
    )
    return http(begin + blanks * 200, Content_Encoding="gzip")


def _endless(_: Seen) -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<NoveroResponse>"
    while True:
        yield b" " * 65536


@pytest.mark.parametrize("kind", ["bomb", "endless"])
def test_no_answer_is_unpacked_without_bound(kind: str) -> None:
    """A bomb and an endless answer are refused at the bound, and memory stays near it."""
    bomb = _bomb()
    with peer(_endless if kind == "endless" else lambda _: bomb) as one:
        source = api(one.url, bounds=Bounds(max_bytes=8 * MEBIBYTE))
        tracemalloc.start()
        with pytest.raises(BadAnswer, match=f"larger than {8 * MEBIBYTE} bytes"):
            source.ask([ASK])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        source.close()

    assert peak < 24 * MEBIBYTE


def _drip(*begin: bytes) -> Callable[[Seen], Iterator[bytes]]:
    def step(_: Seen) -> Iterator[bytes]:
        yield from begin
        while True:
            time.sleep(0.05)
            yield b"x"

    return step


@pytest.mark.parametrize(
    "begin",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<NoveroResponse>",
        b"HTTP/1.1 200 OK\r\nX-Drip: ",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;",
    ],
)
def test_a_drip_ends_at_the_deadline(begin: bytes) -> None:
    """A byte now and then keeps nobody for ever, whether in the headers, the framing or the body."""
    with peer(_drip(begin)) as one:
        source = api(one.url, bounds=SHORT)
        with pytest.raises(ApiUnreachable, match="time"):
            source.ask([ASK])
        source.close()
        assert one.gone.wait(DEADLINE)


def test_silence_ends_at_the_read_timeout() -> None:
    """A server that takes the request and says nothing is given up."""
    over = threading.Event()
    with peer(_silent(over)) as one:
        source = api(one.url, bounds=SHORT)
        with pytest.raises(ApiUnreachable, match=r"no answer from 127\.0\.0\.1 in time"):
            source.ask([ASK])
        source.close()
        over.set()


class _Asking:
    """A thread that asks, and what came of it."""

    def __init__(self, source: NoveroApi) -> None:
        self.error: ApiUnreachable | None = None
        self._source = source
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._source.ask([ASK])
        except ApiUnreachable as error:
            self.error = error

    def ended(self) -> bool:
        self._thread.join(DEADLINE)
        return not self._thread.is_alive()


def _silent(over: threading.Event) -> Callable[[Seen], Iterator[bytes]]:
    def step(_: Seen) -> Iterator[bytes]:
        over.wait(2 * DEADLINE)
        yield b""

    return step


@pytest.mark.parametrize("by", ["stop", "close"])
def test_a_stop_ends_a_blocked_read(by: str) -> None:
    """A stop or a close ends a read that would last two minutes."""
    over, stop = threading.Event(), threading.Event()
    with peer(_silent(over)) as one:
        source = api(one.url, stop=stop, retry=AT_ONCE)
        asking = _Asking(source)
        assert one.arrived.acquire(timeout=DEADLINE)
        if by == "stop":
            stop.set()
        else:
            source.close()
        assert asking.ended()
        assert "cdrsync is stopping" in str(asking.error)
        source.close()
        over.set()

    assert len(one.seen) == 1


def test_a_stop_ends_the_wait_before_another_attempt() -> None:
    """A stop ends the wait between two attempts."""
    stop = threading.Event()
    with peer(lambda _: http(b"", "503 x", Retry_After="3000")) as one:
        source = api(one.url, stop=stop, retry=RetryPolicy(total=9000, retry_after_max=9000))
        asking = _Asking(source)
        assert one.arrived.acquire(timeout=DEADLINE)
        stop.set()
        assert asking.ended()
        source.close()

    assert asking.error is not None
    assert len(one.seen) == 1


def test_a_stop_ends_the_wait_for_anothers_login() -> None:
    """A thread that waits while another logs in ends with it."""
    over, stop = threading.Event(), threading.Event()
    with peer(_silent(over)) as one:
        source = api(one.url, stop=stop)
        both = [_Asking(source), _Asking(source)]
        assert one.arrived.acquire(timeout=DEADLINE)
        stop.set()
        assert all(asking.ended() for asking in both)
        source.close()
        over.set()

    assert len(one.seen) == 1


def test_a_stop_ends_connecting() -> None:
    """A stop ends the wait for a connection that nobody takes."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = []
        for _ in range(4):  # more than the queue takes: the next one waits for an answer to its SYN
            one = socket.socket()
            one.settimeout(0.0)
            one.connect_ex(("127.0.0.1", port))
            waiting.append(one)
        source = api(f"http://127.0.0.1:{port}/", stop=stop, bounds=Bounds(connect=10 * DEADLINE))
        asking = _Asking(source)
        stop.set()
        assert asking.ended()
        source.close()
        for one in waiting:
            one.close()

    assert asking.error is not None


def test_a_closed_api_asks_no_more() -> None:
    """After close nothing is sent, and a second close does no harm."""
    with peer(obliging) as one:
        source = api(one.url)
        source.ask([ASK])
        source.close()
        source.close()
        with pytest.raises(ApiUnreachable):
            source.ask([ASK])

    assert len(one.seen) == 1


def test_tls_is_verified(tmp_path: Path) -> None:
    """A server whose certificate nobody vouches for gets no credentials."""
    _, context = own_certificate(tmp_path)
    received: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        try:
            with context.wrap_socket(connection, server_side=True) as wrapped:
                received.append(wrapped.recv(65536))
        except OSError:
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        source = api(f"https://localhost:{listener.getsockname()[1]}/")
        with pytest.raises(ApiUnreachable, match="certificate"):
            source.ask([ASK])
        source.close()
        thread.join(DEADLINE)

    assert b"".join(received) == b""


def test_the_environments_proxy_is_used_for_https(monkeypatch: pytest.MonkeyPatch) -> None:
    """Https goes through HTTPS_PROXY, with CONNECT; loopback over plain http never does."""
    with peer(lambda _: http(b"", "403 Forbidden", Connection="close")) as proxy, peer(obliging) as one:
        for name in ("https_proxy", "http_proxy", "HTTP_PROXY", "all_proxy", "no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        source = api("https://api.example.com/api/")
        with pytest.raises(ApiUnreachable):
            source.ask([ASK])
        source.close()
        plain = api(one.url)
        plain.ask([ASK])
        plain.close()

    assert [seen.head.splitlines()[0] for seen in proxy.seen] == ["CONNECT api.example.com:443 HTTP/1.1"]
    assert len(one.seen) == 1
