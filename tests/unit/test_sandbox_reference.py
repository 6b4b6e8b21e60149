"""The operator's own examples, as printed in its reference page, get answers of the printed shape.

`tests/data/sandbox/` holds the page's documents as they stand there.
"""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cdrsync.sandbox.calls import SOMETIMES
from tests.support.clock import Clock
from tests.support.operator import Call, Login, World
from tests.unit.sandbox_client import Client, nested, printed, world

PAGE = Path(__file__).parents[1] / "data/sandbox"
PAGE_LOGIN = Login("user@domain.com", "secretpassword", "a9d64e4c3289e7a14b51baf8adfec60a")
MISSED: dict[str, Any] = {
    "dialled": "0",
    "dialled_location": "Unknown",
    "duration": 0,
    "ring_time": 0,
    "user_cost": Decimal("0.000"),
}
O2: dict[str, Any] = {
    "anumber": "7921255043",
    "anumber_location": "UK O2 Mobile",
    "bnumber": "1245830144",
    "alias": "",
} | MISSED
CHELMSFORD: dict[str, Any] = {
    "anumber": "1245123123",
    "anumber_location": "UK Chelmsford",
    "bnumber": "1211234567",
    "alias": "-",
}
NO_FLAGS: dict[str, Any] = dict.fromkeys(SOMETIMES)
FLAGS = NO_FLAGS | {"has_recorded_call": True, "has_voicemail_recording": False, "has_fax_document": False}


def _world(now: str, **options: Any) -> World:
    return world(clock=Clock(now), **options)


def _with_session(document: str, client: Client) -> str:
    """The page prints its single requests without the SessionId that they need: "the current API session"."""
    return document.replace("<NoveroRequest>", f"<NoveroRequest><SessionId>{client.log_in()}</SessionId>")


def _answer(client: Client, document: str) -> Any:
    answer = client.post(document)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/xml; charset=utf-8")
    return nested(re.sub(rb"<SessionId>[0-9a-f]{32}<", b"<SessionId>32 hex digits<", answer.content))


def _expected(name: str) -> Any:
    text = (PAGE / f"{name}-answer.xml").read_text(encoding="utf-8")
    assert "..." in text or name != "cdrs"
    without = re.sub(r"<SessionId>[0-9a-f]{32}<", "<SessionId>32 hex digits<", text.replace("...", ""))
    return nested(without.encode())


def _request(name: str) -> str:
    return (PAGE / f"{name}-request.xml").read_text(encoding="utf-8")


def _page_samples(world: World) -> list[Call]:
    """The two records under GetCDRs. Both began in the second that their `ref` says, British Summer Time."""
    first, second = 0x51FD5E98, 0x51FD5EB0
    reason: dict[str, Any] = {"reason": 2, "reason_q805": 0}
    return [
        world.add(uid=106398335, ref="51FD5E980233A34F", started=first, **O2, **reason, **FLAGS),
        world.add(uid=106398336, ref="51FD5EB00233A3E4", started=second, **O2, **reason, **FLAGS),
    ]


def test_get_cdrs_answers_as_printed() -> None:
    """GetCDRs after a LastId: every element, value and attribute of the page, in its order."""
    client = Client(place := _world("2013-08-04T00:00:00+01:00"))
    _page_samples(place)
    assert _answer(client, _with_session(_request("cdrs"), client)) == _expected("cdrs")


def test_get_cdr_answers_as_printed() -> None:
    """GetCDR by CDRRef: the record stands directly in its <Response>."""
    client = Client(place := _world("2013-08-04T00:00:00+01:00"))
    place.change(_page_samples(place)[0].uid, ref="!ABCDEF12345678")
    assert _answer(client, _with_session(_request("cdr"), client)) == _expected("cdr")


def test_get_totals_answers_as_printed() -> None:
    """GetTotals of a number without calls: zeros, "0 secs" and two decimals; the number as it was sent."""
    client = Client(_world("2013-08-04T00:00:00+01:00"))
    assert _answer(client, _with_session(_request("totals"), client)) == _expected("totals")


def _first_download(place: World) -> None:
    voicemail: dict[str, Any] = {
        "dialled": "V:user@domain.com",
        "dialled_location": "Voice to Email",
        "duration": 15,
        "ring_time": 0,
    }
    mobile: dict[str, Any] = {
        "dialled": "447512345678",
        "dialled_location": "UK O2 Mobile",
        "duration": 21,
        "ring_time": 14,
    }
    done: dict[str, Any] = {"reason": 1, "reason_q805": 1} | CHELMSFORD | NO_FLAGS
    first, second = Decimal("0.005"), Decimal("0.026")
    place.add(uid=108119862, ref="!5224557B6062F", started=0x5224557B, user_cost=first, **voicemail, **done)
    place.add(uid=108139023, ref="!522485C6323B", started=0x522485C6, user_cost=second, **mobile, **done)


def test_the_first_download_answers_as_printed() -> None:
    """Login and GetCDRs by date in one document. The page asks for days of 2016 and prints calls of 2013."""
    place = _world("2013-09-02T23:00:00+01:00", logins=[PAGE_LOGIN])
    _first_download(place)
    request = _request("first").replace("2016-05-23", "2013-09-02").replace("2016-05-24", "2013-09-03")
    assert _answer(Client(place), request) == _expected("first")


def test_the_first_download_as_printed_gets_the_printed_shape() -> None:
    """The very request of the page, in 2016: the same elements in the same order, whatever their texts."""
    place = _world("2016-05-23T12:00:00+01:00", logins=[PAGE_LOGIN])
    for uid in (1, 2):
        place.add(uid=uid, started=int(place.clock()) - 60, **NO_FLAGS)
    assert _shape(_answer(Client(place), _request("first"))) == _shape(_expected("first"))


def _shape(document: Any) -> Any:
    tag, attributes, _, children = document
    return [tag, attributes, [_shape(child) for child in children]]


def test_the_next_download_answers_as_printed() -> None:
    """Login and GetCDRs after the LastId of the first download."""
    login = PAGE_LOGIN._replace(username="user@domain.dom")  # as the page spells it here
    place = _world("2013-09-03T12:00:00+01:00", logins=[login])
    _first_download(place)
    reason: dict[str, Any] = {"reason": 1015, "reason_q805": 487} | CHELMSFORD | NO_FLAGS
    place.add(uid=108183829, ref="!5225936BA6928", started=0x5225936B, **MISSED, **reason)
    assert _answer(Client(place), _request("next")) == _expected("next")


@pytest.mark.parametrize("name", ["totals", "cdrs", "cdr", "first", "next"])
def test_the_printed_documents_are_whole(name: str) -> None:
    """The data of these tests are requests and answers, each in its envelope."""
    assert printed(PAGE / f"{name}-request.xml")[0] == "NoveroRequest"
    assert printed(PAGE / f"{name}-answer.xml")[0] == "NoveroResponse"
