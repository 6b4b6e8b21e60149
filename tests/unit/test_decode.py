"""Bytes of an answer → typed responses, or a refusal of the whole."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from cdrsync.errors import BadAnswer
from cdrsync.model import FIELDS, Cdr, Reject
from cdrsync.source.decode import decode, decode_record, without_noise
from tests.support.answers import FOLDER, GOLDEN, LONDON, as_json, envelope, golden, record, records, response, said

if TYPE_CHECKING:
    from cdrsync.model import Batch


def _batch(body: bytes) -> Batch:
    (one,) = decode(body, timezone=LONDON)
    assert one.batch is not None
    return one.batch


def _one(**changes: str | None) -> Cdr | Reject:
    batch = _batch(envelope(response(record(**changes))))
    both: list[Cdr | Reject] = [*batch.cdrs, *batch.rejects]
    (only,) = both
    return only


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str) -> None:
    """Each answer in tests/data/answers means what the JSON beside it says, and what that does not say is not there."""
    expected = json.loads((FOLDER / f"{name}.json").read_text(), object_hook=said)

    assert expected["responses"] == as_json(decode(golden(name), timezone=LONDON))


def test_every_column_of_a_call_is_a_field_or_computed() -> None:
    """The table of fields names each column of a Cdr once, in its order, but for the three that are computed."""
    computed = {"started_at", "wall_clock", "extra"}

    assert [field.column for field in FIELDS] == [name for name in Cdr._fields if name not in computed]
    assert len({field.element for field in FIELDS}) == len(FIELDS)


_GOOD = envelope(response(*records(3)))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "the answer is empty"),
        (b" \r\n\t", "the answer is empty"),
        (b"<!DOCTYPE html><html><body>Sorry</body></html>", "the answer is a web page (HTML)"),
        (b"<html><head><title>502 Bad Gateway</title></head></html>", "the answer is a web page (HTML)"),
        (b'{"error": 1}', "the answer is not a <NoveroResponse>"),
        (b"<NoveroRequest></NoveroRequest>", "the answer is not a <NoveroResponse>"),
        (b"<NoveroResponses/>", "the answer is not a <NoveroResponse>"),
        (b"Warning: mysql_connect() in db.php\n" + _GOOD, "the answer is not a <NoveroResponse>"),
        (_GOOD.replace(b"<NoveroResponse>", b'<NoveroResponse xmlns="urn:x">'), "the answer's root is <{urn:x}"),
        (_GOOD[: len(_GOOD) // 2], "the answer is not well-formed XML"),
        (_GOOD[:-3], "the answer is not well-formed XML"),
        (_GOOD + b"<more/>", "the answer is not well-formed XML"),
        (_GOOD + b"Fatal error", "the answer is not well-formed XML"),
        (_GOOD.replace(b"Unknown", b"Un\xffknown", 1), "the answer is not well-formed XML"),
        (_GOOD.replace(b"Unknown", b"Un\x00known", 1), "the answer is not well-formed XML"),
        (_GOOD.replace(b"Unknown", b"Un\x0bknown", 1), "the answer is not well-formed XML"),
        (_GOOD.replace(b"Unknown", b"Un&#11;known", 1), "the answer is not well-formed XML"),
        (_GOOD.replace(b"Unknown", b"Un\xef\xbf\xbeknown", 1), "the answer is not well-formed XML"),
        (_GOOD.replace(b"Unknown", b"Un]]>known", 1), "the answer is not well-formed XML"),
        (_GOOD.replace(b"Unknown", b"Un&nbsp;known", 1), "the answer is not well-formed XML"),
        (_GOOD.replace(b"Code=", b'Code="200" Code='), "the answer is not well-formed XML"),
        (_GOOD.replace(b"<CDRs>", b"<CDRs>Notice: x", 1), "<CDRs> of the answer holds loose text"),
        (_GOOD.replace(b"<CDRs>", b"Notice: x<CDRs>", 1), "<Response> of the answer holds loose text"),
        (_GOOD.replace(b"<Response ", b"...<Response ", 1), "<NoveroResponse> of the answer holds loose text"),
        (b"<NoveroResponse><Fault><Text>x</Text></Fault></NoveroResponse>", "<Fault> where a <Response> belongs"),
        (_GOOD.replace(b"CDRs>", b"Calls>"), "<Calls>, which the operator's page does not know"),
        (_GOOD.replace(b"CDR>", b"Call>"), "<Call>, which the operator's page does not know"),
        (_GOOD.decode().encode("utf-16"), "the answer is not a <NoveroResponse>"),
        (b'<?xml version="1.0" encoding="UTF-7"?>' + _GOOD.split(b"?>", 1)[1], "encoded in 'UTF-7'"),
        (b"<NoveroResponse>" + b"<Response>" * 300, "the answer is not well-formed XML"),
    ],
)
def test_refused_whole(body: bytes, says: str) -> None:
    """What is not a whole <NoveroResponse> is refused, and the message says what came instead."""
    with pytest.raises(BadAnswer) as refused:
        decode(body, timezone=LONDON)

    assert says in refused.value.message


_BOMB = '<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "prolog",
    [
        "<!DOCTYPE NoveroResponse>",
        '<!DOCTYPE NoveroResponse SYSTEM "file:///etc/passwd">',
        f"<!DOCTYPE NoveroResponse [{_BOMB}]>",
        '<!DOCTYPE NoveroResponse [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<?xml version="1.0"?>\n<!-- <NoveroResponse> --><?pi <NoveroResponse> ?>\n<!DOCTYPE NoveroResponse>',
        '<?xml version="1.0" encoding="ISO-8859-1"?> <!DOCTYPE NoveroResponse [<!ENTITY i "x">]>',
    ],
)
def test_no_document_type_is_ever_read(prolog: str) -> None:
    """Any DOCTYPE makes the answer one that the API never sends, wherever it hides in the prolog."""
    body = prolog.encode() + b"<NoveroResponse>&i;</NoveroResponse>"

    with pytest.raises(BadAnswer):
        decode(body, timezone=LONDON)


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbf" + _GOOD,
        _GOOD.replace(b"\n", b"\r\n"),
        _GOOD.replace(b"\n", b"\r"),
        b"".join(line.strip() for line in _GOOD.splitlines()),
        b"<!-- a -- b -->".replace(b" -- ", b" - ") + b"<?a b?c?>" + _GOOD.split(b"?>", 1)[1],
        _GOOD.replace(b"<alias></alias>", b"<alias/>"),
        _GOOD.replace(b'RequestId="Request1"', b"RequestId='Request1'"),
        _GOOD.replace(b"<CDRs>", b"<Count>3</Count><CDRs>"),
        _GOOD.replace(b'version="1.0"', b'version="1.0" encoding="utf-8"'),
        _GOOD.replace(b'version="1.0"', b'version="1.0" encoding="ISO-8859-1"'),
    ],
)
def test_another_dress_of_the_same_answer(body: bytes) -> None:
    """Line ends, white space, quotes, a BOM, comments and a new leaf beside the records change nothing."""
    assert decode(_GOOD, timezone=LONDON) == decode(body, timezone=LONDON)


def test_latin_1_is_read_as_declared() -> None:
    """An answer in a declared single-byte encoding gives the same text."""
    body = envelope(response(record(alias="Café"))).decode()
    body = body.replace('version="1.0"', 'version="1.0" encoding="ISO-8859-1"')

    assert [cdr.alias for cdr in _batch(body.encode("latin-1")).cdrs] == ["Café"]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"uid": None}, "uid: missing"),
        ({"uid": " "}, "uid: empty"),
        ({"uid": "0"}, "uid: not between 1 and 9223372036854775807: '0'"),
        ({"uid": "-1"}, "uid: not between 1 and 9223372036854775807: '-1'"),
        ({"uid": "9223372036854775808"}, "uid: not between 1 and 9223372036854775807: '9223372036854775808'"),
        ({"uid": "1" * 5000}, f"uid: not a whole number: '{'1' * 60}…'"),
        ({"uid": "\u0661\u0662"}, "uid: not a whole number: '\u0661\u0662'"),
        ({"uid": "1_0"}, "uid: not a whole number: '1_0'"),
        ({"calldate": "2013-8-3"}, "calldate: not yyyy-mm-dd: '2013-8-3'"),
        ({"calldate": "0000-00-00"}, "calldate: no such day: '0000-00-00'"),
        ({"calldate": "2013-02-29"}, "calldate: no such day: '2013-02-29'"),
        ({"calldate": "1989-12-31"}, "calldate: year 1989 is not between 1990 and 2100: '1989-12-31'"),
        ({"calldate": "2101-01-01"}, "calldate: year 2101 is not between 1990 and 2100: '2101-01-01'"),
        ({"calltime": "24:00:00"}, "calltime: not HH:MM:SS: '24:00:00'"),
        ({"calltime": "9:00:00"}, "calltime: not HH:MM:SS: '9:00:00'"),
        ({"calltime": "20:48"}, "calltime: not HH:MM:SS: '20:48'"),
        ({"duration": "-1"}, "duration: not between 0 and 2147483647: '-1'"),
        ({"duration": "2147483648"}, "duration: not between 0 and 2147483647: '2147483648'"),
        ({"duration": "1.0"}, "duration: not a whole number: '1.0'"),
        ({"duration": ""}, "duration: empty"),
        ({"ring_time": "-1"}, "ring_time: not between 0 and 2147483647: '-1'"),
        ({"user_cost": None}, "user_cost: missing"),
        ({"user_cost": "NaN"}, "user_cost: not pounds below 10^9 with at most 6 decimals: 'NaN'"),
        ({"user_cost": "1E3"}, "user_cost: not pounds below 10^9 with at most 6 decimals: '1E3'"),
        ({"user_cost": "1,000.00"}, "user_cost: not pounds below 10^9 with at most 6 decimals: '1,000.00'"),
        ({"user_cost": "1000000000"}, "user_cost: not pounds below 10^9 with at most 6 decimals: '1000000000'"),
        ({"reason": "2147483648"}, "reason: not between -2147483648 and 2147483647: '2147483648'"),
        ({"reason_q805": "x"}, "reason_q805: not a whole number: 'x'"),
        ({"HasFaxDocument": "2"}, "HasFaxDocument: neither 1 nor 0: '2'"),
        ({"alias": "a<b/>c"}, "alias: holds markup"),
        ({"alias": "a</alias>b<alias>"}, "text between the elements"),
        ({"alias": "a</alias><alias>"}, "alias: stands twice"),
    ],
)
def test_a_record_that_cannot_be_typed_is_rejected(changes: dict[str, str | None], problem: str) -> None:
    """One line names the element and what is wrong; the record's XML is kept."""
    reject = _one(**changes)

    assert isinstance(reject, Reject)
    assert problem == reject.problem
    assert reject.raw.startswith("<CDR>")
    assert reject.raw.endswith("</CDR>")


def test_a_reject_stops_no_other() -> None:
    """Records before and behind a broken one are read; the count is that of the answer."""
    good = records(1000)
    batch = _batch(envelope(response(*good[:500], record(uid="77", duration="?"), *good[500:])))

    assert list(range(1, 1001)) == [cdr.uid for cdr in batch.cdrs]
    assert [reject.uid for reject in batch.rejects] == [77]
    assert len(batch) == 1001


def test_a_uid_that_stands_twice_is_nobodys() -> None:
    """A Reject names no uid where two are sent."""
    reject = _one(uid="1</uid><uid>2")

    assert isinstance(reject, Reject)
    assert reject.uid is None


@pytest.mark.parametrize(
    ("changes", "column", "value"),
    [
        ({"uid": "9223372036854775807"}, "uid", 9223372036854775807),
        ({"uid": "\n 5 "}, "uid", 5),
        ({"uid": "0005"}, "uid", 5),
        ({"ref": None}, "ref", None),
        ({"alias": ""}, "alias", ""),
        ({"alias": None}, "alias", None),
        ({"alias": " - "}, "alias", " - "),
        ({"alias": "a &amp; b &lt;c&gt; &quot;&apos;"}, "alias", "a & b <c> \"'"),
        ({"alias": "&amp;lt;"}, "alias", "&lt;"),
        ({"alias": "&#x1F4DE;\u202e"}, "alias", "\U0001f4de\u202e"),
        ({"alias": "x" * 100_000}, "alias", "x" * 100_000),
        ({"ring_time": ""}, "ring_time", None),
        ({"ring_time": None}, "ring_time", None),
        ({"reason": "-5"}, "reason", -5),
        ({"duration": "2147483647"}, "duration", 2147483647),
        ({"user_cost": "999999999.999999"}, "user_cost", Decimal("999999999.999999")),
        ({"user_cost": "-0.120"}, "user_cost", Decimal("-0.12")),
        ({"user_cost": "3"}, "user_cost", Decimal(3)),
        ({"HasRecordedCall": None}, "has_recorded_call", None),
        ({"HasRecordedCall": ""}, "has_recorded_call", None),
        ({"HasFaxDocument": " 1 "}, "has_fax_document", True),
        ({"Zebra": "z", "Ant": "a"}, "extra", '{"Ant":"a","Zebra":"z"}'),
        ({"uid2": ""}, "extra", '{"uid2":""}'),
    ],
)
def test_values(changes: dict[str, str | None], column: str, value: object) -> None:
    """Numbers, dates and flags may stand in white space; text is as sent; what is unknown is kept."""
    cdr = _one(**changes)

    assert isinstance(cdr, Cdr)
    assert value == getattr(cdr, column)


def test_a_reject_is_read_again() -> None:
    """What a Reject keeps can be decoded by itself: the same Reject today, a record once the rules fit it."""
    reject = _one(duration="?", alias="Café &amp; \U0001f4de", more="<b>x</b>")
    assert isinstance(reject, Reject)

    assert reject == decode_record(reject.raw, timezone=LONDON)
    assert _one(duration="7", alias="Café &amp; \U0001f4de", more="<b>x</b>") == decode_record(
        reject.raw.replace("<duration>?", "<duration>7"), timezone=LONDON
    )


@pytest.mark.parametrize("raw", ["", "<CDR>", "<CDR/><CDR/>", "words", "<!DOCTYPE x><CDR/>", "<x/>"])
def test_what_is_no_record_is_not_read_again(raw: str) -> None:
    """Only one whole record can be decoded by itself."""
    with pytest.raises(BadAnswer):
        decode_record(raw, timezone=LONDON)


@pytest.mark.parametrize(
    "before",
    [
        b"\n\n",
        b" \t",
        b"<br />\n<b>Warning</b>:  mysql_connect() in <b>db.php</b> on line <b>7</b><br />\n",
        b"\xef\xbb\xbf\n",
        b"x",
    ],
)
@pytest.mark.parametrize("after", [b"", b"\n\nNotice: Undefined index: x in y.php", b"<br/>"])
def test_what_stands_around_a_whole_document_is_taken_off(before: bytes, after: bytes) -> None:
    """Blank lines and notices of the server's software, before `<?xml` and after the root."""
    within = without_noise(before + _GOOD + after)

    assert within is not None
    document, noise = within
    assert decode(document, timezone=LONDON) == decode(_GOOD, timezone=LONDON)
    assert noise.split() == (before + b"\n" + after).decode().split()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"Sorry",
        _GOOD.strip(),
        _GOOD[:-5],
        b"Notice" + _GOOD[:-30],
        b"<!DOCTYPE html>" + _GOOD,
        b"<!-- " + _GOOD + b" -->",
        _GOOD + _GOOD + b"x",
        b"x" * 70_000 + _GOOD,
        _GOOD + b"x" * 70_000,
    ],
)
def test_nothing_else_is_taken_off(body: bytes) -> None:
    """A document that is not whole, a document type, a comment, two documents, a flood: nothing is believed."""
    within = without_noise(body)
    if within is not None:
        with pytest.raises(BadAnswer):
            decode(within[0], timezone=LONDON)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (envelope(response(record(alias="x" * 1_100_000))), "a record or a text of more than 1048576 bytes"),
        (b"<NoveroResponse>" + b" " * 1_100_000 + b"</NoveroResponse>", "of more than 1048576 bytes"),
        (envelope(response(*["<CDR/>"] * 25_001)), "more than 25000 records"),
        (envelope("<x/>" * 1_000_001), "more elements and attributes"),
        (envelope("<x a='' b=''/>" * 100_001), "more elements and attributes"),
        (envelope("<Response/>" * 1_001), "1001 responses"),
    ],
)
def test_too_much_is_refused(body: bytes, says: str) -> None:
    """One answer's records, elements, attributes and texts are bounded, with a line that says which."""
    with pytest.raises(BadAnswer, match=says):
        decode(body, timezone=LONDON)
