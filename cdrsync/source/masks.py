"""What must never be repeated from an answer: the password, the VKey and every SessionId, in whatever clothes.

An operator's message may echo what was sent: as it is, in base64 (alone or within a longer text), or escaped for a URL,
HTML, XML or JSON.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape  # the same as html's, which would load the names of all of HTML's characters

if TYPE_CHECKING:
    from collections.abc import Iterator

MASK = "…"
SHORTEST = 4  # characters of base64: fewer would blot out ordinary words
KEPT_SESSIONS = 20  # an answer may speak of one that was used before the last

_ESCAPE = re.compile(r"%[0-9A-F]{2}|\\\\u[0-9a-f]{4}")
_TOKEN = re.compile("[0-9A-Fa-f]{24,}")  # what a SessionId or a VKey looks like


class Masks:
    """Masks one account's secrets in texts."""

    def __init__(self, *secrets: str) -> None:
        forms = {form for secret in secrets if secret for form in _forms(secret)}
        self._patterns = [_TOKEN, _pattern(forms)] if forms else [_TOKEN]
        self._sessions: list[re.Pattern[str]] = []

    def session(self, session_id: str) -> None:
        """Mask this one from now on, too."""
        self._sessions = [*self._sessions[1 - KEPT_SESSIONS :], _pattern(set(_forms(session_id)))]

    def masked(self, text: str) -> str:
        """Give the text without any secret."""
        for pattern in (*self._sessions, *reversed(self._patterns)):
            text = pattern.sub(MASK, text)
        return text


def _pattern(forms: set[str]) -> re.Pattern[str]:
    """Any of the forms, the longest first. Hexadecimal digits of an escape may be of either case."""
    ordered = sorted(map(re.escape, forms), key=lambda form: (-len(form), form))
    return re.compile("|".join(_ESCAPE.sub(lambda found: f"(?i:{found[0]})", form) for form in ordered))


def _forms(secret: str) -> Iterator[str]:
    yield from (secret, secret.encode().decode("latin-1"))
    if len(ascii_only := secret.encode("ascii", "ignore").decode()) >= SHORTEST:
        yield ascii_only  # as headers are read
    for safe in ("", "/"):
        yield from (quote(secret, safe=safe), quote_plus(secret, safe=safe))
    in_text = escape(secret)
    escaped = escape(secret, {'"': "&quot;", "'": "&#x27;"})
    yield from (escaped, in_text, escaped.replace("&#x27;", "&#39;"))
    yield from (escaped.replace("&#x27;", "&apos;"), re.sub("[&<>\"']", lambda found: f"&#{ord(found[0])};", secret))
    for plain in (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]):
        yield from (plain, plain.replace("/", "\\/"), re.sub(r"[<>&']", lambda found: f"\\u{ord(found[0]):04x}", plain))
    yield from _base64(secret.encode())


def _base64(secret: bytes) -> Iterator[str]:
    """In base64, wherever it stands in what was encoded: its first and last characters depend on its neighbours."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + secret).decode().rstrip("=")
        first = -(-before * 8 // 6)
        last = (before + len(secret)) * 8 // 6
        for text in (encoded[first:last], *([encoded] if not before else [])):
            if len(text) >= SHORTEST:
                yield text
                yield text.replace("+", "-").replace("/", "_")
