"""The operator's printed shape of an answer → responses: fast, and only where nothing is in doubt.

One regular expression reads a record exactly as the operator's page prints it: the elements in their order, no
attributes, nothing but white space between them. All of a document must have its printed form, to the last byte, but
for a few records that `tree` can read by themselves; wherever it has not, `responses` gives None and the whole goes
through `tree`. What is read here, `tree` reads alike: a property test holds that on mutated answers, so that a
shortcut never lets through what is not well-formed.
"""

from __future__ import annotations

import re
from datetime import time
from decimal import Decimal
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from cdrsync.errors import BadAnswer
from cdrsync.model import COST_PLACES, FIELDS, FLAGS, Batch, Cdr
from cdrsync.source.clock import started_column
from cdrsync.source.record import day_of
from cdrsync.source.response import OK, Response
from cdrsync.tuning import each

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from zoneinfo import ZoneInfo

_WHITE = " \t\n"
_SPACE = f"[{_WHITE}]*+"
_TEXT = r"[^<]*+"
_ESCAPED_TEXT = r"[^<&]*+(?:&(?:amp|lt|gt|quot|apos);[^<&]*+)*+"
_COUNT = r"[0-9]{1,9}"
_PATTERNS = {
    "uid": r"[0-9]{1,18}",
    "calldate": r"[0-9]{4}-[0-9]{2}-[0-9]{2}",
    "calltime": r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]",
    "duration": _COUNT,
    "ring_time": _COUNT,
    "user_cost": rf"[0-9]{{1,9}}\.[0-9]{{1,{COST_PLACES}}}",
    "reason": _COUNT,
    "reason_q805": _COUNT,
    "HasRecordedCall": "[01]",
    "HasVoicemailRecording": "[01]",
    "HasFaxDocument": "[01]",
}
_MAY_BE_ABSENT = frozenset({"HasRecordedCall", "HasVoicemailRecording", "HasFaxDocument"})
_FIRST_GAP = re.compile(f"<CDR>([{_WHITE}]{{0,40}}+)<")


@lru_cache(8)
def _record(gap: str, *, escaped: bool) -> re.Pattern[str]:
    """The pattern of one record that has `gap`, a pattern, before each element.

    One that says which white space to expect, and knows no `&` where there is none, takes two thirds of the time.
    """
    any_text = _ESCAPED_TEXT if escaped else _TEXT

    def element(name: str) -> str:
        text = f"{gap}<{name}>({_PATTERNS.get(name, any_text)})</{name}>"
        return f"(?:{text})?+" if name in _MAY_BE_ABSENT else text

    return re.compile(f"<CDR>{''.join(element(field.element) for field in FIELDS)}{_SPACE}</CDR>{_SPACE}")


_WIDTH = len(FIELDS) + 1  # of what splitting by `_record` gives per record: what stands before it, and its texts

# What stands around the records is read as bytes, and is plain ASCII or not printed.
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
"""Bytes, some 200 records: as many as are read in one go. No other thread gets the interpreter meanwhile."""

_ODD_IN = 20  # one record of another form in so many is read by itself; more make the tree of the whole cheaper

_ATTRIBUTES = frozenset({"target", "name", "Code", "RequestId"})
_new_cdr = partial(tuple.__new__, Cdr)  # what `Cdr._make` does, without counting the columns of each record again
_FLAGS = {"1": True, "0": False, None: None}

# What well-formed XML never holds as it is: control characters, and two code points that are none.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


class _NotPrinted(Exception):
    """Something has not the operator's printed form."""


def responses(body: bytes, timezone: ZoneInfo) -> list[Response] | None:
    """Read an answer in the operator's printed form; None where anything of it has another."""
    if b"\r" in body:
        body = body.replace(b"\r\n", b"\n").replace(b"\r", b"\n")  # as XML reads line ends
    try:
        return _document(body, timezone)
    except _NotPrinted:
        return None


def _document(body: bytes, timezone: ZoneInfo) -> list[Response]:
    found = []
    at = _after(_HEAD, body, 0)
    while body.startswith(b"<Response ", at):
        one, at = _response(body, at, timezone)
        found.append(one)
    if _after(_FOOT, body, at) != len(body):
        raise _NotPrinted
    return found


def _response(body: bytes, at: int, timezone: ZoneInfo) -> tuple[Response, int]:
    head = _RESPONSE.match(body, at)
    if not head:
        raise _NotPrinted
    named = _ATTRIBUTE.findall(head[1].decode())
    attributes = dict(named)
    if len(attributes) != len(named) or attributes.keys() != _ATTRIBUTES or attributes["Code"] != OK:
        raise _NotPrinted
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
        raise _NotPrinted
    batch = Batch([])
    for piece in _pieces(body, begin, end):
        found = _piece(piece, timezone)
        batch.cdrs.extend(found.cdrs)
        batch.rejects.extend(found.rejects)
    return batch, end + len(_END_OF_RECORDS)


def _pieces(body: bytes, at: int, end: int) -> Iterator[str]:
    """The records between two places, cut behind the end of some.

    What is cut elsewhere, in a comment, is not well-formed, and thus not printed.
    """
    view = memoryview(body)  # decoding a slice of it copies the bytes once, not twice
    while at < end:
        found = body.find(_END_OF_RECORD, at + PIECE, end)
        cut = end if found < 0 else found + len(_END_OF_RECORD)
        try:
            piece = str(view[at:cut], "utf-8")
        except UnicodeDecodeError:
            raise _NotPrinted from None
        yield piece.lstrip(_WHITE)
        at = cut


def _piece(records: str, timezone: ZoneInfo) -> Batch:
    """Read column by column: one call per column, not per value."""
    escaped = "&" in records
    for gap in _gaps(records):
        pieces = _record(gap, escaped=escaped).split(records)
        between = pieces[::_WIDTH]  # what stands before, between and behind the records
        if (len(between) - between.count("")) * _ODD_IN <= len(between):
            break
    else:
        raise _NotPrinted
    cdrs: list[Cdr] = []
    if len(between) > 1:
        cdrs = _typed([pieces[place::_WIDTH] for place in range(1, _WIDTH)], escaped, timezone)
    odd = {place: text for place, text in enumerate(between) if text}
    return _mixed(cdrs, odd, timezone) if odd else Batch(cdrs)


def _gaps(records: str) -> Iterator[str]:
    """What may stand before each element: the same as in the first record, or else any white space."""
    if first := _FIRST_GAP.match(records):
        yield re.escape(first[1])
    yield _SPACE


def _mixed(cdrs: list[Cdr], odd: dict[int, str], timezone: ZoneInfo) -> Batch:
    """Put the few records that have another form in their places: `tree` reads each by itself.

    A piece of XML that is well-formed by itself, between others that are, is what it would be in the whole.
    """
    from cdrsync.source import xml_any

    batch = Batch([])
    begun = 0
    for place, text in odd.items():
        try:
            found = xml_any.records(f"<CDRs>{text}</CDRs>".encode(), timezone)
        except BadAnswer:
            raise _NotPrinted from None
        batch.cdrs.extend([*cdrs[begun:place], *found.cdrs])
        batch.rejects.extend(found.rejects)
        begun = place
    batch.cdrs.extend(cdrs[begun:])
    return batch


def _typed(columns: list[list[str]], escaped: bool, timezone: ZoneInfo) -> list[Cdr]:  # noqa: FBT001
    text = _unescaped if escaped else _as_it_is
    uid, ref, call_date, call_time, anumber, *texts, duration, ring_time, cost, reason, q805 = columns[: -len(FLAGS)]
    _refuse_forbidden(ref, anumber, *texts)
    uids = list(map(int, uid))
    if min(uids) < 1:
        raise _NotPrinted
    try:
        days = each(day_of, call_date)
    except ValueError:
        raise _NotPrinted from None  # no such day: `tree` says which record it is
    times = list(map(time.fromisoformat, call_time))
    refs = text(ref)
    started, how = started_column(days, times, refs, timezone)
    flag = _FLAGS.__getitem__
    rows = zip(
        uids,
        refs,
        days,
        times,
        started,
        how,
        text(anumber),
        *map(_once, map(text, texts)),
        each(int, duration),
        each(int, ring_time),
        each(Decimal, cost),
        each(int, reason),
        each(int, q805),
        *(map(flag, column) for column in columns[-len(FLAGS) :]),
        [None] * len(uids),
        strict=True,
    )
    return list(map(_new_cdr, rows))


def _refuse_forbidden(*columns: list[str]) -> None:
    """Give up where a text holds what XML forbids there. The other columns' patterns leave no room for it."""
    for column in columns:
        texts = " ".join(column)
        if "]]>" in texts or (not texts.isprintable() and _FORBIDDEN.search(texts)):
            raise _NotPrinted


def _once(column: list[str]) -> Iterable[str]:
    """Keep of equal texts one: of our own numbers, places and names that is a third of a page's memory."""
    kept: dict[str, str] = {}
    return map(kept.setdefault, column, column)


def _as_it_is(column: list[str]) -> list[str]:
    return column


def _unescaped(column: list[str]) -> list[str]:
    return [_plain(text) if "&" in text else text for text in column]


def _plain(text: str) -> str:
    text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", '"').replace("&apos;", "'")
    return text.replace("&amp;", "&")


def _after(pattern: re.Pattern[bytes], body: bytes, at: int) -> int:
    """Give the place after what must stand here."""
    found = pattern.match(body, at)
    if not found:
        raise _NotPrinted
    return found.end()
