"""The doorbell: whoever knows the token may make the next poll happen now. Nothing that is sent is ever stored.

The operator's webhook rings twice a call, perhaps many times a second. Each ring is followed by a poll that begins
after it, but rings are passed on GAP_SECONDS apart, so that a busy hour does not become a storm on the operator's API.
"""

from __future__ import annotations

import hmac
import threading
import time
from typing import TYPE_CHECKING

from cdrsync.web.access import Bucket, Outcome, secret_in

if TYPE_CHECKING:
    from collections.abc import Callable

GAP_SECONDS = 1.0


class Doorbell:
    """Checks the token, keeps the gap, rings. Safe from any thread.

    `ring` makes an account, or with None every account, poll soon and returns at once; `known` says whether there is an
    account of that name. `counted` gets each outcome's name, for the metric.
    """

    def __init__(
        self,
        token: str,
        ring: Callable[[str | None], object],
        *,
        known: Callable[[str], bool] = lambda _: True,
        counted: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not token:
            raise ValueError("a doorbell without a token would be open to everybody")
        self._token = token.encode()
        self._ring = ring
        self._known = known
        self._counted = counted
        self._clock = clock
        # Two buckets: whoever guesses tokens can't keep the operator's rings out.
        self._rings, self._guesses = Bucket(clock), Bucket(clock)
        self._lock = threading.Lock()
        self._waiting: set[str | None] = set()  # whom the next ring is for
        self._rang_at: float | None = None
        self._later: threading.Timer | None = None
        self._closed = False

    def press(self, authorization: str, account: str | None = None) -> Outcome:
        """Handle one request, by its `Authorization` header. Without an `account` it is for all of them."""
        if not hmac.compare_digest(secret_in(authorization), self._token):
            outcome = Outcome.REFUSED if self._guesses.take() else Outcome.LIMITED
        elif account is not None and not self._known(account):
            outcome = Outcome.UNKNOWN
        else:
            outcome = Outcome.ACCEPTED if self._rings.take() else Outcome.LIMITED
            # A ring too many is answered as such, yet nothing is lost: a poll after it is certain all the same.
            self._ring_soon(account)
        self._counted(outcome)
        return outcome

    def close(self) -> None:
        """No ring after this."""
        with self._lock:
            self._closed = True
            if self._later is not None:
                self._later.cancel()

    def _ring_soon(self, account: str | None) -> None:
        with self._lock:
            self._waiting.add(account)
            if self._closed or self._later is not None:
                return
            wait = 0.0 if self._rang_at is None else self._rang_at + GAP_SECONDS - self._clock()
            if wait > 0:
                self._later = threading.Timer(wait, self._ring_now)
                self._later.daemon = True
                self._later.start()
                return
        self._ring_now()

    def _ring_now(self) -> None:
        with self._lock:
            self._later = None
            if self._closed:
                return
            self._rang_at = self._clock()
            waiting, self._waiting = self._waiting, set()
        for account in (None,) if None in waiting else sorted(filter(None, waiting)):
            self._ring(account)
