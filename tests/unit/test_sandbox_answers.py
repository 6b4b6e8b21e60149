"""Paging and sessions of the sandbox, under every setting of what the reference page leaves open."""

from __future__ import annotations

from typing import Any

import pytest

from cdrsync.sandbox import DEMO_LOGIN
from tests.support.clock import Clock
from tests.support.operator import Login, Settings, World
from tests.unit.sandbox_client import (
    GET_CDR,
    GET_CDRS,
    GET_TOTALS,
    LOGIN,
    Client,
    add_days,
    code,
    nested,
    turn,
    uids,
    world,
)

TEN_DAYS = [f"2024-05-{day}" for day in range(13, 23)]


def _ten(settings: Settings | None = None) -> tuple[Client, list[int]]:
    place = world(settings)
    return Client(place), [call.uid for call in add_days(place, *TEN_DAYS)]


def _uids(client: Client, **parameters: object) -> list[int]:
    return client.uids(**parameters)


def test_last_id_is_exclusive() -> None:
    """The first record is the next one after it, whether or not the LastId itself exists."""
    client, all_uids = _ten()
    assert _uids(client, LastId=all_uids[3]) == all_uids[4:]
    assert _uids(client, LastId=all_uids[3] - 1) == all_uids[3:]
    assert _uids(client, LastId=all_uids[-1]) == []


def test_limit_defaults_to_ten() -> None:
    """As documented; offset goes on from there."""
    place = world()
    place.add_history(calls=25, days=1)
    client, everything = Client(place), [call.uid for call in place.records()]
    assert _uids(client, LastId=0) == everything[:10]
    assert _uids(client, LastId=0, offset=10) == everything[10:20]
    assert _uids(client, LastId=0, offset=20, limit=10) == everything[20:]
    assert _uids(client, LastId=0, offset=25) == []


def test_a_limit_can_be_clamped_silently() -> None:
    """A short page that is not the end."""
    client, all_uids = _ten(Settings(limit_clamp=3))
    assert _uids(client, LastId=0, limit=1000) == all_uids[:3]
    assert _uids(client, LastId=all_uids[2], limit=2) == all_uids[3:5]


@pytest.mark.parametrize("included", [True, False])
def test_end_date_may_be_included_or_not(included: bool) -> None:
    """Both readings of the page."""
    client, all_uids = _ten(Settings(end_date_included=included))
    asked = {"StartDate": "2024-05-15", "EndDate": "2024-05-17", "limit": 100}
    assert _uids(client, **asked) == all_uids[2 : 5 if included else 4]
    assert _uids(client, StartDate="2024-05-20", limit=100) == all_uids[7:]
    assert _uids(client, EndDate="2024-05-13") == (all_uids[:1] if included else [])


def test_date_pages_may_descend() -> None:
    """The newest first, over the offset's pages too."""
    client, all_uids = _ten(Settings(date_order="descending"))
    window = {"StartDate": "2024-05-14", "EndDate": "2024-05-22"}
    assert _uids(client, **window, limit=4) == all_uids[9:5:-1]
    assert _uids(client, **window, limit=4, offset=4) == all_uids[5:1:-1]
    assert _uids(client, **window, limit=4, offset=8) == [all_uids[1]]


@pytest.mark.parametrize(
    ("order", "pages"),
    [
        ("ascending", [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]),
        ("descending", [[3, 2, 1, 0], [7, 6, 5, 4], [9, 8]]),
        ("newest-first", [[9, 8, 7, 6], [5, 4, 3, 2], [1, 0]]),
    ],
)
def test_last_id_pages_may_be_ordered_otherwise(order: Any, pages: list[list[int]]) -> None:
    """Within the page, or (against the page's words) the newest page first."""
    client, all_uids = _ten(Settings(last_id_order=order))
    got = [_uids(client, LastId=all_uids[0] - 1, limit=4, offset=offset) for offset in (0, 4, 8)]
    assert got == [[all_uids[n] for n in page] for page in pages]


def test_last_id_pages_may_be_shuffled() -> None:
    """The next applicable record stays the first item; the others of the page come in any order."""
    place = world(Settings(last_id_order="shuffled"))
    place.add_history(calls=40, days=1)
    everything = [call.uid for call in place.records()]
    page = _uids(Client(place), LastId=0, limit=30)
    assert (page[0], sorted(page), page != everything[:30]) == (everything[0], everything[:30], True)


def test_every_page_size_tells_the_same_story() -> None:
    """Pages by LastId and by date, of any size, together are all records."""
    place = world()
    place.add_history(calls=700, days=4)
    client, everything = Client(place), [call.uid for call in place.records()]
    for size in (1, 7, 100, 1000):
        seen: list[int] = []
        while page := _uids(client, LastId=seen[-1] if seen else 0, limit=size):
            seen += page
            if size == 1 and len(seen) == 20:
                break
        assert seen == everything[: len(seen)]
    by_date: list[int] = []
    while page := _uids(client, StartDate="2024-05-01", EndDate="2024-05-24", limit=99, offset=len(by_date)):
        by_date += page
    assert sorted(by_date) == everything


def test_last_id_and_dates_go_together() -> None:
    """Records that fulfil both."""
    client, all_uids = _ten()
    assert _uids(client, LastId=all_uids[4], StartDate="2024-05-14", EndDate="2024-05-20") == all_uids[5:8]


def test_a_number_is_known_with_and_without_its_0() -> None:
    """Records and totals of one number of the account, by day and by LastId."""
    place = world()
    place.add_history(calls=400, days=3)
    client, number = Client(place), place.records()[0].bnumber or ""
    expected = [call.uid for call in place.records() if call.bnumber == number]
    assert 0 < len(expected) < 400
    for spelling in (number, "0" + number):
        assert _uids(client, Number=spelling, LastId=0, limit=1000) == expected
        assert sorted(_uids(client, Number=spelling, StartDate="2024-05-01", limit=1000)) == expected
        assert place.totals("all", number=spelling).calls == len(expected)
    assert _uids(client, Number="9999", limit=1000) == []


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"limit": "0"}, "limit must be at least 1"),
        ({"limit": "ten"}, "limit must be a whole number"),
        ({"offset": "-1"}, "offset must be a whole number"),
        ({"LastId": "1.5"}, "LastId must be a whole number"),
        ({"StartDate": "23/05/2024"}, "StartDate must be a date of the format yyyy-mm-dd"),
        ({"EndDate": "2024-02-30"}, "EndDate must be a date of the format yyyy-mm-dd"),
        ({"lastid": "5"}, "Unknown parameter lastid"),
    ],
)
def test_wrong_parameters_are_refused(parameters: dict[str, str], message: str) -> None:
    """Also unknown ones, stricter than the operator may be: a misspelt parameter of ours must not pass unseen."""
    answer = Client(world()).ask(GET_CDRS, **parameters)
    assert (code(answer), answer.findtext("ResponseMessage")) == ("400", message)


def test_a_single_record_by_uid_and_by_ref() -> None:
    """GetCDR knows both; what is not there, or not yet, is refused."""
    client = Client(place := world())
    call = place.add(ref="!6650ABCD12345")
    late = place.add_late(60)
    assert uids(client.ask(GET_CDR, CDRUID=call.uid)) == [call.uid]
    assert uids(client.ask(GET_CDR, CDRRef="!6650ABCD12345")) == [call.uid]
    for asked in ({"CDRUID": late.uid}, {"CDRRef": late.ref}, {"CDRUID": 1}):
        answer = client.ask(GET_CDR, **asked)
        assert (code(answer), answer.findtext("ResponseMessage")) == ("404", "Call data record not found")
    assert code(client.ask(GET_CDR)) == "400"
    turn(place, 60)
    assert uids(client.ask(GET_CDR, CDRUID=late.uid)) == [late.uid]


@pytest.mark.parametrize(
    ("way", "children"),
    [("pair", [["CDRs", {}, "", []]]), ("self-closing", [["CDRs", {}, "", []]]), ("absent", [])],
)
def test_ways_of_writing_no_records(way: Any, children: list[Any]) -> None:
    """An empty page with <CDRs></CDRs>, <CDRs/>, or nothing."""
    client = Client(world(Settings(empty_page=way)))
    answer = client.send(GET_CDRS)
    assert nested(answer.content)[3][0][3] == children
    assert (b"<CDRs/>" in answer.content) == (way == "self-closing")


# Sessions


def test_requests_are_answered_in_order_each_by_its_id() -> None:
    """Login and three more in one document: one round trip."""
    place = world()
    call = place.add()
    client = Client(place)
    credentials = dict(zip(("Username", "Password", "VKey"), DEMO_LOGIN, strict=True))
    document = client.document((LOGIN, credentials), (GET_TOTALS, {}), (GET_CDR, {"CDRUID": call.uid}), (GET_CDRS, {}))
    responses = nested(client.post(document).content)[3]
    assert [response[1] for response in responses] == [
        {"target": "Auth", "name": "SessionLogin", "Code": "200", "RequestId": "r1"},
        {"target": "NoveroCDR", "name": "GetTotals", "Code": "200", "RequestId": "r2"},
        {"target": "NoveroCDR", "name": "GetCDR", "Code": "200", "RequestId": "r3"},
        {"target": "NoveroCDR", "name": "GetCDRs", "Code": "200", "RequestId": "r4"},
    ]


@pytest.mark.parametrize("wrong", ["username", "password", "vkey"])
def test_a_failed_login_fails_its_siblings(wrong: str) -> None:
    """HTTP 200, Code 401 and a message on each, and no word of which of the three was wrong."""
    client = Client(place := world())
    credentials = dict(zip(("Username", "Password", "VKey"), DEMO_LOGIN._replace(**{wrong: "wrong"}), strict=True))
    answer = client.post(client.document((LOGIN, credentials), (GET_CDRS, {}), (GET_TOTALS, {})))
    responses = nested(answer.content)[3]
    message = "Authentication failed: check username, password and VKey"
    assert [response[1]["Code"] for response in responses] == ["401"] * 3
    assert [response[3] for response in responses] == [[["ResponseMessage", {}, message, []]]] * 3
    assert (answer.status_code, place.counters()["login_refusals"]) == (200, 1)


def test_a_refusal_may_come_as_an_http_error() -> None:
    """With the envelope in its body, and another Code."""
    client = Client(world(Settings(refusal_status=403, refusal_code="403")))
    answer = client.post(client.document((GET_CDRS, {}), session="none"))
    assert (answer.status_code, nested(answer.content)[3][0][1]["Code"]) == (403, "403")


@pytest.mark.parametrize("slides", [True, False])
def test_a_session_lives_for_half_an_hour(slides: bool) -> None:
    """Whether use prolongs it is not said, so both can be had."""
    client = Client(place := world(Settings(session_slides=slides)))
    client.log_in()
    turn(place, 1000)
    assert code(client.ask(GET_CDRS)) == "200"
    turn(place, 799)
    assert code(client.ask(GET_CDRS)) == "200"
    turn(place, 1)
    assert code(client.ask(GET_CDRS)) == ("200" if slides else "401")
    turn(place, 1800)
    assert code(client.ask(GET_CDRS)) == "401"


def test_sessions_can_be_ended() -> None:
    """All at once; a new login works."""
    client = Client(place := world())
    client.log_in()
    place.expire_sessions()
    assert code(client.ask(GET_CDRS)) == "401"
    client.log_in()
    assert code(client.ask(GET_CDRS)) == "200"
    assert place.counters()["session_refusals"] == 1


def test_an_address_that_is_not_allowed_is_refused() -> None:
    """With a message of its own; a session from before is of no use either."""
    client = Client(place := world())
    client.log_in()
    place.configure(allowed_addresses=("192.0.2.1",))
    assert code(client.ask(GET_CDRS)) == "401"
    credentials = dict(zip(("Username", "Password", "VKey"), DEMO_LOGIN, strict=True))
    message = nested(client.post(client.document((LOGIN, credentials))).content)[3][0][3][0][2]
    assert message == "Authentication failed: this IP address is not allowed for the VKey"


def test_logins_see_their_own_records_only() -> None:
    """Two accounts of one platform: one sequence of uids, two sets of records."""
    other = Login("other@example.com", "other-password", "other-vkey")
    place = World(logins=[DEMO_LOGIN, other], clock=Clock("2024-05-23T12:00:00+01:00").seconds)
    place.add_history(calls=50, days=1)
    place.add_history(calls=50, days=1, username=other.username)
    mine, others = Client(place), Client(place, login=other)
    seen = _uids(mine, limit=100, LastId=0), _uids(others, limit=100, LastId=0)
    assert [len(page) for page in seen] == [50, 50]
    assert set(seen[0]).isdisjoint(seen[1])
    assert code(others.ask(GET_CDR, CDRUID=seen[0][0])) == "404"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("", "The document is not well-formed XML"),
        ("<NoveroRequest>", "The document is not well-formed XML"),
        ("<Other/>", "The document is no NoveroRequest"),
        ("<NoveroRequest><Session>1</Session></NoveroRequest>", "<Session> has no place in a NoveroRequest"),
    ],
)
def test_what_is_no_request_is_refused(document: str, message: str) -> None:
    """In an envelope with Code 400."""
    answer = Client(place := world()).post(document)
    assert nested(answer.content)[3][0][3] == [["ResponseMessage", {}, message, []]]
    assert place.counters()["malformed"] == 1


def test_an_unknown_request_is_refused() -> None:
    """With Code 404; the requests beside it are answered."""
    client = Client(world())
    document = client.document((("NoveroCDR", "GetEverything"), {}), (GET_TOTALS, {}), session=client.log_in())
    assert [response[1]["Code"] for response in nested(client.post(document).content)[3]] == ["404", "200"]


def test_the_clock_of_the_answer_is_the_worlds() -> None:
    """`Date` follows the world's clock, so that a client can tell its own from the operator's."""
    assert Client(world()).send(GET_CDRS).headers["Date"] == "Thu, 23 May 2024 11:00:00 GMT"


def test_answers_are_packed_where_both_want_it() -> None:
    """gzip, when switched on and accepted."""
    place = world(Settings(gzip=True))
    place.add_history(calls=100, days=1)
    client = Client(place)
    answer = client.send(GET_CDRS, limit=100)
    assert (answer.headers["Content-Encoding"], len(uids_of(answer.content))) == ("gzip", 100)
    client.http.headers["Accept-Encoding"] = "identity"
    assert "Content-Encoding" not in client.send(GET_CDRS).headers


def uids_of(body: bytes) -> list[str]:
    """Of the only response in a document."""
    return [record[3][0][2] for record in nested(body)[3][0][3][0][3]]
