"""The session: one login for half an hour, and how its refusal is recognised.

The operator's page says that a SessionId is good for 30 minutes, not how a refused one looks. Read as a failure of
authentication are: a login with any Code but 200, a Code 401 or 403, and a refusal whose message speaks of a session
or of logging in. A server that says "later" (429, 5xx) has judged nobody's password.
"""

from __future__ import annotations

import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cdrsync.source.stop import SLICE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cdrsync.source.response import Response
    from cdrsync.source.stop import StopEvent

LIFE = 30 * 60.0  # seconds, as the operator's page says; whether use prolongs it, it doesn't say
MARGIN = 120.0  # seconds before its end at which a session is no longer used: a document may take a while

_AUTH_CODES = frozenset({"401", "403"})
_AUTH_WORDS = re.compile(
    r"session|authent|authoris|authoriz|log(?:ged)?[\s-]*(?:in|out)\b|password|credential|vkey", re.IGNORECASE
)
_LATER = re.compile(r"429|5[0-9][0-9]")


class SessionRefused(Exception):
    """The operator no longer takes the SessionId."""


@dataclass(frozen=True, slots=True)
class Session:
    """A SessionId, and when it was asked for (`time.monotonic`: a step of the host's clock changes nothing)."""

    id: str
    born: float

    def __repr__(self) -> str:
        return "Session(…)"


class Sessions:
    """The one session of an account, shared by the threads that read ahead; only one of them logs in at a time."""

    def __init__(self, stop: StopEvent, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._stop = stop
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._kept: Session | None = None

    def current(self) -> Session | None:
        """Give the session to use, None where a login is due."""
        kept = self._kept
        return kept if kept and self._monotonic() - kept.born < LIFE - MARGIN else None

    def keep(self, session_id: str, asked_at: float) -> None:
        """Use this one from now on."""
        self._kept = Session(session_id, asked_at)

    def forget(self, refused: Session) -> None:
        """Use `refused` no more; a newer one, from another thread's login, stays."""
        if self._kept is refused:
            self._kept = None

    @contextmanager
    def login(self) -> Iterator[bool]:
        """Hold the right to log in; False where the program is stopping."""
        while not (held := self._lock.acquire(timeout=SLICE)) and not self._stop.is_set():
            pass
        try:
            yield held
        finally:
            if held:
                self._lock.release()


def refuses_login(response: Response) -> bool:
    """Say whether the answer to SessionLogin is a refusal of these credentials, rather than "later"."""
    return not response.ok and not (_LATER.fullmatch(response.code) and not _AUTH_WORDS.search(response.message))


def refuses_session(response: Response) -> bool:
    """Say whether the answer to a sibling of no login is a refusal of the session it came with."""
    return not response.ok and (response.code in _AUTH_CODES or bool(_AUTH_WORDS.search(response.message)))


def refuses_after_login(responses: list[Response]) -> bool:
    """Say whether the answers that came with a successful login refuse all the same, for want of authentication."""
    return any(refuses_session(one) and not _LATER.fullmatch(one.code) for one in responses) and not any(
        one.ok for one in responses
    )
