"""A call back in the words of the operator's API: for the quarantine, when the database can't hold it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from cdrsync.model import Cdr

_ELEMENTS = {
    "uid": "uid",
    "ref": "ref",
    "call_date": "calldate",
    "call_time": "calltime",
    "anumber": "anumber",
    "anumber_location": "anumber_location",
    "bnumber": "bnumber",
    "alias": "alias",
    "dialled": "dialled",
    "dialled_location": "dialled_location",
    "duration": "duration",
    "ring_time": "ring_time",
    "user_cost": "user_cost",
    "reason": "reason",
    "reason_q805": "reason_q805",
    "has_recorded_call": "HasRecordedCall",
    "has_voicemail_recording": "HasVoicemailRecording",
    "has_fax_document": "HasFaxDocument",
}
"""Column → element, in the order in which the API prints them (`noverocdr-api`, GetCDRs)."""


def as_xml(call: Cdr) -> str:
    """`<CDR>…</CDR>` with every value of the call; what is None is absent."""
    parts = []
    for column, element in _ELEMENTS.items():
        value = getattr(call, column)
        if value is not None:
            parts.append(f"<{element}>{_text(int(value) if isinstance(value, bool) else value)}</{element}>")
    for element, texts in json.loads(call.extra or "{}").items():
        several = texts if isinstance(texts, list) else [texts]
        parts.extend(f"<{element}>{_text(text)}</{element}>" for text in several)
    return f"<CDR>{''.join(parts)}</CDR>"


def _text(value: object) -> str:
    return escape(str(value), {"\r": "&#13;"})  # a bare carriage return would be read as a line break
