"""One `<CDR>`: the rules by which its texts become typed values (GetCDRs of the operator's page).

Numbers, dates and flags may be surrounded by white space; text is kept as sent. What doesn't fit is not guessed at:
`Untypeable` names the element, and the record becomes a Reject.
"""

from __future__ import annotations

import re
from datetime import date, time
from decimal import Decimal
from typing import TYPE_CHECKING

from cdrsync.model import COST_PLACES, MAX_UID, Cdr
from cdrsync.source.clock import started_at

if TYPE_CHECKING:
    from collections.abc import Mapping
    from zoneinfo import ZoneInfo

ELEMENTS = (
    "uid",
    "ref",
    "calldate",
    "calltime",
    "anumber",
    "anumber_location",
    "bnumber",
    "alias",
    "dialled",
    "dialled_location",
    "duration",
    "ring_time",
    "user_cost",
    "reason",
    "reason_q805",
    "HasRecordedCall",
    "HasVoicemailRecording",
    "HasFaxDocument",
)
"""The documented elements of a record, in the order of the operator's page."""

FIRST_YEAR, LAST_YEAR = 1990, 2100
"""A year outside is a broken record, not a call."""

MAX_INT = 2**31 - 1

_SPACE = " \t\r\n"
_WHOLE = re.compile(r"-?[0-9]{1,19}")
_COST = re.compile(rf"-?[0-9]{{1,9}}(?:\.[0-9]{{1,{COST_PLACES}}})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]")
_FLAGS = {"1": True, "0": False, "": None}
_SHOWN = 60  # characters of a value that can't be read; the whole stands in the Reject's raw XML


class Untypeable(ValueError):
    """A record that can't be typed: one line, which element and what is wrong."""


def typed(texts: Mapping[str, str], extra: str | None, timezone: ZoneInfo) -> Cdr:
    """Make a record of the text of each documented element that was sent ("" where it was empty).

    Raises Untypeable.
    """
    call_date = _date(texts)
    call_time = _time(texts)
    ref = texts.get("ref")
    instant, wall_clock = started_at(call_date, call_time, ref, timezone)
    return Cdr(
        uid=_required_whole(texts, "uid", 1, MAX_UID),
        ref=ref,
        call_date=call_date,
        call_time=call_time,
        started_at=instant,
        wall_clock=wall_clock.value if wall_clock else None,
        anumber=texts.get("anumber"),
        anumber_location=texts.get("anumber_location"),
        bnumber=texts.get("bnumber"),
        alias=texts.get("alias"),
        dialled=texts.get("dialled"),
        dialled_location=texts.get("dialled_location"),
        duration=_required_whole(texts, "duration", 0, MAX_INT),
        ring_time=_whole(texts, "ring_time", 0, MAX_INT),
        user_cost=_cost(texts),
        reason=_whole(texts, "reason", -MAX_INT - 1, MAX_INT),
        reason_q805=_whole(texts, "reason_q805", -MAX_INT - 1, MAX_INT),
        has_recorded_call=_flag(texts, "HasRecordedCall"),
        has_voicemail_recording=_flag(texts, "HasVoicemailRecording"),
        has_fax_document=_flag(texts, "HasFaxDocument"),
        extra=extra,
    )


def uid_of(texts: Mapping[str, str]) -> int | None:
    """Give the uid of a record that is rejected for something else, None where it can't be read either."""
    try:
        return _required_whole(texts, "uid", 1, MAX_UID)
    except Untypeable:
        return None


def day_of(text: str) -> date:
    """Read a yyyy-mm-dd that already looks like one; ValueError where there is no such day or it is out of range."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise ValueError("no such day") from None  # Python's own words change from version to version
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise ValueError(f"year {day.year} is not between {FIRST_YEAR} and {LAST_YEAR}")
    return day


def _required(texts: Mapping[str, str], element: str) -> str:
    text = texts.get(element)
    if text is None:
        raise Untypeable(f"{element}: missing")
    stripped = text.strip(_SPACE)
    if not stripped:
        raise Untypeable(f"{element}: empty")
    return stripped


def _required_whole(texts: Mapping[str, str], element: str, low: int, high: int) -> int:
    return _in_range(element, _required(texts, element), low, high)


def _whole(texts: Mapping[str, str], element: str, low: int, high: int) -> int | None:
    text = texts.get(element, "").strip(_SPACE)
    return _in_range(element, text, low, high) if text else None


def _in_range(element: str, text: str, low: int, high: int) -> int:
    if not _WHOLE.fullmatch(text):
        raise Untypeable(f"{element}: not a whole number: {_shown(text)}")
    number = int(text)
    if not low <= number <= high:
        raise Untypeable(f"{element}: not between {low} and {high}: {_shown(text)}")
    return number


def _cost(texts: Mapping[str, str]) -> Decimal:
    text = _required(texts, "user_cost")
    if not _COST.fullmatch(text):
        raise Untypeable(f"user_cost: not pounds below 10^9 with at most {COST_PLACES} decimals: {_shown(text)}")
    return Decimal(text)


def _date(texts: Mapping[str, str]) -> date:
    text = _required(texts, "calldate")
    if not _DATE.fullmatch(text):
        raise Untypeable(f"calldate: not yyyy-mm-dd: {_shown(text)}")
    try:
        return day_of(text)
    except ValueError as error:
        raise Untypeable(f"calldate: {error}: {_shown(text)}") from None


def _time(texts: Mapping[str, str]) -> time:
    text = _required(texts, "calltime")
    if not _TIME.fullmatch(text):
        raise Untypeable(f"calltime: not HH:MM:SS: {_shown(text)}")
    return time.fromisoformat(text)


def _flag(texts: Mapping[str, str], element: str) -> bool | None:
    text = texts.get(element, "").strip(_SPACE)
    if text not in _FLAGS:
        raise Untypeable(f"{element}: neither 1 nor 0: {_shown(text)}")
    return _FLAGS[text]


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
