"""One operator's patience: all accounts of the process that ask one host slow down together.

An answer of 429, or one with `Retry-After`, closes the host for that time, and from then on requests are spaced a
little wider than the host took them, where enough answers came to say how many that is; answers without one let them
come closer again, up to `limit`.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import deque
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdrsync.source.stop import StopEvent

LONGEST = 900.0  # seconds: of a longer Retry-After only so much is believed
SHORTEST = 1.0
SLOWER = 0.9  # of what the host has taken
FASTER = 1.04  # each second in which an answer does not complain
MEASURED = 10.0  # seconds in which answers are counted
FEWEST = 10  # answers within them from which a rate is concluded: fewer say nothing of what the host can take
_FIRST = threading.Lock()  # two threads that come first must not make two brakes
FORGOTTEN = 600.0  # seconds without a complaint after which there is no brake but `limit`


class Brake:
    """The requests to one host. Safe from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._limit: float | None = None
        self._rate: float | None = None  # requests a second
        self._next = 0.0
        self._closed_until = 0.0
        self._complained_at = 0.0
        self._eased_at = 0.0
        self._taken: deque[float] = deque()

    def limit(self, rate: float | None) -> None:
        """Never send more requests a second; None for any number."""
        with self._lock:
            self._limit = rate
            self._rate = rate if self._rate is None or rate is None else min(rate, self._rate)

    def opens_at(self) -> float:
        """When the next request may be sent, in seconds of the clock; 0 where it may be now."""
        with self._lock:
            at = max(self._closed_until, self._next)
            return at if at > self._clock() else 0.0

    def open(self) -> None:
        """Ask although the host is closed: a person wants to know."""
        with self._lock:
            self._closed_until = 0.0

    def wait(self, deadline: float, stop: StopEvent) -> bool:
        """Wait for a turn; False where it does not come before `deadline`, or the program stops."""
        while True:
            with self._lock:
                now = self._clock()
                if now >= self._closed_until:
                    at = max(now, self._next)
                    if at <= deadline:
                        self._next = at + 1 / self._rate if self._rate else at
                else:
                    at = self._closed_until
                closed = now < self._closed_until
            if at > deadline or stop.wait(max(0.0, at - now)):
                return False
            if not closed:
                return True

    def answered(self, *, refused: bool, retry_after: float | None = None) -> None:
        """Note an answer: whether the host refused it for the number of requests, and how long it wants to rest."""
        with self._lock:
            now = self._clock()
            while self._taken and self._taken[0] < now - MEASURED:
                self._taken.popleft()
            if not refused:
                self._taken.append(now)
                self._ease(now)
                return
            if now >= self._closed_until and len(self._taken) >= FEWEST:  # others on their way say nothing new
                taken = len(self._taken) / max(1.0, now - self._taken[0])
                self._rate = SLOWER * min(taken, self._rate or taken)
            self._closed_until = max(self._closed_until, now + min(LONGEST, max(SHORTEST, retry_after or SHORTEST)))
            self._complained_at, self._eased_at = now, self._closed_until

    def _ease(self, now: float) -> None:
        if self._rate is None or self._rate == self._limit:
            return
        if now - self._complained_at > FORGOTTEN:
            self._rate = self._limit
            return
        faster = self._rate * FASTER ** min(max(0.0, now - self._eased_at), MEASURED)
        self._rate = min(faster, self._limit or faster)
        self._eased_at = max(now, self._eased_at)


def brake_of(url: str) -> Brake:
    """The brake of a URL's host, shared by the whole process."""
    parts = urlsplit(url)
    with _FIRST:
        return _brake(parts.hostname or "", parts.port or {"http": 80}.get(parts.scheme, 443))


@functools.cache
def _brake(host: str, port: int) -> Brake:
    del host, port  # what it is found by
    return Brake()
