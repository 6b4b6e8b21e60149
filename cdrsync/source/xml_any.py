"""Any well-formed answer → responses, through lxml: slower than `xml_fast`, and the measure of what is right.

Hardened: no document type, no entities but XML's own five, no network, libxml2's limits on depth and size left on. Each
record is taken out of the tree when it ends, so that the tree of a large answer stays small.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from lxml import etree

from cdrsync.errors import BadAnswer
from cdrsync.model import FIELDS, Batch, Cdr, Reject
from cdrsync.source import record
from cdrsync.source.record import Untypeable, uid_of
from cdrsync.source.response import OK, Response, TotalsSent

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

_KNOWN = frozenset(field.element for field in FIELDS)
_BATCH_NAMES = frozenset({"GetCDRs", "GetCDR"})

# Everything up to the root element, byte by byte as XML has it: declaration, comments, processing instructions and
# white space, but no document type. Nothing else reaches the parser, so no DTD is ever read.
_PROLOG = re.compile(
    rb"(?:\xef\xbb\xbf)?+"
    rb"(?P<declaration><\?xml[ \t\r\n][^?>]*+\?>)?+"
    rb"(?:[ \t\r\n]++|<!--(?:[^-]++|-[^-])*+-->|<\?(?!xml[ \t\r\n?])[^?]*+(?:\?(?!>)[^?]*+)*+\?>)*+"
    rb"<NoveroResponse(?=[ \t\r\n/>])"
)
_ENCODING = re.compile(rb"""encoding[ \t\r\n]*=[ \t\r\n]*["']([A-Za-z0-9._-]*)["']""")

# Encodings in which the bytes of `_PROLOG` mean what they seem to mean.
_ENCODINGS = frozenset({b"utf-8", b"utf8", b"us-ascii", b"ascii", b"iso-8859-1", b"iso-8859-15", b"windows-1252"})


_HARDENED: Any = {
    "resolve_entities": False,
    "load_dtd": False,
    "dtd_validation": False,
    "no_network": True,
    "huge_tree": False,
    "recover": False,
    "remove_comments": True,
    "remove_pis": True,
}
MAX_RESPONSES = 1_000

Typed = dict[Any, Cdr | Reject]  # what became of each `<CDR>` element


def responses(body: bytes, timezone: ZoneInfo, piece: int = 65536) -> list[Response]:
    """Read a whole answer, `piece` bytes at a time. Raises BadAnswer for all but a complete `<NoveroResponse>`."""
    _check_prolog(body)
    parser = etree.XMLPullParser(("end",), tag="CDR", **_HARDENED)
    typed: Typed = {}
    try:
        for at in range(0, len(body), piece):
            parser.feed(body[at : at + piece])
            events: Any = parser.read_events()
            typed |= {element: _taken(element, timezone) for _, element in events if _is_sent(element)}
        root = parser.close()
    except etree.XMLSyntaxError as error:
        raise _not_well_formed(error) from None
    if root.tag != "NoveroResponse" or root.getroottree().docinfo.internalDTD is not None:
        raise BadAnswer(f"the answer's root is <{_name(root)}>")
    _no_text(root)
    if len(root) > MAX_RESPONSES:
        raise BadAnswer(f"the answer holds {len(root)} responses")
    return [_response(element, typed) for element in root]


def _is_sent(element: etree._Element) -> bool:
    """Whether a `<CDR>` stands where the operator's page has it: in `<CDRs>`, or in a `<Response>` itself."""
    above = [str(one.tag) for one in element.iterancestors()]
    return above in (["CDRs", "Response", "NoveroResponse"], ["Response", "NoveroResponse"])


def _taken(element: etree._Element, timezone: ZoneInfo) -> Cdr | Reject:
    one = _record(element, timezone)
    del element[:]
    element.text = None
    return one


def records(body: bytes, timezone: ZoneInfo) -> Batch:
    """Read a `<CDRs>` that stands alone, encoded in UTF-8 and without a prolog. Raises BadAnswer."""
    try:
        root = etree.fromstring(body, etree.XMLParser(**_HARDENED))
    except etree.XMLSyntaxError as error:
        raise _not_well_formed(error) from None
    batch = Batch([])
    _take(root, {element: _record(element, timezone) for element in root.iterchildren("CDR")}, batch)
    return batch


def _check_prolog(body: bytes) -> None:
    prolog = _PROLOG.match(body)
    if not prolog:
        raise BadAnswer(f"the answer is {_what_it_is(body)}")
    encoding = _ENCODING.search(prolog["declaration"] or b"")
    if encoding and encoding[1].lower() not in _ENCODINGS:
        raise BadAnswer(f"the answer is encoded in {encoding[1].decode()!r}, which cdrsync does not read")


def _not_well_formed(error: etree.XMLSyntaxError) -> BadAnswer:
    return BadAnswer(f"the answer is not well-formed XML: {error.msg}")


def _what_it_is(body: bytes) -> str:
    """Say in a few words, for people, what came instead of an answer."""
    start = body[:1000].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        return "empty"
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "a web page (HTML)"
    if b"<!doctype" in start:
        return "XML with a document type declaration, which the API never sends"
    return "not a <NoveroResponse>"


def _response(element: etree._Element, typed: Typed) -> Response:
    if element.tag != "Response":
        raise BadAnswer(f"the answer holds <{_name(element)}> where a <Response> belongs")
    _no_text(element)
    code = (element.get("Code") or "").strip()
    name = element.get("name") or ""
    message, session_id, batch = "", None, None
    totals: list[TotalsSent] = []
    if code != OK:
        message = _message(element)
    for child in element if code == OK else ():
        match child.tag:
            case "CDRs" | "CDR":
                batch = Batch([]) if batch is None else batch
                _take(child, typed, batch)
            case "CDRTotals":
                totals.append(_totals(child))
            case "SessionId":
                session_id = "".join(_texts_in(child)).strip()
            case "ResponseMessage":
                message = _one_line(_texts_in(child))
            case _ if len(child):
                raise BadAnswer(f"a Response holds <{_name(child)}>, which the operator's page does not know")
            case _:
                pass  # a new leaf beside the records says nothing about a call
    if batch is None and code == OK and name in _BATCH_NAMES and not message:
        batch = Batch([])  # no <CDRs> at all: the operator has none; with a message, `answers` says what that means
    return Response(
        target=element.get("target") or "",
        name=name,
        code=code,
        request_id=element.get("RequestId") or "",
        message=message,
        session_id=session_id,
        batch=batch,
        totals=tuple(totals),
    )


def _take(element: etree._Element, typed: Typed, batch: Batch) -> None:
    """Put the records of a `<CDRs>`, or a `<CDR>` by itself, into a batch."""
    if element.tag == "CDRs":
        _no_text(element)
    for child in element if element.tag == "CDRs" else (element,):
        one = typed.get(child)
        if isinstance(one, Cdr):
            batch.cdrs.append(one)
        elif one is not None:
            batch.rejects.append(one)
        elif len(child):
            raise BadAnswer(f"<CDRs> holds <{_name(child)}>, which the operator's page does not know")


def _record(element: etree._Element, timezone: ZoneInfo) -> Cdr | Reject:
    texts: dict[str, str] = {}
    try:
        unknown = _sort(element, texts)
        return record.typed(texts, _extra(unknown) if unknown else None, timezone)
    except Untypeable as problem:
        raw = etree.tostring(element, encoding="unicode", with_tail=False)
        return Reject(uid_of(texts), raw, str(problem))


def _sort(element: etree._Element, texts: dict[str, str]) -> list[etree._Element]:
    """Put the text of each documented element into `texts`; give the others. Raises Untypeable."""
    unknown = []
    problem = "text between the elements" if _is_text(element.text) else ""
    for child in element:
        tag = child.tag
        if _is_text(child.tail):
            problem = problem or "text between the elements"
        if tag not in _KNOWN:
            unknown.append(child)
        elif tag in texts:
            problem = problem or f"{tag}: stands twice"
            texts[str(tag)] = ""  # neither of the two is known to be right
        elif len(child):
            problem = problem or f"{tag}: holds markup"
        else:
            texts[str(tag)] = child.text or ""
    if problem:
        raise Untypeable(problem)
    return unknown


def _extra(unknown: list[etree._Element]) -> str:
    """Give the canonical JSON of elements we don't know: {name: text}, a list where a name stands more than once."""
    values: dict[str, list[str]] = {}
    for child in unknown:
        values.setdefault(str(child.tag), []).append(_value(child))
    plain = {name: texts[0] if len(texts) == 1 else texts for name, texts in values.items()}
    return json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _value(element: etree._Element) -> str:
    """Give an element's text, or the whole of its XML where it holds more than text."""
    if len(element) or element.attrib:
        return etree.tostring(element, encoding="unicode", with_tail=False)
    return element.text or ""


def _totals(element: etree._Element) -> TotalsSent:
    return TotalsSent(element.get("Period"), {str(child.tag): _value(child) for child in element})


def _message(element: etree._Element) -> str:
    found = element.find(".//ResponseMessage")
    return "" if found is None else _one_line(_texts_in(found))


def _texts_in(element: etree._Element) -> list[str]:
    return [str(text) for text in element.itertext()]


def _one_line(texts: list[str]) -> str:
    return " ".join("".join(texts).split())


def _no_text(element: etree._Element) -> None:
    """Refuse words between elements that hold only elements: something written into the answer."""
    if _is_text(element.text) or any(_is_text(child.tail) for child in element):
        raise BadAnswer(f"<{_name(element)}> of the answer holds loose text")


def _is_text(text: str | None) -> bool:
    return bool(text and text.strip(" \t\r\n"))


def _name(element: etree._Element) -> str:
    return str(element.tag)[:60]
