"""The doorbell: whoever knows the token may make the next poll happen now. Nothing that is sent is ever stored.

The operator's webhook rings twice a call, perhaps many times a second. Each ring is followed by a poll that begins
after it, but polls are at least GAP_SECONDS apart, so that a busy hour does not become a storm on the operator's API.
"""

from __future__ import annotations

import hmac
import threading
import time
from base64 import b64decode
from binascii import Error as NotBase64
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

GAP_SECONDS = 1.0
BURST = 20  # rings, or wrong tokens, that are taken at once …
PER_SECOND = 5.0  # … and as many a second after that


class Outcome(StrEnum):
    """What became of a ring; the label of the metric."""

    ACCEPTED = "accepted"
    REFUSED = "refused"  # no token, or a wrong one
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


class Doorbell:
    """Checks the token, keeps the gap, rings. Safe from any thread.

    `ring` makes every account poll soon and returns at once; `counted` gets each outcome's name, for the metric.
    """

    def __init__(
        self,
        token: str,
        ring: Callable[[], object],
        *,
        counted: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not token:
            raise ValueError("a doorbell without a token would be open to everybody")
        self._token = token.encode()
        self._ring = ring
        self._counted = counted
        self._clock = clock
        # Two buckets: whoever guesses tokens can't keep the operator's rings out.
        self._rings, self._guesses = Bucket(clock), Bucket(clock)
        self._lock = threading.Lock()
        self._rang_at: float | None = None
        self._later: threading.Timer | None = None
        self._closed = False

    def press(self, authorization: str) -> Outcome:
        """Handle one request, by its `Authorization` header."""
        if hmac.compare_digest(_token_in(authorization), self._token):
            outcome = Outcome.ACCEPTED if self._rings.take() else Outcome.LIMITED
            # A ring too many is answered as such, yet nothing is lost: a poll after it is certain all the same.
            self._ring_soon()
        else:
            outcome = Outcome.REFUSED if self._guesses.take() else Outcome.LIMITED
        self._counted(outcome)
        return outcome

    def close(self) -> None:
        """No ring after this."""
        with self._lock:
            self._closed = True
            if self._later is not None:
                self._later.cancel()

    def _ring_soon(self) -> None:
        with self._lock:
            if self._closed or self._later is not None:
                return
            wait = 0.0 if self._rang_at is None else self._rang_at + GAP_SECONDS - self._clock()
            if wait > 0:
                self._later = threading.Timer(wait, self._ring_late)
                self._later.daemon = True
                self._later.start()
                return
            self._rang_at = self._clock()
        self._ring()

    def _ring_late(self) -> None:
        with self._lock:
            self._later = None
            if self._closed:
                return
            self._rang_at = self._clock()
        self._ring()


def _token_in(authorization: str) -> bytes:
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
