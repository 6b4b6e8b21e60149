"""XML bytes → typed answers; pure.

An answer is read whole or refused whole (BadAnswer); a record in it that can't be typed becomes a Reject and never
stops the others. What one answer may cost is bounded before anything is made of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdrsync.errors import BadAnswer
from cdrsync.source import xml_fast

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from cdrsync.model import Cdr, Reject
    from cdrsync.source.response import Response

MAX_RECORDS = 25_000
MAX_MARKUP = 1_000_000  # tags: a record of the operator's page has 38
MAX_EQUALS = 200_000  # signs: each attribute has one
MAX_STRETCH = 1024 * 1024  # bytes from the end of a record to the end of the next one
MAX_NOISE = 64 * 1024  # bytes around a document

_BEGINNINGS = (b"<?xml", b"<NoveroResponse")
_END = b"</NoveroResponse>"
_END_OF_RECORD = b"</CDR>"


class BrokenXml(BadAnswer):
    """An answer that has its beginning and its end, and something between that can't be read."""

    def __init__(self, message: str, body: bytes) -> None:
        super().__init__(message)
        self.body = body


def decode(body: bytes, *, timezone: ZoneInfo) -> list[Response]:
    """Read one answer of the API. `timezone` is that of `calldate` and `calltime`.

    Raises BadAnswer: empty, truncated, HTML, another root, a document type, too much of anything; BrokenXml where only
    something between the beginning and the end is not as it should be.
    """
    found = None if _has_giant(body) else xml_fast.responses(body, timezone)
    if found is not None and sum(len(one.batch.cdrs) for one in found if one.batch) <= MAX_RECORDS:
        return found
    _refuse_too_much(body)  # the usual form leaves no room for more than that
    from cdrsync.source import xml_any

    try:
        return xml_any.responses(body, timezone)
    except BadAnswer as error:
        if body.rstrip().endswith(_END) and body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(_BEGINNINGS):
            raise BrokenXml(error.message, body) from None
        raise


def decode_record(raw: str, *, timezone: ZoneInfo) -> Cdr | Reject:
    """Read the XML of one record again, from `<CDR>` to `</CDR>`, as a Reject keeps it.

    Raises BadAnswer where it isn't one.
    """
    from cdrsync.source import xml_any

    batch = xml_any.records(f"<CDRs>{raw}</CDRs>".encode(), timezone)
    both: list[Cdr | Reject] = [*batch.cdrs, *batch.rejects]
    if len(both) != 1:
        raise BadAnswer(f"{len(both)} records where one was kept")
    return both[0]


def without_noise(body: bytes) -> tuple[bytes, str] | None:
    """Take off what stands before and after a document: blank lines, a notice of the server's software.

    Give the document, and the text that stood around it. None where there is nothing to take off, or where it might be
    part of the document.
    """
    begin = min((at for at in map(body.find, _BEGINNINGS) if at >= 0), default=-1)
    end = body.rfind(_END) + len(_END)
    if begin < 0 or end < begin or (begin == 0 and end == len(body)):
        return None
    before, after = body[: min(begin, MAX_NOISE + 1)], body[end : end + MAX_NOISE + 1]
    if max(len(before), len(after)) > MAX_NOISE or b"<!" in before + after or b"<NoveroRe" in before + after:
        return None
    return body[begin:end], (before + after).decode(errors="replace").strip()[:200]


def _refuse_too_much(body: bytes) -> None:
    """Keep memory and time within bounds, whatever comes."""
    if body.count(b"<CDR") > MAX_RECORDS:
        raise BadAnswer(f"the answer has more than {MAX_RECORDS} records")
    if body.count(b"<") > MAX_MARKUP or body.count(b"=") > MAX_EQUALS:
        raise BadAnswer("the answer has more elements and attributes than its records can have")
    if _has_giant(body):
        raise BadAnswer(f"the answer has a record or a text of more than {MAX_STRETCH} bytes")


def _has_giant(body: bytes) -> bool:
    at = 0
    while len(body) - at > MAX_STRETCH:
        found = body.rfind(_END_OF_RECORD, at, at + MAX_STRETCH)
        if found < 0:
            return True
        at = found + len(_END_OF_RECORD)
    return False
