"""The usual form of an answer → responses: fast, and only where nothing is in doubt.

One regular expression reads a record as the operator's page prints it: the elements in their order, some missing
where they are not required, no attributes, nothing but white space between them. All of a document must have that form,
to the last byte; wherever it has not, `responses` gives None, and `xml_any` reads the whole. What is read here,
`xml_any` reads alike: a property test holds that on mutated answers, so that a shortcut never lets through what is not
well-formed.

Without this file everything works, and a catch-up takes about twice as long.
"""

from __future__ import annotations

import re
from datetime import time
from decimal import Decimal
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from cdrsync.model import COST_PLACES, FIELDS, MAX_INT, Batch, Cdr, Field, Kind
from cdrsync.source.clock import started_column
from cdrsync.source.record import day_of
from cdrsync.source.response import OK, Response
from cdrsync.tuning import each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from zoneinfo import ZoneInfo

_WHITE = " \t\n"
_SPACE = f"[{_WHITE}]*+"
_TEXT = r"[^<]*+"
_ESCAPED_TEXT = r"[^<&]*+(?:&(?:amp|lt|gt|quot|apos);[^<&]*+)*+"
_PATTERNS = {
    Kind.POUNDS: rf"[0-9]{{1,9}}\.[0-9]{{1,{COST_PLACES}}}",
    Kind.DATE: r"[0-9]{4}-[0-9]{2}-[0-9]{2}",
    Kind.TIME: r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]",
    Kind.FLAG: "[01]",
}
_FIRST_GAP = re.compile(f"<CDR>([{_WHITE}]{{0,40}}+)<")


def _pattern(field: Field, text: str) -> str:
    if field.kind is not Kind.WHOLE:
        return _PATTERNS.get(field.kind, text)
    digits = 9 if field.high <= MAX_INT else 18
    return f"[1-9][0-9]{{0,{digits - 1}}}" if field.low > 0 else f"[0-9]{{1,{digits}}}"


@cache
def _record(gap: str, any_text: str) -> re.Pattern[str]:
    """The pattern of one record that has `gap`, a pattern, before each element, and texts of a pattern."""

    def element(field: Field) -> str:
        text = f"{gap}<{field.element}>({_pattern(field, any_text)})</{field.element}>"
        return text if field.required else f"(?:{text})?+"

    return re.compile(f"<CDR>{''.join(map(element, FIELDS))}{_SPACE}</CDR>{_SPACE}")


_WIDTH = len(FIELDS) + 1  # of what splitting by `_record` gives per record: what stands before it, and its texts

# What stands around the records is read as bytes, and is plain ASCII or not of the usual form.
_GAP = _SPACE.encode()
_HEAD = re.compile(rb'(?:<\?xml version="1\.0"(?: encoding="(?i:utf-8)")?+ *+\?>)?+%b<NoveroResponse>%b' % (_GAP, _GAP))
_RESPONSE = re.compile(rb'<Response((?: [A-Za-z]++="[ !#-%%\'-;=-~]*+")*+)>%b' % _GAP)
_ATTRIBUTE = re.compile(r' ([A-Za-z]++)="([^"]*+)"')
_SESSION = re.compile(rb"<SessionId>([0-9A-Za-z]++)</SessionId>%b" % _GAP)
_NONE = re.compile(rb"<CDRs ?+/>%b" % _GAP)
_RECORDS = re.compile(rb"<CDRs>%b" % _GAP)
_END_OF_RECORDS = b"</CDRs>"
_END_OF_RECORD = b"</CDR>"
_END = re.compile(rb"%b</Response>%b" % (_GAP, _GAP))
_FOOT = re.compile(rb"</NoveroResponse>%b" % _GAP)

PIECE = 150_000
"""Bytes, some 200 records: as many as are read in one go, so that what is in between takes little memory."""

_ATTRIBUTES = frozenset({"target", "name", "Code", "RequestId"})

# What well-formed XML never holds as it is: control characters, and two code points that are none.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


class _OtherForm(Exception):
    """Something has not the usual form."""


def responses(body: bytes, timezone: ZoneInfo) -> list[Response] | None:
    """Read an answer of the usual form; None where anything of it has another."""
    if b"\r" in body:
        body = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")  # as XML reads line ends
    try:
        return _document(body, timezone)
    except _OtherForm:
        return None


def _document(body: bytes, timezone: ZoneInfo) -> list[Response]:
    found = []
    at = _after(_HEAD, body, 0)
    while body.startswith(b"<Response ", at):
        one, at = _response(body, at, timezone)
        found.append(one)
    if _after(_FOOT, body, at) != len(body):
        raise _OtherForm
    return found


def _response(body: bytes, at: int, timezone: ZoneInfo) -> tuple[Response, int]:
    head = _RESPONSE.match(body, at)
    if not head:
        raise _OtherForm
    named = _ATTRIBUTE.findall(head[1].decode())
    attributes = dict(named)
    if len(attributes) != len(named) or attributes.keys() != _ATTRIBUTES or attributes["Code"] != OK:
        raise _OtherForm
    at = head.end()
    session_id = batch = None
    if session := _SESSION.match(body, at):
        session_id, at = session[1].decode(), session.end()
    else:
        batch, at = _batch(body, at, timezone)
    one = Response(
        target=attributes["target"],
        name=attributes["name"],
        code=OK,
        request_id=attributes["RequestId"],
        session_id=session_id,
        batch=batch,
    )
    return one, _after(_END, body, at)


def _batch(body: bytes, at: int, timezone: ZoneInfo) -> tuple[Batch, int]:
    if none := _NONE.match(body, at):
        return Batch([]), none.end()
    begin = _after(_RECORDS, body, at)
    end = body.find(_END_OF_RECORDS, begin)
    if end < 0:
        raise _OtherForm
    cdrs: list[Cdr] = []
    for piece in _pieces(body, begin, end):
        cdrs.extend(_records(piece, timezone))
    return Batch(cdrs), end + len(_END_OF_RECORDS)


def _pieces(body: bytes, at: int, end: int) -> Iterator[str]:
    """The records between two places, cut behind the end of some."""
    view = memoryview(body)  # decoding a slice of it copies the bytes once, not twice
    while at < end:
        found = body.find(_END_OF_RECORD, at + PIECE, end)
        cut = end if found < 0 else found + len(_END_OF_RECORD)
        try:
            piece = str(view[at:cut], "utf-8")
        except UnicodeDecodeError:
            raise _OtherForm from None
        yield piece.lstrip(_WHITE)
        at = cut


def _records(piece: str, timezone: ZoneInfo) -> Iterable[Cdr]:
    # A pattern that knows which white space to expect, and no `&`, takes half of the time of one that takes any.
    any_text = _ESCAPED_TEXT if "&" in piece else _TEXT
    first = _FIRST_GAP.match(piece)
    texts = _record(re.escape(first[1]) if first else _SPACE, any_text).split(piece)
    if any(texts[::_WIDTH]):
        texts = _record(_SPACE, any_text).split(piece)
    if any(texts[::_WIDTH]):
        raise _OtherForm
    return _typed([texts[place::_WIDTH] for place in range(1, _WIDTH)], timezone) if len(texts) > 1 else ()


def _typed(columns: list[list[str]], timezone: ZoneInfo) -> Iterable[Cdr]:
    """Read column by column: one call per column, not per value."""
    values = {field.column: _read(field, column) for field, column in zip(FIELDS, columns, strict=True)}
    values["started_at"], values["wall_clock"] = started_column(
        values["call_date"], values["call_time"], values["ref"], timezone
    )
    values["extra"] = [None] * len(columns[0])
    rows = zip(*(values[column] for column in Cdr._fields), strict=True)
    return map(partial(tuple.__new__, Cdr), rows)  # what `Cdr._make` does, without counting the columns of each


def _read(field: Field, column: list[Any]) -> Any:
    """The values of a column; None where a record has not this element."""
    if field.required or field.kind is Kind.FLAG or None not in column:
        return _READ[field.kind](column)
    said = iter(_READ[field.kind]([text for text in column if text is not None]))
    return [None if text is None else next(said) for text in column]


def _texts(column: list[str]) -> list[str]:
    """Give the texts as they were before XML. Of equal ones one is kept: our own numbers, places and names."""
    joined = " ".join(column)
    if "]]>" in joined or (not joined.isprintable() and _FORBIDDEN.search(joined)):
        raise _OtherForm
    plain = [_unescaped(text) if "&" in text else text for text in column] if "&" in joined else column
    kept: dict[str, str] = {}
    return list(map(kept.setdefault, plain, plain))


def _unescaped(text: str) -> str:
    text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&apos;", "'")
    return text.replace("&amp;", "&")


def _days(column: list[str]) -> Any:
    try:
        return each(day_of, column)
    except ValueError:
        raise _OtherForm from None  # no such day: `xml_any` says which record it is


_READ: dict[Kind, Callable[[list[str]], Any]] = {
    Kind.TEXT: _texts,
    Kind.WHOLE: partial(map, int),
    Kind.POUNDS: partial(each, Decimal),
    Kind.DATE: _days,
    Kind.TIME: lambda column: list(map(time.fromisoformat, column)),
    Kind.FLAG: partial(map, {"1": True, "0": False, None: None}.__getitem__),
}


def _after(pattern: re.Pattern[bytes], body: bytes, at: int) -> int:
    """Give the place after what must stand here."""
    found = pattern.match(body, at)
    if not found:
        raise _OtherForm
    return found.end()
