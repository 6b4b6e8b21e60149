"""Who is logged in, and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cdrsync.sandbox.calls import dice

if TYPE_CHECKING:
    from cdrsync.sandbox.settings import Settings


@dataclass(slots=True)
class _Session:
    username: str
    expires: float  # Unix seconds


class Sessions:
    """Session ids and their ends."""

    def __init__(self, seed: object) -> None:
        self._rng = dice("sessions", seed)
        self._open: dict[str, _Session] = {}

    def begin(self, username: str, now: float, settings: Settings) -> str:
        """A new session id: 32 hex digits."""
        for session_id in [key for key, session in self._open.items() if session.expires <= now]:
            del self._open[session_id]
        session_id = f"{self._rng.getrandbits(128):032x}"
        self._open[session_id] = _Session(username, now + settings.session_life)
        return session_id

    def username(self, session_id: str, now: float, settings: Settings) -> str | None:
        """Whose session it is; None where it is unknown or over."""
        session = self._open.get(session_id)
        if session is None or session.expires <= now:
            return None
        if settings.session_slides:
            session.expires = now + settings.session_life
        return session.username
