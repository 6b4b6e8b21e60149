"""The way to the operator that fails: https, and a proxy in front that dies, refuses or is silent, and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
import threading
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.processes import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

T = TypeVar("T")

YEARS = timedelta(days=3650)
PIECE = 65536


class State(StrEnum):
    """What the proxy does with whoever asks."""

    OPEN = "open"
    DEAD = "dead"  # nobody listens, and what was open is reset
    REFUSING = "refusing"  # 502
    SILENT = "silent"  # takes the question and never answers


class Road:
    """Two servers on loopback: TLS before a plain operator, and a proxy that leads there."""

    def __init__(self, operator: str, folder: Path) -> None:
        host, port = operator.removeprefix("http://").split("/", 1)[0].split(":")
        self._operator = host, int(port)
        self.certificate, self._context = _certified(folder)
        self._state = State.OPEN
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._operating = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._context))
        self.port = self._operating.sockets[0].getsockname()[1]
        self._proxy = self._do(asyncio.start_server(self._lead, "127.0.0.1", 0))
        self.proxy_port = self._proxy.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        """The API's address."""
        return f"https://127.0.0.1:{self.port}/api/"

    def environment(self) -> dict[str, str]:
        """What a process needs to go this way."""
        return {
            "HTTPS_PROXY": f"http://127.0.0.1:{self.proxy_port}",
            "NO_PROXY": "",
            "no_proxy": "",
            "SSL_CERT_FILE": str(self.certificate),
        }

    def be(self, state: State) -> None:
        """Change what the proxy does; connections of the state before end."""
        self._do(self._become(state))

    def close(self) -> None:
        """End both."""
        self.be(State.DEAD)
        self._operating.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE)

    async def _become(self, state: State) -> None:
        if self._state is State.DEAD and state is not State.DEAD:
            self._proxy = await asyncio.start_server(self._lead, "127.0.0.1", self.proxy_port)
        elif state is State.DEAD:
            self._proxy.close()
        self._state = state
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._joined(reader, writer, *self._operator)

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client of the proxy."""
        self._open.add(writer)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if self._state is State.SILENT:
                await reader.read()
            elif self._state is State.REFUSING:
                writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
            else:
                host, port = head.split(b" ")[1].decode().rsplit(":", 1)
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await self._joined(reader, writer, host, int(port))
        except (OSError, asyncio.IncompleteReadError):  # the client left, or `be` ended it
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int) -> None:
        """Carry bytes both ways until either end closes."""
        there, back = await asyncio.open_connection(host, port)
        try:
            await asyncio.wait(
                [asyncio.ensure_future(_carry(reader, back)), asyncio.ensure_future(_carry(there, writer))],
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            back.close()
            writer.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):  # an end that is gone ends the way
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()


def _certified(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for loopback that outlives every step of a clock, and a server's context that has it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "operator")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - YEARS)
        .not_valid_after(now + YEARS)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    shown, secret = folder / "operator.pem", folder / "operator.key"
    shown.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(shown, secret)
    return shown, context
