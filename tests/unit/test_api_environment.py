"""What the environment says of proxies and certificates: used, or refused by name; and addresses that do not answer."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from cdrsync.errors import ApiUnreachable, ConfigError, Unverified
from cdrsync.model import Batch
from cdrsync.source.exchange import Bounds
from cdrsync.source.reach import reach
from tests.support.api import ASK, api, obliging
from tests.support.canary import PASSWORD
from tests.support.certificates import own_certificate
from tests.support.peer import Seen, http, peer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path

AWAY = "https://api.example.com/api/"


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "http_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize(
    "value",
    [
        "socks://127.0.0.1:1080/",
        "socks5h://127.0.0.1:1080/",
        "http://127.0.0.1:port",
        "http://127.0.0.1:99999",
        "http://",
        "ftp://127.0.0.1:1",
        f"http://user:{PASSWORD}#4711@127.0.0.1:9",
        "http://[::1:3128",
        "http://a b:1",
    ],
)
def test_a_proxy_that_is_none(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """It is configuration: the variable is named, its value never shown."""
    monkeypatch.setenv(name, value)
    for asking in (lambda: api(AWAY), lambda: reach(AWAY, 1.0)):
        with pytest.raises(ConfigError) as raised:
            asking()
        assert raised.value.problems == [f"{name}: not the address of an HTTP proxy"]
        assert PASSWORD not in str(raised.value)


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
@pytest.mark.parametrize("kind", ["missing", "folder or file", "nonsense"])
def test_certificates_that_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, kind: str) -> None:
    """A named store that can't be read is configuration, not a failed connection."""
    path = tmp_path / "certificates"
    if kind == "nonsense" or (kind == "folder or file" and name == "SSL_CERT_DIR"):
        path.write_text("no certificate")
    elif kind == "folder or file":
        path.mkdir()
    monkeypatch.setenv(name, str(path))
    for asking in (lambda: api(AWAY), lambda: reach(AWAY, 1.0)):
        with pytest.raises(ConfigError, match=f"{name}: {path}: "):
            asking()


def test_a_broken_environment_is_no_matter_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain http to loopback needs neither proxy nor certificates."""
    monkeypatch.setenv("ALL_PROXY", "socks://127.0.0.1:1/")
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent")
    with peer(obliging) as one:
        source = api(one.url)
        assert isinstance(source.ask([ASK]).answers[0], Batch)
        source.close()


def test_a_proxy_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that nobody runs, or that refuses, is told with its address alone; doctor goes through it as well."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:{PASSWORD.replace('/', '%2F')}@127.0.0.1:{port}")
    source = api(AWAY)
    with pytest.raises(ApiUnreachable, match=rf"api\.example\.com through the proxy 127\.0\.0\.1:{port} failed"):
        source.ask([ASK])
    source.close()
    with pytest.raises(ApiUnreachable, match=f"through the proxy 127.0.0.1:{port} failed: Connection refused"):
        reach(AWAY, 2.0)
    with peer(lambda _: http(b"", f"407 {PASSWORD}", Connection="close")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:{PASSWORD}@127.0.0.1:{proxy.port}")
        source = api(AWAY)
        with pytest.raises(ApiUnreachable) as raised:
            source.ask([ASK])
        source.close()
    assert PASSWORD not in str(raised.value)


def _either(seen: Seen) -> bytes:
    return obliging(seen) if seen.body else http()


@pytest.fixture
def authority(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate of a company's own for localhost, and a server's context that has it."""
    return own_certificate(tmp_path)


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_what_the_machine_trusts_is_trusted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, authority: tuple[Path, ssl.SSLContext], name: str
) -> None:
    """A company's authority in OpenSSL's store counts, for syncing and for doctor; without it both refuse."""
    certificate, context = authority
    with peer(_either, tls=context) as one:
        with pytest.raises(Unverified, match="certificate"):
            reach(one.url, 5.0)
        source = api(one.url)
        with pytest.raises(Unverified, match="certificate"):
            source.ask([ASK])
        source.close()
        if name == "SSL_CERT_DIR":
            folder = tmp_path / "store"
            folder.mkdir()
            shutil.copy(certificate, folder / certificate.name)
            subprocess.run(["openssl", "rehash", str(folder)], check=True, capture_output=True)
            monkeypatch.setenv(name, str(folder))
        else:
            monkeypatch.setenv(name, str(certificate))
        source = api(one.url)
        assert isinstance(source.ask([ASK]).answers[0], Batch)
        source.close()
        reached = reach(one.url, 5.0)

    assert reached.proxy is None
    assert reached.tls == "TLSv1.3"
    assert reached.certificate_ends is not None


@pytest.mark.parametrize("swallows", ["127.0.0.2", "::1"])
def test_an_address_that_swallows_everything_is_no_reason_to_fail(
    swallows: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a name has a dead address before one that answers, the other is tried soon: as IPv6 without a way out."""
    with peer(_either) as one, _dead(swallows, one.port) as dead:
        real = socket.getaddrinfo

        def both(host: Any, port: Any, *arguments: Any, **named: Any) -> list[Any]:
            if host not in {"localhost", b"localhost"}:
                return real(host, port, *arguments, **named)
            alive = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", one.port))
            return [(dead.family, socket.SOCK_STREAM, 6, "", dead.getsockname()), alive]

        monkeypatch.setattr(socket, "getaddrinfo", both)
        with pytest.raises(TimeoutError), socket.socket(dead.family) as proof:
            _connect(proof, dead)
        url = f"http://localhost:{one.port}/"
        source = api(url, bounds=Bounds(connect=5.0, total=5.0))
        assert isinstance(source.ask([ASK]).answers[0], Batch)
        source.close()
        reach(url, 5.0)

    assert len(one.seen) == 2


def _connect(proof: socket.socket, dead: socket.socket) -> None:
    proof.settimeout(0.3)
    proof.connect(dead.getsockname())


@contextlib.contextmanager
def _dead(address: str, port: int) -> Iterator[socket.socket]:
    """An address that takes SYNs and answers none: its queue is full, and nobody takes from it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.ExitStack() as opened:
        try:
            dead = opened.enter_context(socket.socket(family))
            dead.bind((address, port))
        except OSError as error:
            pytest.skip(f"{address} is not to be had on this machine: {error.strerror}")
        dead.listen(0)
        for _ in range(4):  # more than its queue takes: the next one waits for an answer to its SYN
            other = opened.enter_context(socket.socket(family))
            other.settimeout(0.0)
            other.connect_ex((address, port))
        yield dead


def test_any_answer_shows_that_the_way_is_open() -> None:
    """Doctor asks for nothing and sends no credentials."""
    seen: list[Seen] = []

    def step(request: Seen) -> bytes:
        seen.append(request)
        return b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n"

    with peer(step) as one:
        assert reach(one.url, 5.0) == (None, None, None)
    assert seen[0].head.startswith("HEAD /api/ HTTP/1.1")
    assert seen[0].body == b""
