"""One HTTP answer: its body within bounds, and what its status and headers say."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import httpx

from cdrsync.errors import ApiUnreachable, BadAnswer

if TYPE_CHECKING:
    from collections.abc import Iterable

_GZIP = 16 + zlib.MAX_WBITS
_PLAIN = frozenset({"", "identity"})
_GZIPPED = frozenset({"gzip", "x-gzip"})

OK = 200
_MOVED = range(300, 400)
_REFUSED = frozenset({401, 403})
BUSY = 429
_BAD_REQUEST = 400
_NOT_FOUND = 404
OUT_OF_ORDER = 500  # and above

LATER = "The operator's server is busy or out of order; cdrsync tries again"

LONGEST_WISH = 15 * 60.0
"""Seconds of a `Retry-After` that are believed: more would silence an account for as long as a server likes."""

CLOCK_TOLERANCE = timedelta(minutes=5)
"""So far from ours the operator's clock is believed: a mark that seems older than it is makes later calls look like a
new sequence of uids."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """One HTTP answer, read to its end."""

    status: int
    body: bytes
    retry_after: float | None  # seconds, at most LONGEST_WISH
    answered_at: datetime  # the operator's clock where it can be believed, ours otherwise; aware, UTC
    date: datetime | None  # what the operator's clock says, believed or not; aware, UTC
    moved_to: str = ""

    @property
    def says_later(self) -> bool:
        """Whether the status alone says to come back later, whatever the body says."""
        return self.status == BUSY or self.status >= OUT_OF_ORDER

    @property
    def _at_the_question(self) -> bool:
        """Whether a smaller question might be answered."""
        return self.status >= _BAD_REQUEST and self.status not in {*_REFUSED, _NOT_FOUND, BUSY}

    def error(self, detail: str) -> ApiUnreachable:
        """Give the error for a status other than 200. `detail` is the operator's message or what is wrong with it."""
        hint = None
        if self.status in _MOVED and self.moved_to:
            detail = f"moved to {self.moved_to}"
            hint = "If that is the operator's, make it api_url; cdrsync takes the password nowhere by itself"
        elif self.status in _REFUSED:
            hint = "A firewall or proxy may be in between, or this machine's address is not on the VKey's allow-list"
        elif self.says_later:
            hint = LATER
        message = f"HTTP {self.status}" + (f": {detail}" if detail else "")
        return ApiUnreachable(message, hint=hint, retry_after=self.retry_after, answered=self._at_the_question)


def read(response: httpx.Response, url: httpx.URL, now: datetime, max_bytes: int) -> HttpAnswer:
    """Read the whole answer of `url`, undoing gzip. `now` is our clock.

    Raises BadAnswer (too large, a broken or unknown encoding), httpx.HTTPError.
    """
    body = _in_utf8(_body(response, max_bytes), response.headers.get("Content-Type", ""))
    date = _http_date(response.headers.get("Date"))
    return HttpAnswer(
        status=response.status_code,
        body=body,
        retry_after=retry_after(response.headers, now),
        answered_at=date if date and abs(date - now) <= CLOCK_TOLERANCE else now,
        date=date,
        moved_to=_moved_to(url, response.headers.get("Location")),
    )


def _body(response: httpx.Response, max_bytes: int) -> bytes:
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in _PLAIN | _GZIPPED:
        raise BadAnswer(f"the answer's Content-Encoding is {encoding[:40]!r}, which was not asked for")
    pieces: Iterable[bytes] = response.iter_raw()
    body: list[bytes] = []
    left = max_bytes
    for piece in _unpacked(pieces) if encoding in _GZIPPED else pieces:
        body.append(piece)
        left -= len(piece)
        if left < 0:
            raise BadAnswer(f"the answer is larger than {max_bytes} bytes")
    return b"".join(body)  # of one piece, as the transport has it, that is no copy


_LATIN = frozenset({"iso-8859-1", "latin1", "iso-8859-15", "windows-1252", "cp1252"})
_SAYS_ITSELF = re.compile(rb"\s*<\?xml[^>]*\bencoding\b")
_UTF_8 = re.compile(rb"[\xc2-\xf4][\x80-\xbf]")  # a character beyond ASCII; in Latin-1 that is no text


def _in_utf8(body: bytes, content_type: str) -> bytes:
    """A document that leaves it to its HTTP header to say that it is no UTF-8, which XML is otherwise.

    One of UTF-8 in which a record is broken stays what it is: servers say Latin-1 by habit.
    """
    said = re.search(r"charset\s*=\s*[\"']?([\w.-]+)", content_type, re.IGNORECASE)
    if said is None or said[1].lower() not in _LATIN or _SAYS_ITSELF.match(body) or _UTF_8.search(body):
        return body
    return body.decode(said[1], errors="replace").encode()


_PIECE = 64 * 1024  # bytes unpacked at once: a bomb is given up before it is large
_SLICE = 4 * 1024  # packed bytes taken at once: what a member leaves over is copied, and must not be the whole answer
_MEMBERS = 10_000  # one after the other in an answer; a server sends one


def _unpacked(pieces: Iterable[bytes]) -> Iterable[bytes]:
    """Gzip in pieces: one member after the other, each must end. Raises BadAnswer."""
    member = zlib.decompressobj(_GZIP)
    begun, members = False, 1
    for data in _sliced(pieces):
        more = bool(data)
        while more:
            if member.eof:
                member, members = zlib.decompressobj(_GZIP), members + 1
                if members > _MEMBERS:
                    raise BadAnswer(f"the answer is gzip in more than {_MEMBERS} parts")
            begun = True
            try:
                part = member.decompress(data, _PIECE)
            except zlib.error:
                raise BadAnswer("the answer is not the gzip that it says it is") from None
            yield part
            data = member.unused_data if member.eof else member.unconsumed_tail  # noqa: PLW2901
            more = bool(data) or (len(part) == _PIECE and not member.eof)
    if begun and not member.eof:
        raise BadAnswer("the answer's gzip is cut off")


def _sliced(pieces: Iterable[bytes]) -> Iterable[bytes]:
    return (piece[at : at + _SLICE] for piece in pieces for at in range(0, len(piece), _SLICE))


def _http_date(text: str | None) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text or "")
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def retry_after(headers: httpx.Headers, now: datetime) -> float | None:
    """`Retry-After` in seconds, None where there is none or it can't be read. `now` is our clock.

    A date is one of the operator's clock, which its `Date` tells.
    """
    text = headers.get("Retry-After", "").strip()
    if re.fullmatch("[0-9]+", text):
        return min(float(text), LONGEST_WISH)
    moment = _http_date(text)
    if moment is None:
        return None
    return min(max(0.0, (moment - (_http_date(headers.get("Date")) or now)).total_seconds()), LONGEST_WISH)


def _moved_to(url: httpx.URL, location: str | None) -> str:
    """Where an HTTP 3xx leads, without anything that might be a secret."""
    if not location:
        return ""
    try:
        to = url.join(location)
    except (httpx.InvalidURL, ValueError):
        return ""
    return f"{to.scheme}://{to.host}{f':{to.port}' if to.port else ''}{to.path}"[:200]
