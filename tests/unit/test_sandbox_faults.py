"""Each fault of the sandbox goes wrong in its own way, is counted when it did, and never otherwise."""

from __future__ import annotations

import zlib
from xml.etree import ElementTree as ET

import httpx
import pytest

from tests.support.operator import Fault, Settings, World
from tests.unit.sandbox_client import GET_CDRS, GET_TOTALS, LOGIN, Client, code, nested, uids, world

MEGABYTE = 1_000_000


def _world(settings: Settings | None = None) -> World:
    place = world(settings)
    place.add_history(calls=60, days=1)
    return place


def _send(place: World, fault: Fault, **parameters: object) -> httpx.Response:
    """One request for records that this fault befalls."""
    client = Client(place)
    client.log_in()
    place.faults.script(fault)
    answer = client.send(GET_CDRS, limit=20, **parameters)
    assert place.faults.fired[fault] == 1
    return answer


@pytest.mark.parametrize(
    ("fault", "status", "retry_after"),
    [(Fault.HTTP_429, 429, "7"), (Fault.HTTP_503, 503, "7"), (Fault.HTTP_500, 500, None)],
)
def test_http_errors(fault: Fault, status: int, retry_after: str | None) -> None:
    """With Retry-After where it belongs, and no XML."""
    answer = _send(_world(Settings(retry_after=7)), fault)
    assert (answer.status_code, answer.headers.get("Retry-After")) == (status, retry_after)
    assert answer.text == "Please try again later\n"


def test_an_http_error_with_an_envelope() -> None:
    """As the official PHP client expects them: HTTP 500 with a <Response> that says so too."""
    answer = _send(_world(), Fault.HTTP_500_ENVELOPE)
    attributes = {"target": "NoveroCDR", "name": "GetCDRs", "Code": "500", "RequestId": "r1"}
    message = ["ResponseMessage", {}, "Internal error", []]
    assert answer.status_code == 500
    assert nested(answer.content) == ["NoveroResponse", {}, "", [["Response", attributes, "", [message]]]]


@pytest.mark.parametrize("fault", [Fault.TRUNCATED, Fault.GARBLED, Fault.EMPTY_BODY, Fault.HTML])
def test_what_is_no_xml_comes_with_http_200(fault: Fault) -> None:
    """Wherever it is cut or garbled, no XML parser accepts it."""
    place = _world()
    client = Client(place)
    for _ in range(50):
        client.log_in()
        place.faults.script(fault)
        answer = client.send(GET_CDRS, limit=5)
        assert answer.status_code == 200
        with pytest.raises(ET.ParseError):
            ET.fromstring(answer.content)
    assert place.faults.fired[fault] == 50


def test_another_root() -> None:
    """Well-formed, but nobody's answer."""
    assert nested(_send(_world(), Fault.WRONG_ROOT).content)[0] == "Error"


@pytest.mark.parametrize(("fault", "mark"), [(Fault.DOCTYPE, b"SYSTEM"), (Fault.ENTITY_BOMB, b"<bomb>&j;</bomb>")])
def test_document_types(fault: Fault, mark: bytes) -> None:
    """The right document behind a DOCTYPE: who ignores that takes in what it brings."""
    body = _send(_world(), fault).content
    assert body.startswith(b'<?xml version="1.0"?>\n<!DOCTYPE NoveroResponse')
    assert mark in body
    assert body.count(b"<CDR>") == 20


@pytest.mark.parametrize(("accepted", "sent_at_most"), [("gzip", MEGABYTE), ("identity", 31 * MEGABYTE)])
def test_a_huge_answer(accepted: str, sent_at_most: int) -> None:
    """A small body that unpacks to as many bytes as told, or the bytes themselves."""
    place = _world(Settings(huge_bytes=30 * MEGABYTE))
    client = Client(place)
    client.log_in()
    client.http.headers["Accept-Encoding"] = accepted
    place.faults.script(Fault.HUGE)
    document = client.document((GET_CDRS, {}), session=client.session)
    with client.http.stream("POST", client.url, content=document) as answer:
        body = b"".join(answer.iter_raw())
    assert len(body) < sent_at_most
    plain = zlib.decompress(body, wbits=31) if accepted == "gzip" else body
    assert 30 * MEGABYTE <= len(plain) < 30 * MEGABYTE + 100


@pytest.mark.parametrize(("fault", "error"), [(Fault.RESET, httpx.ReadError), (Fault.CUT, httpx.RemoteProtocolError)])
def test_broken_connections_in_process(fault: Fault, error: type[Exception]) -> None:
    """What httpx raises for a broken socket is raised without one."""
    place = _world()
    client = Client(place)
    client.log_in()
    place.faults.script(fault)
    with pytest.raises(error):
        client.send(GET_CDRS)
    assert place.faults.fired[fault] == 1
    assert code(client.ask(GET_CDRS)) == "200"


def test_a_slow_answer_takes_its_time() -> None:
    """Piece by piece, each after its pause, on the world's own clock."""
    place = _world(Settings(drip_pause=0.5, drip_bytes=64))
    before = place.clock()
    answer = _send(place, Fault.SLOW_DRIP)
    assert len(uids(ET.fromstring(answer.content)[0])) == 20
    assert place.clock() - before == 0.5 * -(-len(answer.content) // 64)


def test_latency() -> None:
    """Before every answer."""
    place = _world(Settings(latency=1.5))
    before = place.clock()
    Client(place).ask(GET_CDRS)
    assert place.clock() - before == 3.0  # login and request


def test_an_error_code_hits_the_last_request_alone() -> None:
    """HTTP 200; the request before it has its answer."""
    place = _world()
    client = Client(place)
    document = client.document((GET_TOTALS, {}), (GET_CDRS, {}), session=client.log_in())
    place.faults.script(Fault.ERROR_CODE)
    responses = nested(client.post(document).content)[3]
    assert [response[1]["Code"] for response in responses] == ["200", "500"]
    assert responses[1][1]["RequestId"] == "r2"
    assert responses[1][3] == [["ResponseMessage", {}, "Internal error", []]]


@pytest.mark.parametrize(
    ("fault", "request_ids"), [(Fault.MISSING_RESPONSE, ["r1"]), (Fault.WRONG_ID, ["r1", "r2-of-another"])]
)
def test_answers_that_do_not_match_their_requests(fault: Fault, request_ids: list[str]) -> None:
    """One too few, or for somebody else."""
    place = _world()
    client = Client(place)
    document = client.document((GET_TOTALS, {}), (GET_CDRS, {}), session=client.log_in())
    place.faults.script(fault)
    assert [response[1]["RequestId"] for response in nested(client.post(document).content)[3]] == request_ids


def test_a_session_ends_before_its_time() -> None:
    """Between two requests: the second is refused until there is a new login."""
    place = _world()
    client = Client(place)
    assert code(client.ask(GET_CDRS)) == "200"
    place.faults.script(Fault.SESSION_EXPIRED)
    assert [code(client.ask(GET_CDRS)) for _ in range(2)] == ["401", "401"]
    client.log_in()
    assert code(client.ask(GET_CDRS)) == "200"
    assert place.faults.fired[Fault.SESSION_EXPIRED] == 1


def test_a_record_stands_twice_in_a_page() -> None:
    """The first one again at the end, beyond the limit: nothing is missing for it."""
    answer = _send(place := _world(), Fault.DUPLICATE, LastId=0)
    first = [call.uid for call in place.records()[:20]]
    assert uids(ET.fromstring(answer.content)[0]) == [*first, first[0]]


def test_a_page_comes_once_more() -> None:
    """The last page that was not empty, whatever was asked: no progress."""
    place = _world()
    client = Client(place)
    first = client.uids(LastId=0, limit=20)
    place.faults.script(Fault.REPEATED_PAGE)
    assert client.uids(LastId=first[-1], limit=20) == first
    assert place.faults.fired[Fault.REPEATED_PAGE] == 1
    assert client.uids(LastId=first[-1], limit=20)[0] > first[-1]


@pytest.mark.parametrize("fault", [Fault.DUPLICATE, Fault.REPEATED_PAGE, Fault.SESSION_EXPIRED, Fault.ERROR_CODE])
def test_a_fault_that_would_not_show_waits(fault: Fault) -> None:
    """Scripted for a login, an empty page or a first page it is not counted: it befalls the next document it fits."""
    place = world()
    client = Client(place)
    place.faults.script(fault)
    client.log_in()
    assert (place.faults.fired[fault], place.faults.pending) == (0, 1)
    place.add_history(calls=10, days=1)
    for _ in range(2):
        last = client.uids(LastId=0, limit=5)
        client.uids(LastId=last[-1] if last else 0, limit=5)
    assert (place.faults.fired[fault], place.faults.pending) == (1, 0)


def test_a_script_runs_in_turn() -> None:
    """None is a document that nothing befalls."""
    place = _world()
    client = Client(place)
    client.log_in()
    place.faults.script(Fault.HTTP_503, None, "http-429", None)
    assert [client.send(GET_CDRS).status_code for _ in range(5)] == [503, 200, 429, 200, 200]
    with pytest.raises(ValueError, match="nonsense"):
        place.faults.script("nonsense")


def test_rates() -> None:
    """Faults come as often as told, each counted; with mercy, a good answer follows so many bad ones."""
    place = _world(Settings(faults_in_a_row=2))
    client = Client(place)
    client.log_in()
    place.faults.rates({Fault.HTTP_503: 0.3, "http-500": 0.2})
    statuses = [client.send(GET_CDRS).status_code for _ in range(1000)]
    assert place.counters()["faults"]["http-503"] == statuses.count(503)
    assert place.counters()["faults"]["http-500"] == statuses.count(500)
    assert 180 < statuses.count(503) < 320
    assert 110 < statuses.count(500) < 230
    assert "bbb" not in "".join("b" if status >= 500 else "g" for status in statuses)
    place.faults.rates({})
    assert {client.send(GET_CDRS).status_code for _ in range(100)} == {200}


def test_every_fault_can_fire() -> None:
    """All together, by their rates: every counter ends above zero, and the sandbox still answers."""
    place = _world(Settings(huge_bytes=MEGABYTE))
    client = Client(place)
    client.log_in()
    place.faults.rates(dict.fromkeys(Fault, 0.8 / len(Fault)))
    first = place.records()[0].uid
    for turn in range(600):
        try:
            answer = client.send(GET_CDRS, LastId=first + turn % 2 * 20_000, limit=10)
            if b'Code="401"' in answer.content:
                client.log_in()
        except (httpx.TransportError, ET.ParseError, AssertionError, TypeError):
            continue
    place.faults.rates({})
    client.log_in()
    assert [fault for fault, fired in place.faults.fired.items() if fired == 0] == []
    assert code(client.ask(GET_CDRS)) == "200"


def test_the_log_of_requests_holds_no_secret() -> None:
    """Names, parameters, codes and counts of what was asked; of logins only that they were."""
    place = _world()
    client = Client(place)
    client.ask(GET_CDRS, LastId=5, limit=3)
    at = place.clock()
    assert list(place.requests) == [
        (at, *LOGIN, {}, "200", 0),
        (at, *GET_CDRS, {"LastId": "5", "limit": "3"}, "200", 3),
    ]
    assert place.counters()["requests"] == {"SessionLogin": 1, "GetCDRs": 1}
