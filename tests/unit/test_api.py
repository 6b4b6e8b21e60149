"""The API over real HTTP: documents, refusals, and matching answers to questions."""

from __future__ import annotations

import gzip
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from cdrsync import __version__
from cdrsync.errors import ApiUnreachable, BadAnswer
from cdrsync.model import Batch, CdrsAsk, Period, Refusal, Totals, TotalsAsk
from tests.support.answers import envelope, golden, logged_in, records, refused, response
from tests.support.api import ASK, AT_ONCE, SESSION, answering, api, obliging, refusing
from tests.support.canary import PASSWORD, VKEY
from tests.support.peer import Seen, http, peer

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdrsync.source.exchange import RequestDone


def test_one_document_holds_login_and_asks() -> None:
    """The first document carries SessionLogin before the asks, the next one only the SessionId above them."""
    with peer(obliging) as one:
        source = api(one.url)
        window = CdrsAsk(limit=1000, offset=2000, start_date=date(2016, 5, 23), end_date=date(2016, 5, 24))
        source.ask([CdrsAsk(limit=10, after_uid=7, number="01213691057"), window])
        source.ask([TotalsAsk(Period.DAY, "01213691057")])
        source.close()

    first, second = one.seen
    assert first.session_id is None
    assert first.names == ["SessionLogin", "GetCDRs", "GetCDRs"]
    assert first.parameters("SessionLogin") == {"Username": "user@example.com", "Password": PASSWORD, "VKey": VKEY}
    assert first.parameters("GetCDRs") == {"Number": "01213691057", "LastId": "7", "limit": "10"}
    assert b"<StartDate>2016-05-23</StartDate>\n<EndDate>2016-05-24</EndDate>\n<offset>2000</offset>" in first.body
    assert (second.session_id, second.names) == (SESSION, ["GetTotals"])
    assert second.parameters("GetTotals") == {"Period": "day", "Number": "01213691057"}
    assert len({*first.ids(), *second.ids()}) == 4
    head = first.head.lower()
    assert head.startswith("post /api/ http/1.1")
    assert "content-type: text/xml" in head
    assert f"user-agent: cdrsync/{__version__}" in head
    assert [seen.connection for seen in one.seen] == [1, 1]


def test_answers_come_in_order() -> None:
    """Each ask of a document gets its own answer, and the operator's clock is kept."""
    said = datetime(2016, 5, 23, 9, tzinfo=UTC)
    with peer(lambda seen: http(answering(seen), Date="Mon, 23 May 2016 09:00:00 GMT")) as one:
        source = api(one.url, clock=lambda: said + timedelta(minutes=1))
        document = source.ask([ASK, TotalsAsk(Period.DAY), CdrsAsk(limit=5, start_date=date(2016, 5, 23))])
        source.close()

    kinds = [type(answer) for answer in document.answers]
    assert kinds == [Batch, Totals, Batch]
    assert document.answered_at == said


@pytest.mark.parametrize(
    "date",
    [
        *("yesterday", "", "Thu, 01 Jan 1970 00:00:00 GMT", "Mon, 23 May 2016 06:00:00 GMT"),
        *("Mon, 23 May 2016 08:54:00 GMT", "Mon, 23 May 2016 09:06:00 GMT", "Tue, 23 May 2017 09:00:00 GMT"),
        *("Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 23 May 2016 09:00:00 -2400", "Mon, 99 May 2016 09:00:00 GMT"),
    ],
)
def test_a_clock_that_is_minutes_away_is_not_believed(date: str) -> None:
    """Without a `Date` near our own clock the answer's time is ours."""
    ours = datetime(2016, 5, 23, 9, tzinfo=UTC)
    with peer(lambda seen: http(answering(seen), Date=date)) as one:
        source = api(one.url, clock=lambda: ours)
        assert ours == source.ask([ASK]).answered_at
        source.close()


@pytest.mark.parametrize(
    "trouble",
    [
        refusing("500", "Internal failure"),
        refusing("503", "Please try again later"),
        refusing("200x", "The service is temporarily unavailable"),
        refusing("429", "Slow down"),
    ],
)
def test_trouble_in_the_envelope_passes_like_trouble_of_http(trouble: Callable[[Seen], bytes]) -> None:
    """A Code 429 or 5xx, or words of "later", on what was asked: tried again, and no final refusal in the end."""
    with peer(obliging, trouble, obliging) as one:
        source = api(one.url, retry=AT_ONCE)
        source.ask([ASK])
        assert isinstance(source.ask([ASK]).answers[0], Batch)
        source.close()
    with peer(obliging, trouble) as one:
        source = api(one.url, retry=AT_ONCE)
        source.ask([ASK])
        with pytest.raises(ApiUnreachable, match="the operator answers Code"):
            source.ask([ASK])
        source.close()


def test_a_refused_ask_leaves_its_siblings() -> None:
    """A Code on one request is a Refusal in its place, with the operator's words; the others are answered."""

    def step(seen: Seen) -> bytes:
        login, first, second, third = seen.ids()
        return http(
            envelope(
                logged_in(SESSION, login),
                response(*records(3), request_id=first),
                refused("400", f"Invalid limit for {VKEY.replace('&', '&amp;')} in {SESSION}", second),
                response(request_id=third),
            )
        )

    with peer(step) as one:
        source = api(one.url)
        first, second, third = source.ask([ASK, ASK, ASK]).answers
        source.close()

    assert isinstance(first, Batch)
    assert len(first) == 3
    assert second == Refusal("400", "Invalid limit for … in …")
    assert third == Batch([])


def _spoilt(spoil: Callable[[bytes, Seen], bytes]) -> Callable[[Seen], bytes]:
    return lambda seen: http(spoil(answering(seen), seen))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body, seen: body.replace(seen.ids()[1].encode(), b"Another"),
        lambda body, seen: body.replace(seen.ids()[1].encode(), seen.ids()[2].encode()),
        lambda body, _: body.replace(b'name="GetCDRs"', b'name="GetTotals"'),
        lambda body, _: body.replace(b'target="NoveroCDR"', b'target="Other"'),
        lambda body, _: body.replace(b'target="Auth" name="SessionLogin"', b'target="Auth" name="Logout"'),
        lambda body, _: body.replace(b"SessionId>", b"Token>"),
        lambda _body, seen: envelope(logged_in(SESSION, seen.ids()[0]), response(request_id=seen.ids()[1])),
        lambda body, seen: body.replace(b"</NoveroR", response(request_id=seen.ids()[2]).encode() + b"</NoveroR"),
        lambda _body, _: envelope(),
        lambda _body, _: b"",
        lambda body, _: body[:-40],
        lambda _body, _: b"<html><body>Maintenance</body></html>",
        lambda body, _: body.replace(b"<NoveroResponse>", b"<!DOCTYPE x><NoveroResponse>"),
        lambda _body, _: golden("refused-login")[:60],
    ],
)
def test_an_answer_to_something_else_is_refused(spoil: Callable[[bytes, Seen], bytes]) -> None:
    """What is not the answer to these very requests is refused whole, and asked again."""
    with peer(_spoilt(spoil), obliging) as one:
        source = api(one.url)
        with pytest.raises(BadAnswer):
            source.ask([ASK, ASK])
        assert len(source.ask([ASK]).answers) == 1
        source.close()


@pytest.mark.parametrize(
    ("answer", "says", "retry_after"),
    [
        (http(b"busy", "429 Too Many Requests", Retry_After="3600"), "HTTP 429", 900.0),
        (http(b"", "503 Service Unavailable", Retry_After="soon"), "HTTP 503", None),
        (
            http(b"", "503 x", Date="Mon, 23 May 2016 09:00:00 GMT", Retry_After="Mon, 23 May 2016 09:05:00 GMT"),
            "HTTP 503",
            300.0,
        ),
        (http(b"<html>Bad Gateway</html>", "502 Bad Gateway"), r"HTTP 502: the answer is a web page", None),
        (http(b"", "403 Forbidden"), "HTTP 403.*allow-list", None),
        (http(b"not here", "404 Not Found"), "HTTP 404.*api_url", None),
        (http(b"", "429 x", Retry_After="999999999"), "HTTP 429", 900.0),
        (http(b"", "503 x", Retry_After="9" * 299), "HTTP 503", 900.0),
        (http(b"", "503 x", Retry_After="Fri, 31 Dec 9999 23:59:59 GMT"), "HTTP 503", 900.0),
        (http(b"", "503 x", Retry_After="Thu, 01 Jan 1970 00:00:00 GMT"), "HTTP 503", 0.0),
        (http(b"", "301 Moved", Location="http://127.0.0.1:1/"), r"HTTP 301: moved to http://127\.0\.0\.1:1/", None),
        (http(b"", "302 Found", Location="/v2/?key=secret"), r"moved to http://127\.0\.0\.1:\d+/v2/\..*api_url", None),
        (http(b"", "308 x", Location="https://u:p@new.example/a"), r"moved to https://new\.example/a\.", None),
        (http(b"", "301 Moved", Location="http://[bad"), "HTTP 301", None),
        (http(b"", "301 Moved"), "HTTP 301", None),
        (http(envelope(refused("500", "Broken", "x")), "500 Internal Server Error"), "Broken", None),
    ],
)
def test_an_http_error_is_unreachable(answer: bytes, says: str, retry_after: float | None) -> None:
    """A status other than 200 without an answer to the asks is a failure of the way, with the operator's own wish."""
    with peer(lambda _: answer) as one:
        source = api(one.url)
        with pytest.raises(ApiUnreachable, match=says) as raised:
            source.ask([ASK])
        source.close()

    assert raised.value.retry_after == retry_after


def test_a_failure_is_tried_again() -> None:
    """A busy server and a broken answer are passed over within one ask."""
    with peer(lambda _: http(b"", "503 x", Retry_After="0"), lambda seen: http(answering(seen)[:90]), obliging) as one:
        source = api(one.url, retry=AT_ONCE)
        assert len(source.ask([ASK]).answers) == 1
        source.close()

    assert len(one.seen) == 3


@pytest.mark.parametrize(
    ("encoding", "declared", "header"),
    [
        ("utf-8", "", "text/xml"),
        ("utf-8", "", "text/xml; charset=ISO-8859-1"),  # a server's habit: it is what XML is
        ("utf-8", ' encoding="utf-8"', 'text/xml; charset="windows-1252"'),
        ("iso-8859-1", ' encoding="iso-8859-1"', "text/xml"),
        ("iso-8859-1", ' encoding="iso-8859-1"', "text/xml; charset=utf-8"),
        ("iso-8859-1", "", "text/xml; charset=ISO-8859-1"),
        ("cp1252", "", 'text/xml; Charset="Windows-1252"'),
    ],
)
def test_names_are_read_as_they_are_encoded(encoding: str, declared: str, header: str) -> None:
    """Said by the document, or where it says nothing by its HTTP header."""

    def step(seen: Seen) -> bytes:
        root = answering(seen).decode().partition("<NoveroResponse>")
        document = f'<?xml version="1.0"{declared}?>{root[1]}{root[2].replace("</alias>", "Café</alias>")}'
        return http(document.encode(encoding), Content_Type=header)

    with peer(step) as one:
        source = api(one.url)
        (batch,) = source.ask([ASK]).answers
        source.close()
    assert isinstance(batch, Batch)
    assert [str(call.alias).endswith("Café") for call in batch.cdrs] == [True, True]


def test_a_header_that_says_latin_1_by_habit_spoils_no_names() -> None:
    """Of a document in UTF-8 one record is broken: it is found by itself, and no other record's name is read anew."""

    def step(seen: Seen) -> bytes:
        whole = answering(seen).replace(b"</alias>", "Café</alias>".encode())
        broken = whole.rindex("é".encode()) + 1
        return http(whole[:broken] + whole[broken + 1 :], Content_Type="text/xml; charset=ISO-8859-1")

    with peer(step) as one:
        source = api(one.url)
        with pytest.raises(BadAnswer, match="not well-formed"):
            source.ask([ASK])
        source.close()


def test_gzip_is_read() -> None:
    """A compressed answer is the same answer, in one member or several."""
    done: list[RequestDone] = []

    def step(seen: Seen) -> bytes:
        body = answering(seen)
        return http(gzip.compress(body[:100]) + gzip.compress(body[100:]), Content_Encoding="gzip")

    with peer(step) as one:
        source = api(one.url, on_request=done.append)
        document = source.ask([ASK])
        source.close()

    assert document.size == done[0].bytes
    assert "accept-encoding: gzip\r\n" in one.seen[0].head.lower() + "\r\n"
    assert done[0].bytes == len(answering(one.seen[0]))
    assert done[0].outcome == "ok"


def test_notices_around_an_answer_are_told_once_a_day(caplog: pytest.LogCaptureFixture) -> None:
    """What a server writes around its XML is dropped, with one warning a day that holds no secret."""
    now = [0.0]
    with peer(lambda seen: http(b"\n<b>Notice</b> " + PASSWORD.encode() + b"\n" + answering(seen))) as one:
        source = api(one.url, monotonic=lambda: now[0])
        for hours in (0, 1, 23, 25):
            now[0] = hours * 3600.0
            assert isinstance(source.ask([ASK]).answers[0], Batch)
        source.close()

    assert (
        caplog.messages
        == ["the operator's answers have text around their XML, which is dropped: '<b>Notice</b> …'"] * 2
    )
