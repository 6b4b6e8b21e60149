"""Who is answered: by which name the server may be asked, and who knows a password or a token."""

from __future__ import annotations

import hmac
import ipaddress
import threading
import time
from base64 import b64decode
from binascii import Error as NotBase64
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

BURST = 20  # requests that are taken at once …
PER_SECOND = 5.0  # … and as many a second after that


class Outcome(StrEnum):
    """What became of a request with a secret; the doorbell's are the label of a metric."""

    ACCEPTED = "accepted"
    REFUSED = "refused"  # no secret, or a wrong one
    UNKNOWN = "unknown"  # no such account
    LIMITED = "limited"  # too many


class Bucket:
    """A token bucket: BURST at once, PER_SECOND after that."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._left = float(BURST)
        self._at = clock()

    def take(self) -> bool:
        """One more? False where there were too many."""
        with self._lock:
            now = self._clock()
            self._left = min(BURST, self._left + (now - self._at) * PER_SECOND)
            self._at = now
            if self._left < 1:
                return False
            self._left -= 1
            return True


class Access:
    """The names that the server answers to, and its password.

    A web page of a stranger can make a browser ask this server by the stranger's own name (DNS rebinding), and read the
    answer: so a name that nobody configured is not answered. An address can't be rebound; it is answered where the
    server listens beyond this machine, as probes and Prometheus ask.
    """

    def __init__(
        self,
        hosts: Collection[str] = (),
        password: str | None = None,
        *,
        beyond_loopback: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.password = password
        self._hosts = frozenset(hosts)
        self._beyond_loopback = beyond_loopback
        self._guesses = Bucket(clock)

    def answers_to(self, host: str | None) -> bool:
        """Whether a request with this Host header is answered. A browser always sends one."""
        if host is None:
            return True
        name = self.name_in(host)
        if name == "localhost" or name in self._hosts:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or self._beyond_loopback

    @staticmethod
    def name_in(host: str) -> str:
        """The name in a Host header: without the port, brackets and a final dot."""
        name = host.strip().lower()
        if name.startswith("["):
            return name[1:].partition("]")[0] if "]" in name else name
        return name.partition(":")[0].rstrip(".")

    def check(self, authorization: str) -> Outcome:
        """Whether an `Authorization` header holds the password."""
        if hmac.compare_digest(secret_in(authorization), (self.password or "").encode()):
            return Outcome.ACCEPTED
        return Outcome.REFUSED if self._guesses.take() else Outcome.LIMITED


def secret_in(authorization: str) -> bytes:
    """The token of `Bearer TOKEN`, or the password of `Basic …`: many senders of webhooks know only the latter."""
    scheme, _, credentials = authorization.partition(" ")
    credentials = credentials.strip()
    if scheme.lower() == "bearer":
        return credentials.encode("latin-1", "replace")
    if scheme.lower() == "basic":
        try:
            return b64decode(credentials, validate=True).partition(b":")[2]
        except (NotBase64, ValueError):
            return b""
    return b""
