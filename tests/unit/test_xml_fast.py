"""The fast reader of the usual form: what it takes, and what it leaves to `xml_any`."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from cdrsync.source import xml_any, xml_fast
from tests.support.answers import LONDON, envelope, golden, logged_in, record, records, refused, response


@pytest.mark.parametrize(
    "name", ["page-get-cdrs", "page-download-first", "page-download-next", "empty-page", "autumn-night", "spring-night"]
)
def test_the_operators_pages_have_the_usual_form(name: str) -> None:
    """The answers of the operator's page take the fast road, and mean the same on both."""
    found = xml_fast.responses(golden(name), LONDON)

    assert found is not None
    assert xml_any.responses(golden(name), LONDON) == found


@pytest.mark.parametrize(
    "changes",
    [
        {"alias": "Trinidad &amp; Tobago &lt;&gt;&quot;&apos;&amp;amp;"},
        {"alias": "Ünï \U0001f4de \u202e ]] >"},
        {"alias": "line\nend\ttab \x85 \u2028 \xa0"},
        {"HasRecordedCall": None},
        {"HasFaxDocument": None},
        {"alias": None, "ring_time": None},
        {"ref": None, "anumber": None, "anumber_location": None, "reason": None, "reason_q805": None},
        {"user_cost": "123456789.123456"},
    ],
)
def test_still_of_the_usual_form(changes: dict[str, str | None]) -> None:
    """Escaped and foreign text and absent elements don't leave the fast road, and mean the same on both."""
    body = envelope(response(*records(2), record(**changes), *records(2, 900)))
    found = xml_fast.responses(body, LONDON)

    assert found is not None
    assert xml_any.responses(body, LONDON) == found


_GOOD = envelope(logged_in(), response(*records(3)), response(request_id="Request2"))


def test_several_responses_are_read() -> None:
    """A login and several pages in one document take the fast road."""
    found = xml_fast.responses(_GOOD, LONDON)

    assert found is not None
    assert xml_any.responses(_GOOD, LONDON) == found
    assert [None if one.batch is None else len(one.batch) for one in found] == [None, 3, 0]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xef\xbb\xbf" + _GOOD,
        _GOOD[:-20],
        _GOOD + b"x",
        _GOOD.replace(b"Unknown", b"<![CDATA[Unknown]]>", 1),
        _GOOD.replace(b"Unknown", b"Unknown<!-- -->", 1),
        _GOOD.replace(b"Unknown", b"Unknown]]>", 1),
        _GOOD.replace(b"Unknown", b"Unknown\x01", 1),
        _GOOD.replace(b"Unknown", b"Unknown\xff", 1),
        _GOOD.replace(b"Unknown", b"Unknown\xef\xbf\xbf", 1),
        _GOOD.replace(b"Unknown", b"Unknown&#33;", 1),
        _GOOD.replace(b"Unknown", b"Unknown & x", 1),
        _GOOD.replace(b"Unknown", b"Unknown&nbsp;", 1),
        _GOOD.replace(b"<uid>1<", b"<uid>0<"),
        _GOOD.replace(b"<uid>1<", b"<uid >1<"),
        _GOOD.replace(b"2013-08-03", b"2013-02-30", 1),
        _GOOD.replace(b"2013-08-03", b"1913-02-03", 1),
        _GOOD.replace(b"20:00:00", b"24:00:00", 1),
        _GOOD.replace(b' Code="200"', b' Code="200" Code="200"', 1),
        _GOOD.replace(b' Code="200"', b' Code="200" xmlns="urn:x"', 1),
        _GOOD.replace(b' Code="200"', b"", 1),
        _GOOD.replace(b"<CDRs>", b"<CDRs>x", 1),
        _GOOD.replace(b"</CDRs>", b"</CDRs>x", 1),
        _GOOD.replace(b"<CDRs>", b"<!--<CDRs>", 1),
        _GOOD.replace(b"</CDR>", b"</CDR>x", 1),
        _GOOD.replace(b"</CDRs>", b"", 1),
        envelope(refused("500", "no", "Request1")),
    ],
)
def test_another_form(body: bytes) -> None:
    """Anything that has another form is left to `xml_any`."""
    assert xml_fast.responses(body, LONDON) is None


_ODD = [
    record(alias="<!-- </CDR> & <CDR> -->x"),
    record(alias="Café &#x1F4DE;"),
    record(uid="77", duration="?"),
    record(novel="x"),
    record().replace("<alias></alias>", "<alias/>"),
    "<!-- nothing -->",
]
_NOT_BY_ITSELF = [
    "<!-- " + record() + " -->",
    "<![CDATA[" + record() + "]]>",
    "<Group>" + record() + "</Group>",
    record(alias="<![CDATA[</CDRs>]]>"),
    record(alias="<!-- </CDRs> -->"),
    "Notice: x",
    "</CDRs><CDRs>",
]


@pytest.mark.parametrize("odd", [*_ODD, *_NOT_BY_ITSELF])
def test_one_odd_record_leaves_all_to_the_other_reader(odd: str) -> None:
    """One record of another form, markup that reaches over others, or words between them."""
    page = records(60)
    page.insert(13, odd)

    assert xml_fast.responses(envelope(response(*page)), LONDON) is None


@pytest.mark.parametrize("gap", ["", "\n", "\t ", "\n" * 60])
def test_white_space_may_differ_from_record_to_record(gap: str) -> None:
    """The first record's is what the others are expected to have; where they have not, nothing is lost but time."""
    page = [re.sub(r"\s+<", f"{gap}<", one) if place % 2 else one for place, one in enumerate(records(40))]
    for some in (page, page[1:]):
        body = envelope(response(*some))
        found = xml_fast.responses(body, LONDON)

        assert found is not None
        assert xml_any.responses(body, LONDON) == found


def test_the_usual_form_needs_no_lxml() -> None:
    """An idle poll never loads lxml: that is a good part of its start-up time."""
    code = (
        "import sys; from zoneinfo import ZoneInfo; from cdrsync.source.decode import decode; "
        f"decode({envelope(logged_in(), response())!r}, timezone=ZoneInfo('Europe/London')); "
        "sys.exit('lxml' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
