"""One `<CDR>`: the rules by which its texts become typed values (GetCDRs of the operator's page).

Numbers, dates and flags may be surrounded by white space; text is kept as sent. What doesn't fit is not guessed at:
`Untypeable` names the element, and the record becomes a Reject.
"""

from __future__ import annotations

import re
from datetime import date, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from cdrsync.model import BEGINNING, COST_PLACES, FIELDS, LAST_DAY, Cdr, Field, Kind
from cdrsync.source.clock import started_at

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from zoneinfo import ZoneInfo

FIRST_YEAR, LAST_YEAR = BEGINNING.year, LAST_DAY.year
"""A year outside is a broken record, not a call."""

_SPACE = " \t\r\n"
_SHOWN = 60  # characters of a value that can't be read; the whole stands in the Reject's raw XML


class Untypeable(ValueError):
    """A record that can't be typed: one line, which element and what is wrong."""


def typed(texts: Mapping[str, str], extra: str | None, timezone: ZoneInfo) -> Cdr:
    """Make a record of the text of each documented element that was sent ("" where it was empty).

    Raises Untypeable.
    """
    values = {field.column: _value(field, texts.get(field.element)) for field in FIELDS}
    instant, wall_clock = started_at(values["call_date"], values["call_time"], values["ref"], timezone)
    return Cdr(**values, started_at=instant, wall_clock=wall_clock.value if wall_clock else None, extra=extra)


def uid_of(texts: Mapping[str, str]) -> int | None:
    """Give the uid of a record that is rejected for something else, None where it can't be read either."""
    try:
        uid: int = _value(FIELDS[0], texts.get(FIELDS[0].element))
    except Untypeable:
        return None
    return uid


def day_of(text: str) -> date:
    """Read a yyyy-mm-dd that already looks like one; ValueError where there is no such day or it is out of range."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise ValueError("no such day") from None  # Python's own words change from version to version
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise ValueError(f"year {day.year} is not between {FIRST_YEAR} and {LAST_YEAR}")
    return day


def _value(field: Field, text: str | None) -> Any:
    if field.kind is Kind.TEXT:
        return text
    if text is None and field.required:
        raise Untypeable(f"{field.element}: missing")
    stripped = (text or "").strip(_SPACE)
    if not stripped and field.required:
        raise Untypeable(f"{field.element}: empty")
    if not stripped:
        return None
    try:
        return _read(field, stripped)
    except ValueError as error:
        shown = repr(stripped if len(stripped) <= _SHOWN else stripped[:_SHOWN] + "…")
        raise Untypeable(f"{field.element}: {error}: {shown}") from None


def _read(field: Field, text: str) -> Any:
    pattern, problem, value_of = _FORMS[field.kind]
    if not pattern.fullmatch(text):
        raise ValueError(problem)
    value = value_of(text)
    if field.kind is Kind.WHOLE and not field.low <= value <= field.high:
        raise ValueError(f"not between {field.low} and {field.high}")
    return value


_FORMS: dict[Kind, tuple[re.Pattern[str], str, Callable[[str], Any]]] = {
    Kind.WHOLE: (re.compile(r"-?[0-9]{1,19}"), "not a whole number", int),
    Kind.POUNDS: (
        re.compile(rf"-?[0-9]{{1,9}}(?:\.[0-9]{{1,{COST_PLACES}}})?"),
        f"not pounds below 10^9 with at most {COST_PLACES} decimals",
        Decimal,
    ),
    Kind.DATE: (re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}"), "not yyyy-mm-dd", day_of),
    Kind.TIME: (re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"), "not HH:MM:SS", time.fromisoformat),
    Kind.FLAG: (re.compile("[01]"), "neither 1 nor 0", {"1": True, "0": False}.__getitem__),
}
"""What the text of each kind must look like, what is said where it does not, and what makes a value of it."""
