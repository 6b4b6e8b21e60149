"""What an operator can't do at once is found out by asking for less, kept, and told."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from cdrsync.errors import ApiUnreachable
from cdrsync.model import Batch, CdrsAsk, Period, Refusal, Totals, TotalsAsk
from cdrsync.source.exchange import Bounds
from tests.support.answers import envelope, logged_in, records, refused, response
from tests.support.api import AT_ONCE, SESSION, answering, api
from tests.support.peer import Seen, http, peer

if TYPE_CHECKING:
    from collections.abc import Callable

ASK = CdrsAsk(limit=1000, after_uid=7)


def limits(seen: Seen) -> list[int]:
    return [
        int(one.findtext("limit", "0")) for one in seen.root.iterchildren("Request") if one.get("name") == "GetCDRs"
    ]


def failing(when: Callable[[Seen], bool], how: Callable[[Seen], bytes]) -> Callable[[Seen], bytes]:
    """An operator that fails at some questions, and answers the others with two records each."""
    return lambda seen: how(seen) if when(seen) else http(answering(seen))


def _refuses_each(code: str, message: str) -> Callable[[Seen], bytes]:
    """HTTP 200, logged in, and a Code on everything else."""

    def step(seen: Seen) -> bytes:
        found = [
            logged_in(SESSION, one) if name == "SessionLogin" else refused(code, message, one, "NoveroCDR", name)
            for one, name in zip(seen.ids(), seen.names, strict=True)
        ]
        return http(envelope(*found))

    return step


FAILURES = {
    "http": lambda _: http(b"", "500 Internal Server Error"),
    "code": _refuses_each("500", "Internal error"),
    "refused": _refuses_each("400", "Too much"),
    "cut": lambda seen: http(answering(seen)[:-60]),
    "too large": lambda seen: http(answering(seen) + b" " * 3_000_000),
    "html": lambda _: http(b"<html>Out of memory</html>"),
    "bad request": lambda _: http(b"", "413 Payload Too Large"),
    "one answer": lambda seen: http(envelope(logged_in(SESSION, seen.ids()[0]))),
}


@pytest.mark.parametrize("how", FAILURES)
def test_a_server_that_fails_above_a_limit(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """Pages become smaller until they come, stay so, and it is told once."""
    step = failing(lambda seen: max(limits(seen), default=0) > 200, FAILURES[how])
    with peer(step) as one, caplog.at_level(logging.WARNING):
        source = api(one.url, retry=AT_ONCE, bounds=Bounds(max_bytes=2_000_000))
        assert isinstance(source.ask([ASK]).answers[0], Batch)
        before = len(one.seen)
        for _ in range(3):
            assert isinstance(source.ask([ASK, ASK]).answers[1], Batch)
        source.close()

    assert [limits(seen) for seen in one.seen[before:]] == [[125, 125]] * 3
    assert source.limits.told() == ["the operator fails when asked for more than 125 records: pages are smaller"]
    assert caplog.messages == source.limits.told()


@pytest.mark.parametrize("how", [name for name in FAILURES if name != "too large"])
def test_a_server_that_takes_one_request_a_document(how: str) -> None:
    """Several GetCDRs are then asked one by one, for good; order is kept."""
    step = failing(lambda seen: len(limits(seen)) > 1, FAILURES[how])
    with peer(step) as one:
        source = api(one.url, retry=AT_ONCE)
        answers = source.ask([ASK, TotalsAsk(Period.DAY), ASK]).answers
        assert [type(answer) for answer in answers] == [Batch, Totals, Batch]
        before = len(one.seen)
        source.ask([ASK, ASK])
        source.close()

    assert [len(limits(seen)) for seen in one.seen[before:]] == [1, 1]
    assert source.limits.told() == [
        "the operator fails when asked several things in one document: each is asked by itself"
    ]


def test_both_at_once() -> None:
    """A server that can do neither is asked for small pages, one by one."""
    step = failing(lambda seen: len(limits(seen)) > 1 or max(limits(seen), default=0) > 300, FAILURES["http"])
    with peer(step) as one:
        source = api(one.url, retry=AT_ONCE)
        assert len(source.ask([ASK, ASK, ASK]).answers) == 3
        source.close()

    assert len(source.limits.told()) == 2


@pytest.mark.parametrize("how", ["http", "html", "refused"])
def test_an_outage_teaches_nothing(how: str) -> None:
    """Where small questions fail as well nothing is learned, few more are asked, and what failed is what is raised."""
    with peer(FAILURES[how]) as one:
        source = api(one.url, retry=AT_ONCE)
        if how == "refused":
            assert isinstance(source.ask([ASK]).answers[0], Refusal)
        else:
            with pytest.raises(ApiUnreachable):
                source.ask([ASK])
        source.close()

    assert source.limits.told() == []
    assert len(one.seen) <= 2 * AT_ONCE.attempts


def test_an_outage_that_ends_meanwhile_teaches_nothing() -> None:
    """A failure that is over when the small question is asked was not the size."""
    fails = iter([True] * AT_ONCE.attempts)
    with peer(failing(lambda _: next(fails, False), FAILURES["http"])) as one:
        source = api(one.url, retry=AT_ONCE)
        assert isinstance(source.ask([ASK]).answers[0], Batch)
        source.close()

    assert source.limits.told() == []


def test_a_wish_for_later_is_kept() -> None:
    """An operator that says when to come back is not asked for less before."""
    with peer(lambda _: http(b"", "503 x", Retry_After="600")) as one:
        source = api(one.url, retry=AT_ONCE)
        with pytest.raises(ApiUnreachable):
            source.ask([ASK])
        source.close()

    assert len(one.seen) == 1


def test_records_stay_where_they_were_asked() -> None:
    """Answers of single documents are those of their asks."""

    def step(seen: Seen) -> bytes:
        if len(limits(seen)) > 1:
            return http(b"", "500 x")
        (asked,) = [one for one in seen.root.iterchildren("Request") if one.get("name") == "GetCDRs"]
        first = int(asked.findtext("LastId", "0")) + 1
        logins = [logged_in(SESSION, one) for one, name in zip(seen.ids(), seen.names, strict=True) if "Login" in name]
        return http(envelope(*logins, response(*records(2, first), request_id=asked.get("id", ""))))

    with peer(step) as one:
        source = api(one.url, retry=AT_ONCE)
        answers: Any = source.ask([CdrsAsk(limit=10, after_uid=uid) for uid in (10, 20, 30)]).answers
        source.close()

    assert [cdr.uid for answer in answers for cdr in answer.cdrs] == [11, 12, 21, 22, 31, 32]
