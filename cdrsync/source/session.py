"""The session: one login for half an hour, and how its refusal is recognised.

The operator's page says that a SessionId is good for 30 minutes, not how a refused one looks, nor a refused login.
A session is given up at a Code 401 or 403 and at words of a session or of logging in: wrong, that costs one login. A
login counts as refused only where nothing else can be meant, for nobody tries again until a person has acted: a Code
401 or 403 or words of wrong credentials, and none of an outage. Anything else passes by itself.
"""

from __future__ import annotations

import re
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cdrsync.source.stop import SLICE, stopping

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
_WRONG = re.compile(
    r"password|credential|vkey|(?:authenticat|authori[sz]at)ion (?:failed|required)|unauthori[sz]ed"
    r"|not (?:authori[sz]ed|allowed)|denied|(?:wrong|invalid|incorrect|unknown|bad|no such) (?:user|login|account|key)"
    r"|(?:user|account)\S* (?:unknown|not found)",
    re.IGNORECASE,
)
_PASSING_CODE = re.compile(r"429|5[0-9][0-9]")
_PASSING = re.compile(
    r"\blater\b|temporar|too many|maintenance|unavailable|overload|\bbusy\b|time[d -]*out"
    r"|\b(?:internal|database|server) error",
    re.IGNORECASE,
)
_BESIDES = frozenset({"GetTotals", "GetCDR"})
_AGAIN = re.compile(r"\bagain\b", re.IGNORECASE)
_OVER = re.compile(r"session.{0,60}(?:time[d -]*out|expired)|(?:timed[ -]*out|expired) session", re.IGNORECASE)
"""A session that is over, whatever else is said: "Session timed out" is no outage."""


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
    def login(self) -> Iterator[None]:
        """Hold the right to log in. Raises ApiUnreachable where the program is stopping."""
        while not self._lock.acquire(timeout=SLICE):
            if self._stop.is_set():
                raise stopping()
        try:
            yield
        finally:
            self._lock.release()


def refuses_login(response: Response) -> bool:
    """Say whether the answer to SessionLogin clearly refuses these credentials or this address."""
    wrong = response.code in _AUTH_CODES or _WRONG.search(response.message)
    doubt = _PASSING.search(response.message) or _AGAIN.search(response.message)
    return not response.ok and bool(wrong) and not doubt


def refuses_session(response: Response) -> bool:
    """Say whether the answer to a sibling of no login is a refusal of the session it came with."""
    if response.ok or (_PASSING.search(response.message) and not _OVER.search(response.message)):
        return False
    return response.code in _AUTH_CODES or bool(_AUTH_WORDS.search(response.message))


def refuses_after_login(responses: list[Response]) -> bool:
    """Say whether the answers that came with a successful login refuse all the same, for want of authentication.

    Totals and a single record may be refused to who may read the calls.
    """
    decisive = [one for one in responses if one.name not in _BESIDES]
    return any(refuses_session(one) and not passes(one) for one in decisive) and not any(one.ok for one in responses)


def passes(response: Response) -> bool:
    """Say whether a refusal is as passing as HTTP 500: a Code of 429 or 5xx, or words that say so."""
    return not response.ok and bool(
        _PASSING_CODE.fullmatch(response.code)
        or _PASSING.search(response.message)
        or re.search(r"try again", response.message, re.IGNORECASE)
    )
