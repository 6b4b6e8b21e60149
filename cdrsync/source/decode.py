"""XML bytes → typed answers; pure.

An answer is read whole or refused whole (BadAnswer); a record in it that can't be typed becomes a Reject and never
stops the others. `printed` reads the operator's printed shape; whatever it doesn't recognise in full goes through
`tree`, with the same result for everything both can read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdrsync.errors import BadAnswer
from cdrsync.source import xml_fast
from cdrsync.source.response import Envelope

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

    from cdrsync.model import Cdr, Reject


def decode(body: bytes, *, timezone: ZoneInfo) -> Envelope:
    """Read one answer of the API. `timezone` is that of `calldate` and `calltime`.

    Raises BadAnswer: empty, truncated, HTML, another root, a document type, anything not well-formed.
    """
    found = xml_fast.responses(body, timezone)
    if found is None:
        from cdrsync.source import xml_any

        found = xml_any.responses(body, timezone)
    return Envelope(found)


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
