"""What a client asks, read from its document."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from lxml import etree

from cdrsync.sandbox.records import Query

if TYPE_CHECKING:
    from collections.abc import Mapping

_WHOLE_NUMBER = re.compile(r"\d{1,18}", re.ASCII)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)

PARAMETERS: Mapping[tuple[str, str], frozenset[str]] = {
    ("Auth", "SessionLogin"): frozenset({"Username", "Password", "VKey"}),
    ("NoveroCDR", "GetCDRs"): frozenset({"Number", "offset", "limit", "LastId", "StartDate", "EndDate"}),
    ("NoveroCDR", "GetCDR"): frozenset({"CDRUID", "CDRRef"}),
    ("NoveroCDR", "GetTotals"): frozenset({"Period", "Number"}),
}


class MalformedError(Exception):
    """What was sent is no NoveroRequest, or a parameter is not what the reference page asks for."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One <Request>."""

    target: str
    name: str
    request_id: str
    parameters: dict[str, str]

    @property
    def is_login(self) -> bool:
        return (self.target, self.name) == ("Auth", "SessionLogin")


@dataclass(frozen=True, slots=True)
class Asking:
    """One <NoveroRequest>."""

    session_id: str | None
    asked: list[Asked]


def read(body: bytes) -> Asking:
    """The document of a client. Raises MalformedError."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True)
    try:
        root = etree.fromstring(body, parser)
    except etree.XMLSyntaxError as error:
        raise MalformedError("The document is not well-formed XML") from error
    if root.tag != "NoveroRequest":
        raise MalformedError("The document is no NoveroRequest")
    strange = [str(child.tag) for child in root if child.tag not in ("SessionId", "Request")]
    if strange:
        raise MalformedError(f"<{strange[0]}> has no place in a NoveroRequest")
    session_id = root.findtext("SessionId")
    return Asking(
        None if session_id is None else session_id.strip(), [_asked(child) for child in root.findall("Request")]
    )


def _asked(element: etree._Element) -> Asked:
    parameters = {str(child.tag): (child.text or "").strip() for child in element}
    return Asked(str(element.get("target", "")), str(element.get("name", "")), str(element.get("id", "")), parameters)


def query(parameters: Mapping[str, str], *, end_date_included: bool, limit_clamp: int | None) -> Query:
    """The parameters of GetCDRs, checked. Raises MalformedError."""
    limit = _number(parameters, "limit")
    limit = 10 if limit is None else limit
    if limit < 1:
        raise MalformedError("limit must be at least 1")
    first, last = _day(parameters, "StartDate"), _day(parameters, "EndDate")
    if last is not None and not end_date_included:
        last = date.fromordinal(max(1, last.toordinal() - 1))
    return Query(
        limit=limit if limit_clamp is None else min(limit, limit_clamp),
        offset=_number(parameters, "offset") or 0,
        last_id=_number(parameters, "LastId"),
        first_day=first.isoformat() if first else None,
        last_day=last.isoformat() if last else None,
        number=parameters.get("Number") or None,
    )


def _number(parameters: Mapping[str, str], name: str) -> int | None:
    text = parameters.get(name, "")
    if not text:
        return None
    if not _WHOLE_NUMBER.fullmatch(text):
        raise MalformedError(f"{name} must be a whole number")
    return int(text)


def uid(parameters: Mapping[str, str]) -> int | None:
    """CDRUID of GetCDR. Raises MalformedError."""
    return _number(parameters, "CDRUID")


def _day(parameters: Mapping[str, str], name: str) -> date | None:
    text = parameters.get(name, "")
    if not text:
        return None
    if _DAY.fullmatch(text):
        try:
            return date.fromisoformat(text)
        except ValueError:
            pass  # 2013-02-30: refused like any other text
    raise MalformedError(f"{name} must be a date of the format yyyy-mm-dd")
