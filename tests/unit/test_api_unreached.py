"""What a person is told of a way that does not lead to the operator: what failed, and the remedy for just that."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from cdrsync.errors import ApiUnreachable, Unverified
from cdrsync.source import unreached
from cdrsync.source.exchange import Bounds
from cdrsync.source.reach import reach
from tests.support.api import ASK, api, obliging
from tests.support.certificates import own_certificate
from tests.support.peer import http, peer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

AWAY = "https://api.example.com/api/"
WAYS = {
    "nobody listens": ("Connection refused", unreached.CONNECT_HINT),
    "no such name": ("Name or service not known", unreached.NAME_HINT),
    "no TLS there": ("wrong version number", unreached.TLS_HINT),
    "TLS that is spoilt on its way": ("", unreached.TLS_HINT),
    "a certificate of nobody": ("self-signed certificate", Unverified.default_hint),
    "a proxy that wants a password": ("407 Proxy Authentication Required", unreached.LOGIN_HINT),
    "a proxy that lets nobody through": ("403 Forbidden", unreached.PROXY_HINT),
    "an end before the answer": ("", ApiUnreachable.default_hint),
}


@contextlib.contextmanager
def way(what: str, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[str]:
    """An address to which that way leads."""
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    if what == "nobody listens":
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        yield f"https://127.0.0.1:{port}/"
    elif what == "no such name":

        def unknown(*_: Any, **__: Any) -> list[Any]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        yield AWAY
    elif what == "a certificate of nobody":
        with peer(obliging, tls=own_certificate(folder)[1]) as one:
            yield one.url
    elif what == "an end before the answer":
        with peer(lambda _: b"HTTP/1.0 ") as one:
            yield one.url
    elif what == "no TLS there":
        with _plain() as port:
            yield f"https://127.0.0.1:{port}/"
    elif what == "TLS that is spoilt on its way":
        certificate, context = own_certificate(folder)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with _plain(context) as port:
            yield f"https://localhost:{port}/"
    else:
        answer = WAYS[what][0]
        with peer(lambda _: http(b"<html></html>", answer, Connection="close")) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
            yield AWAY


@contextlib.contextmanager
def _plain(tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server that answers whatever comes in plain HTTP, also after a handshake: its port."""

    def serve() -> None:
        with contextlib.suppress(OSError):  # closed at the end
            while True:
                connection, _ = listener.accept()
                with contextlib.suppress(OSError):  # given up by who asked
                    answer(connection)

    def answer(connection: socket.socket) -> None:
        if tls is not None:
            safe = tls.wrap_socket(connection, server_side=True)
            safe.recv(65536)
            connection = socket.socket(fileno=safe.detach())
        with connection:
            if tls is None:
                connection.recv(65536)
            connection.sendall(http(b"", "400 Bad Request"))
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):  # what is left unread would reset the connection, answer and all
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("what", WAYS)
def test_a_way_that_fails_is_told_with_the_remedy_for_just_that(
    what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """By a sync and by doctor in the same words."""
    said, hint = WAYS[what]
    with way(what, monkeypatch, tmp_path) as url:
        source = api(url, bounds=Bounds(connect=5.0, read=5.0, total=5.0))
        with pytest.raises(ApiUnreachable) as asked:
            source.ask([ASK])
        source.close()
        with pytest.raises(ApiUnreachable) as looked:
            reach(url, 5.0)
    assert asked.value.message == looked.value.message
    assert (asked.value.hint, looked.value.hint) == (hint, hint)
    assert said in asked.value.message
    assert "_ssl.c" not in asked.value.message


def test_a_date_until_which_the_operator_wants_to_rest_counts_for_every_account() -> None:
    """By the operator's own clock, as seconds do: the next one does not ask, and says until when."""
    at = {"Date": "Mon, 23 May 2016 09:00:00 GMT", "Retry_After": "Mon, 23 May 2016 09:05:00 GMT"}
    with peer(lambda _: http(b"", "503 Service Unavailable", **at)) as one:
        first, second = (api(one.url, bounds=Bounds(total=2.0)) for _ in range(2))
        for source, said in ((first, "HTTP 503"), (second, r"the operator wants to rest for (29\d|300) s more")):
            with pytest.raises(ApiUnreachable, match=said) as raised:
                source.ask([ASK])
            assert raised.value.retry_after == pytest.approx(300, abs=5)
            source.close()
    assert len(one.seen) == 1
