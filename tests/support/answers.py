"""Answers of the API for tests: golden files, and documents made to measure in the operator's printed form."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

LONDON = ZoneInfo("Europe/London")
FOLDER = Path(__file__).parents[1] / "data" / "answers"
GOLDEN = sorted(path.stem for path in FOLDER.glob("*.xml"))

RECORD = {
    "uid": "106398335",
    "ref": "51FD5E980233A34F",
    "calldate": "2013-08-03",
    "calltime": "20:48:40",
    "anumber": "7921255043",
    "anumber_location": "UK O2 Mobile",
    "bnumber": "1245830144",
    "alias": "",
    "dialled": "0",
    "dialled_location": "Unknown",
    "duration": "0",
    "ring_time": "0",
    "user_cost": "0.000",
    "reason": "2",
    "reason_q805": "0",
    "HasRecordedCall": "1",
    "HasVoicemailRecording": "0",
    "HasFaxDocument": "0",
}
"""The first record of the operator's page."""


def golden(name: str) -> bytes:
    """The bytes of one golden answer."""
    return (FOLDER / f"{name}.xml").read_bytes()


def record(**changes: str | None) -> str:
    """The XML of a record like the operator's first, with elements changed, added or (None) left out.

    Texts stand in it as they are given: what needs escaping must come escaped.
    """
    elements = {**RECORD, **changes}
    lines = [f"          <{name}>{text}</{name}>\n" for name, text in elements.items() if text is not None]
    return f"        <CDR>\n{''.join(lines)}        </CDR>\n"


def records(count: int, first_uid: int = 1) -> list[str]:
    """Records that differ in uid, time and duration."""
    return [
        record(uid=str(first_uid + n), calltime=f"20:{n // 60 % 60:02}:{n % 60:02}", duration=str(n % 900))
        for n in range(count)
    ]


def response(*found: str, request_id: str = "Request1", name: str = "GetCDRs") -> str:
    """One `<Response>` of GetCDRs with these records."""
    return (
        f'    <Response target="NoveroCDR" name="{name}" Code="200" RequestId="{request_id}">\n'
        f"      <CDRs>\n{''.join(found)}      </CDRs>\n    </Response>\n"
    )


def logged_in(session_id: str = "676fb75612b1e3a5691f4969f6503378", request_id: str = "SessionRequest") -> str:
    """The `<Response>` to a SessionLogin that was taken."""
    return (
        f'    <Response target="Auth" name="SessionLogin" Code="200" RequestId="{request_id}">\n'
        f"      <SessionId>{session_id}</SessionId>\n    </Response>\n"
    )


def refused(code: str, message: str, request_id: str, target: str = "NoveroCDR", name: str = "GetCDRs") -> str:
    """A `<Response>` with a Code other than 200."""
    return (
        f'    <Response target="{target}" name="{name}" Code="{code}" RequestId="{request_id}">\n'
        f"      <ResponseMessage>{message}</ResponseMessage>\n    </Response>\n"
    )


def envelope(*responses: str) -> bytes:
    """A whole answer."""
    return f'  <?xml version="1.0"?>\n  <NoveroResponse>\n{"".join(responses)}  </NoveroResponse>\n'.lstrip().encode()


def said(named: Mapping[str, Any]) -> dict[str, Any]:
    """What has a value: a field that is None may as well not be named."""
    return {name: value for name, value in named.items() if value is not None}


def as_json(value: object) -> Any:
    """Anything that comes out of `decode`, as JSON can say it: what is None is not said."""
    if is_dataclass(value):
        return said({one.name: as_json(getattr(value, one.name)) for one in fields(value)})
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return said({name: as_json(one) for name, one in value._asdict().items()})
    if isinstance(value, (list, tuple)):
        return [as_json(one) for one in value]
    if isinstance(value, dict):
        return {name: as_json(one) for name, one in value.items()}
    if isinstance(value, (date, time, datetime)):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else value
