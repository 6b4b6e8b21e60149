"""The words of the operator's API, for the quarantine: of a call that the database can't hold; of a record as sent."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, unescape

from cdrsync.model import FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cdrsync.model import Cdr, Reject

_ELEMENTS = {field.column: field.element for field in FIELDS}
_COLUMNS = {field.element: field.column for field in FIELDS}
_LEAF = re.compile(r"<([A-Za-z_][\w.-]*)(?:\s[^<>]*)?(?:/>|>([^<]*)</\1>)")


def as_xml(call: Cdr) -> str:
    """`<CDR>…</CDR>` with every value of the call; what is None is absent."""
    values = ((column, getattr(call, column)) for column in _ELEMENTS)
    texts = [
        (column, str(int(value) if isinstance(value, bool) else value)) for column, value in values if value is not None
    ]
    extra = []
    for element, found in json.loads(call.extra or "{}").items():
        several = found if isinstance(found, list) else [found]
        extra += [_element(element, text) for text in several]
    return record_of(texts, extra)


def documented(raw: str) -> list[tuple[str, str]]:
    """Give (column, text) of each documented element of a record's XML that holds text alone, in its order."""
    found = ((_COLUMNS.get(match[1]), unescape(match[2] or "", {"&#13;": "\r"})) for match in _LEAF.finditer(raw))
    return [(column, text) for column, text in found if column is not None]


def record_of(texts: Iterable[tuple[str, str]], extra: Iterable[str] = ()) -> str:
    """`<CDR>…</CDR>` of (column, text), and elements of other names as they are."""
    known = (_element(_ELEMENTS[column], text) for column, text in texts)
    return f"<CDR>{''.join((*known, *extra))}</CDR>"


def fingerprint(record: Reject) -> str:
    """By which a rejected record is known again."""
    return hashlib.sha256(record.raw.encode("utf-8", "backslashreplace")).hexdigest()


def _element(name: str, text: str) -> str:
    kept = escape(text, {"\r": "&#13;"})  # a bare carriage return would be read as a line break
    return f"<{name}>{kept}</{name}>"
