"""XML bytes → typed answers; pure.

An answer is read whole or refused whole (BadAnswer); a record in it that can't be typed becomes a Reject and never
stops the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdrsync.errors import BadAnswer
from cdrsync.source import xml_fast

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from cdrsync.model import Cdr, Reject
    from cdrsync.source.response import Response


def decode(body: bytes, *, timezone: ZoneInfo) -> list[Response]:
    """Read one answer of the API. `timezone` is that of `calldate` and `calltime`.

    Raises BadAnswer: empty, truncated, HTML, another root, a document type, anything not well-formed.
    """
    found = xml_fast.responses(body, timezone)
    if found is None:
        from cdrsync.source import xml_any

        found = xml_any.responses(body, timezone)
    return found


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
