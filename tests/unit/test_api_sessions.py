"""Logins and sessions of the operator's API: one for all threads, renewed in time, and final where it is refused."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from cdrsync.errors import ApiUnreachable, LoginRefused
from cdrsync.model import Batch, CdrsAsk, Period, Refusal, TotalsAsk
from tests.support.answers import envelope, logged_in, refused
from tests.support.api import ASK, AT_ONCE, ONCE, SESSION, answering, api, obliging, refusing
from tests.support.peer import Seen, http, peer

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdrsync.source.exchange import RequestDone
    from cdrsync.source.retry import RetryPolicy


def test_a_session_is_renewed_before_it_ends() -> None:
    """A session is used for less than the half hour that it lives; a step of the host's clock changes nothing."""
    now = [0.0]
    with peer(obliging) as one:
        source = api(one.url, monotonic=lambda: now[0])
        for minute in (0, 15, 27, 29, 40, 58):
            now[0] = minute * 60.0
            source.ask([ASK])
        source.close()

    assert ["SessionLogin" in seen.names for seen in one.seen] == [True, False, False, True, False, True]


@pytest.mark.parametrize(
    "refusal",
    [
        refusing("401", "Unauthorised"),
        refusing("403", "no"),
        refusing("500", "Your session has expired"),
        refusing("400", "Please log in first"),
        refusing("401", "no", status="401 Unauthorized"),
        refusing("500", "Invalid session", status="500 Internal Server Error"),
        refusing("401", "Session timed out"),
        refusing("500", "Your session (abc123) has timed out. Please try again after logging in"),
        refusing("440", "Session time-out: temporary login expired", status="440 Login Time-out"),
        refusing("500", "timed out session", status="503 Service Unavailable"),
    ],
)
def test_a_refused_session_is_renewed_silently(refusal: Callable[[Seen], bytes]) -> None:
    """However the operator refuses a session, one new login in the next document puts it right."""
    done: list[RequestDone] = []
    with peer(obliging, refusal, lambda seen: http(answering(seen, "abc123")), obliging) as one:
        source = api(one.url, on_request=done.append)
        source.ask([ASK])
        answers = source.ask([ASK, ASK]).answers
        source.ask([ASK])
        source.close()

    assert [len(answer) for answer in answers if isinstance(answer, Batch)] == [2, 2]
    assert [seen.session_id for seen in one.seen] == [None, SESSION, None, "abc123"]
    assert [one.outcome for one in done] == ["ok", "sessionrefused", "ok", "ok"]


@pytest.mark.parametrize(
    "refusal",
    [
        refusing("401", "Wrong user name or password"),
        refusing("403", "Address not allowed"),
        refusing("400", "Invalid VKey"),
        refusing("500", "Password is wrong"),
        refusing("401", "no", status="401 Unauthorized"),
        lambda seen: http(envelope(refused("401", "Authentication failed", seen.ids()[0], "Auth", "SessionLogin"))),
        lambda _: http(envelope(refused("401", "Authentication failed", "", "", ""))),
    ],
)
def test_a_refused_login_is_final(refusal: Callable[[Seen], bytes]) -> None:
    """A refused login is tried once, whatever the policy, and says the operator's words and the allow-list hint."""
    with peer(refusal) as one:
        source = api(one.url, retry=AT_ONCE)
        with pytest.raises(LoginRefused, match=r"the operator refused the login: Code .*allow-list"):
            source.ask([ASK])
        source.close()

    assert len(one.seen) == 1


def test_a_session_that_is_never_taken_ends() -> None:
    """A login that succeeds while every request is still refused is no endless loop."""

    def step(seen: Seen) -> bytes:
        *login, asked = seen.ids()
        return http(envelope(*(logged_in(SESSION, one) for one in login), refused("403", "No", asked)))

    with peer(step) as one:
        source = api(one.url, retry=AT_ONCE)
        for _ in range(2):
            with pytest.raises(LoginRefused):
                source.ask([ASK])
        source.close()

    assert len(one.seen) == 3


@pytest.mark.parametrize("retry", [ONCE, AT_ONCE])
@pytest.mark.parametrize(
    ("code", "words"), [("403", "GetTotals is not allowed for this VKey"), ("401", "Unauthorised")]
)
def test_totals_that_a_login_may_not_read_are_refused_and_the_login_is_not(
    code: str, words: str, retry: RetryPolicy
) -> None:
    """In one document with calls and alone, with an old session and a new one: calls are read all the same."""

    def step(seen: Seen) -> bytes:
        body = answering(seen).decode()
        for totals in re.findall(r"<Response [^>]*GetTotals.*?</Response>", body, re.DOTALL):
            request_id = re.findall('RequestId="([^"]*)"', totals)[0]
            body = body.replace(totals, refused(code, words, request_id, "NoveroCDR", "GetTotals"))
        return http(body.encode())

    with peer(step) as one:
        totals = TotalsAsk(Period.DAY)
        every: list[list[CdrsAsk | TotalsAsk]] = [[totals], [ASK, totals, ASK], [ASK]]
        for first in every:
            source = api(one.url, retry=retry)
            for asks in (first, *every):
                answers = source.ask(asks).answers
                assert [type(answer) for answer in answers] == [Batch if a is ASK else Refusal for a in asks]
            assert source.limits.told() == []
            source.close()


def test_a_new_session_that_has_timed_out_already_is_an_outage() -> None:
    """Right after a login no words of a session that is over mean that the login is refused: it is tried again."""
    step = [
        lambda seen: http(
            envelope(logged_in(SESSION, seen.ids()[0]), refused("401", "Session timed out", seen.ids()[1]))
        )
    ]
    with peer(*step) as one:
        source = api(one.url)
        with pytest.raises(ApiUnreachable, match="Session timed out"):
            source.ask([ASK])
        source.close()


@pytest.mark.parametrize(
    "outage",
    [
        refusing("503", "Try again later"),
        refusing("503", "Session service unavailable, please try again later"),
        refusing("500", "could not create session"),
        refusing("429", "Too many login attempts"),
        refusing("401", "Too many login attempts, please wait"),
        refusing("403", "Login is not possible during maintenance"),
        refusing("401", "Password service temporarily unavailable"),
        refusing("403", "Authorisation server error"),
        refusing("400", ""),
        refusing("600", "Oops"),
        refusing("503", "Session service unavailable", status="503 Service Unavailable"),
        lambda _: http(b"", "503 Service Unavailable"),
        lambda _: http(b"<html>Bad Gateway</html>", "502 Bad Gateway"),
        lambda seen: http(envelope(refused("500", "could not create session", seen.ids()[0], "Auth", "SessionLogin"))),
    ],
)
def test_an_outage_of_the_login_service_is_not_a_refusal(outage: Callable[[Seen], bytes]) -> None:
    """In doubt a failed login passes by itself: it is tried again, and told in the operator's words."""
    with peer(outage) as one:
        source = api(one.url)
        with pytest.raises(ApiUnreachable):
            source.ask([ASK])
        source.close()
    with peer(outage, obliging) as one:
        source = api(one.url, retry=AT_ONCE)
        assert len(source.ask([ASK]).answers) == 1
        source.close()

    assert len(one.seen) == 2


def test_threads_share_one_login() -> None:
    """Threads that read ahead log in once between them, and again once when the session is refused."""
    lock = threading.Lock()
    valid = {"id": ""}
    logins: list[str] = []

    def step(seen: Seen) -> bytes:
        with lock:
            if "SessionLogin" in seen.names:
                valid["id"] = f"abc{len(logins)}"
                logins.append(valid["id"])
                return http(answering(seen, valid["id"]))
            if seen.session_id != valid["id"]:
                return refusing("401", "Session")(seen)
        return obliging(seen)

    with peer(step) as one:
        source = api(one.url)
        with ThreadPoolExecutor(4) as pool:
            assert all(len(found.answers) == 1 for found in pool.map(source.ask, [[ASK]] * 40))
            assert logins == ["abc0"]
            with lock:
                valid["id"] = "gone"
            assert all(len(found.answers) == 1 for found in pool.map(source.ask, [[ASK]] * 40))
        source.close()

    assert logins == ["abc0", "abc1"]


def test_no_cookie_is_kept() -> None:
    """A cookie that a server sets is not sent back: the session is in the document."""
    with peer(lambda seen: http(answering(seen), Set_Cookie="PHPSESSID=1; path=/"), obliging) as one:
        source = api(one.url)
        source.ask([ASK])
        source.ask([ASK])
        source.close()

    assert "cookie" not in one.seen[1].head.lower()
