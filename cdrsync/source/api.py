"""The operator's API as a `Source`: asks in, typed answers out, one HTTP document at a time.

A document carries SessionLogin with the asks where there is no session, and the SessionId above them where there is
one.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import httpx

from cdrsync import __version__
from cdrsync.errors import ApiUnreachable, BadAnswer, CdrsyncError, LoginRefused
from cdrsync.model import Batch, CdrsAsk, Document, TotalsAsk, utc_now
from cdrsync.source import session
from cdrsync.source.answers import answer, fetched, match
from cdrsync.source.decode import decode
from cdrsync.source.http_answer import OK, HttpAnswer, read
from cdrsync.source.request import Ask, Login, RecordAsk, Request, checked, document, request
from cdrsync.source.retry import RetryPolicy, run
from cdrsync.source.stop import StopEvent
from cdrsync.source.transport import Transport

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from cdrsync.source.response import Response

_TOKEN = re.compile("[0-9A-Fa-f]{24,}")  # what a SessionId or a VKey looks like

HEADERS = {
    "User-Agent": f"cdrsync/{__version__}",
    "Content-Type": "text/xml",
    "Accept": "text/xml",
    "Accept-Encoding": "gzip",
}
MAX_BYTES = 64 * 1024 * 1024  # of one decoded answer: about 80,000 records


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long one document may take, in seconds."""

    connect: float = 10.0
    read: float = 120.0  # between two pieces of an answer; the operator's own client waits as long
    total: float = 300.0  # from the first byte sent to the last one received


@dataclass(frozen=True, slots=True)
class RequestDone:
    """One HTTP round trip, for metrics. `outcome`: ok, sessionrefused, or the error's class in lower case."""

    seconds: float
    bytes: int  # of the decoded answer
    asks: int
    outcome: str


class _Answered(NamedTuple):
    """The answers to the asks of one document, when they were given (UTC), and how many bytes it had, decoded."""

    responses: list[Response]
    answered_at: datetime
    size: int


class NoveroApi:
    """One account's way to the API: session, limits, retries. Every thread of an account may use it at once.

    Raises ConfigError where `url` is not https (plain http only to this machine) or a credential can't be sent in XML.
    `stop`, once set, ends every wait within a second by ApiUnreachable, as `close()` does.
    """

    def __init__(
        self,
        url: str,
        username: str,
        password: str,
        vkey: str,
        *,
        timezone: ZoneInfo,
        timeouts: Timeouts | None = None,
        retry: RetryPolicy | None = None,
        max_bytes: int = MAX_BYTES,
        transport: httpx.BaseTransport | None = None,
        on_request: Callable[[RequestDone], None] | None = None,
        stop: threading.Event | None = None,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._login = Login(username, password, vkey)
        self._url = checked(url, self._login)
        self._timezone = timezone
        self._timeouts = timeouts or Timeouts()
        self._retry = retry or RetryPolicy()
        self._max_bytes = max_bytes
        self._on_request = on_request
        self._clock = clock
        self._monotonic = monotonic
        self._stop = StopEvent(stop)
        self._sessions = session.Sessions(self._stop, monotonic)
        self._ids = itertools.count(1)
        self._transport = transport or Transport(self._url, self._stop, max_bytes)

    def ask(self, asks: Sequence[CdrsAsk | TotalsAsk]) -> Document:
        """Send the asks in one document; give their answers in order, a Refusal for each that was refused.

        Raises ApiUnreachable, BadAnswer, LoginRefused.
        """

        def once() -> Document:
            got = self._exchange(asks)
            answers = [answer(one, ask, self._words(one)) for one, ask in zip(got.responses, asks, strict=True)]
            return Document(answers, got.answered_at, got.size)

        return run(once, self._retry, self._stop)

    def fetch(self, *, uid: int | None = None, ref: str | None = None) -> Batch:
        """Read one record again (GetCDR), by its uid or its ref. An empty Batch where the operator has none.

        Raises ApiUnreachable, BadAnswer, LoginRefused, RequestRefused.
        """
        wanted = RecordAsk(uid=uid, ref=ref)
        (found,) = run(lambda: self._exchange([wanted]), self._retry, self._stop).responses
        return fetched(found, wanted, self._said(found))

    def close(self) -> None:
        """End every wait, then close the connections. Asking afterwards raises ApiUnreachable."""
        self._stop.set()
        self._transport.close()

    def _exchange(self, asks: Sequence[Ask]) -> _Answered:
        """One document and its answers, with one silent login where the session is refused."""
        for _ in range(2):
            now = self._sessions.current()
            if now is None:
                with self._one_login():
                    now = self._sessions.current()  # maybe another thread has logged in meanwhile
                    if now is None:
                        return self._round_trip(asks, None)
            try:
                return self._round_trip(asks, now)
            except session.SessionRefused:
                self._sessions.forget(now)
        with self._one_login():
            return self._round_trip(asks, None)

    @contextlib.contextmanager
    def _one_login(self) -> Iterator[None]:
        with self._sessions.login() as held:
            if not held:
                raise _stopping()
            yield

    def _round_trip(self, asks: Sequence[Ask], now: session.Session | None) -> _Answered:
        requests = [request(ask, f"Request{next(self._ids)}") for ask in asks]
        if now is None:
            requests.insert(0, request(self._login, f"SessionRequest{next(self._ids)}"))
        sent = document(requests, session_id=now.id if now else None)
        began = self._monotonic()
        outcome, size = "ok", 0
        try:
            got = self._post(sent)
            size = len(got.body)
            found = self._judge(got, requests, now, began)
        except (session.SessionRefused, CdrsyncError) as error:
            outcome = type(error).__name__.lower()
            raise
        finally:
            if self._on_request:
                self._on_request(RequestDone(self._monotonic() - began, size, len(asks), outcome))
        return _Answered(found, got.answered_at, size)

    def _post(self, content: bytes) -> HttpAnswer:
        if self._stop.is_set():
            raise _stopping()
        deadline = time.monotonic() + self._timeouts.total
        timeout = httpx.Timeout(self._timeouts.read, connect=self._timeouts.connect).as_dict()
        extensions = {"timeout": timeout, "deadline": deadline}
        request = httpx.Request("POST", self._url, headers=HEADERS, content=content, extensions=extensions)
        try:
            with contextlib.closing(self._transport.handle_request(request)) as response:
                return read(response, self._clock(), self._max_bytes)
        except httpx.TimeoutException as error:
            raise ApiUnreachable(f"no answer from {self._url.host} in time: {error}") from None
        except httpx.HTTPError as error:
            if self._stop.is_set():
                raise _stopping() from None
            raise ApiUnreachable(f"the connection to {self._url.host} failed: {_first_line(error)}") from None

    def _judge(
        self, got: HttpAnswer, requests: list[Request], now: session.Session | None, asked_at: float
    ) -> list[Response]:
        """Give the answers to the asks, once it is sure that they are the answers to these asks."""
        found = self._responses(got)
        refused = next((one for one in found if not one.ok), None)
        if got.says_later and not any(session.refuses_session(one) for one in found):
            raise got.error(self._said(refused) if refused else "")
        if now is None:
            found = self._logged_in(found, requests[0], asked_at)
            requests = requests[1:]
            if refused and session.refuses_after_login(found):
                raise self._login_refused(refused)
        elif any(session.refuses_session(one) for one in found):
            raise session.SessionRefused
        match(requests, found, self._said)
        return found

    def _responses(self, got: HttpAnswer) -> list[Response]:
        try:
            return decode(got.body, timezone=self._timezone)
        except BadAnswer as error:
            if got.status == OK:
                raise
            raise got.error(error.message) from None

    def _logged_in(self, found: list[Response], login: Request, asked_at: float) -> list[Response]:
        """Take the login's answer off the others, and keep the session it brought."""
        if not found or found[0].request_id != login.id or found[0].name != login.name:
            refused = next((one for one in found if session.refuses_login(one)), None)
            if refused and session.refuses_session(refused):
                raise self._login_refused(refused)
            raise BadAnswer("the answer does not begin with that to SessionLogin")
        first, *others = found
        if session.refuses_login(first):
            raise self._login_refused(first)
        if not first.ok:
            raise ApiUnreachable(f"the operator can't log anybody in at the moment: {self._said(first)}")
        if not first.session_id:
            raise BadAnswer("the answer to SessionLogin holds no SessionId")
        self._sessions.keep(first.session_id, asked_at)
        return others

    def _login_refused(self, response: Response) -> LoginRefused:
        return LoginRefused(f"the operator refused the login: {self._said(response)}")

    def _said(self, response: Response) -> str:
        """Give Code and words of a refusal on one line."""
        return f"Code {response.code[:20] or 'missing'}: {self._words(response)}"

    def _words(self, response: Response) -> str:
        """Give the operator's message without a secret that it may echo."""
        text = _TOKEN.sub("…", response.message) or "no message"
        for secret in (self._login.password, self._login.vkey):
            text = text.replace(secret, "…") if secret else text
        return text[:300]


def _first_line(error: Exception) -> str:
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return _TOKEN.sub("…", line).rstrip(".")[:200]


def _stopping() -> ApiUnreachable:
    return ApiUnreachable("cdrsync is stopping; the question to the operator was given up", hint="")
