"""One HTTP answer: its body within bounds, and what its status and headers say."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from cdrsync.errors import ApiUnreachable, BadAnswer

if TYPE_CHECKING:
    import httpx

_GZIP = 16 + zlib.MAX_WBITS
_PLAIN = frozenset({"", "identity"})
_GZIPPED = frozenset({"gzip", "x-gzip"})

OK = 200
_REFUSED = frozenset({401, 403})
_BUSY = 429
_OUT_OF_ORDER = 500  # and above


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """One HTTP answer, read to its end."""

    status: int
    body: bytes
    retry_after: float | None  # seconds
    answered_at: datetime  # the operator's clock where it sent `Date`, ours otherwise; aware, UTC

    @property
    def says_later(self) -> bool:
        """Whether the status alone says to come back later, whatever the body says."""
        return self.status == _BUSY or self.status >= _OUT_OF_ORDER

    def error(self, detail: str) -> ApiUnreachable:
        """Give the error for a status other than 200. `detail` is the operator's message or what is wrong with it."""
        message = f"HTTP {self.status}" + (f": {detail}" if detail else "")
        hint = None
        if self.status in _REFUSED:
            hint = "A firewall or proxy may be in between, or this machine's address is not on the VKey's allow-list"
        elif self.says_later:
            hint = "The operator's server is busy or out of order; cdrsync tries again"
        return ApiUnreachable(message, hint=hint, retry_after=self.retry_after)


def read(response: httpx.Response, now: datetime, max_bytes: int) -> HttpAnswer:
    """Read the whole answer, undoing gzip. `now` is our clock.

    Raises BadAnswer (too large, a broken or unknown encoding), httpx.HTTPError.
    """
    body = _body(response, max_bytes)
    said = _http_date(response.headers.get("Date"))
    wish = _retry_after(response.headers.get("Retry-After"), said or now)
    return HttpAnswer(response.status_code, body, wish, said or now)


def _body(response: httpx.Response, max_bytes: int) -> bytes:
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in _PLAIN | _GZIPPED:
        raise BadAnswer(f"the answer's Content-Encoding is {encoding[:40]!r}, which was not asked for")
    gunzip = _Gunzip() if encoding in _GZIPPED else None
    parts: list[bytes] = []
    size = 0
    for chunk in response.iter_raw():
        # One byte more than allowed is enough to know: a bomb is never unpacked.
        part = chunk if gunzip is None else gunzip.feed(chunk, max_bytes - size + 1)
        size += len(part)
        if size > max_bytes:
            raise BadAnswer(f"the answer is larger than {max_bytes} bytes")
        parts.append(part)
    if gunzip is not None:
        gunzip.end()
    return b"".join(parts)


class _Gunzip:
    """gzip in pieces: one member after the other, each must end."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)
        self._begun = False

    def feed(self, data: bytes, most: int) -> bytes:
        """Unpack `data`, at most `most` bytes of it: the caller refuses an answer of that size."""
        unpacked: list[bytes] = []
        while data and most > 0:
            if self._member.eof:
                self._member = zlib.decompressobj(_GZIP)
            self._begun = True
            try:
                part = self._member.decompress(data, most)
            except zlib.error:
                raise BadAnswer("the answer is not the gzip that it says it is") from None
            unpacked.append(part)
            most -= len(part)
            data = self._member.unused_data
        return b"".join(unpacked)

    def end(self) -> None:
        """Raise BadAnswer where the last member is cut off."""
        if self._begun and not self._member.eof:
            raise BadAnswer("the answer's gzip is cut off")


def _http_date(text: str | None) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text or "")
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _retry_after(text: str | None, now: datetime) -> float | None:
    """`Retry-After` in seconds or as a date, None where there is none or it can't be read."""
    text = (text or "").strip()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    moment = _http_date(text)
    return None if moment is None else max(0.0, (moment - now).total_seconds())
