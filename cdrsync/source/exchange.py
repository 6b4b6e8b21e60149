"""One account's documents, there and back: the session, one HTTP round trip, and whose answer is whose.

A document carries SessionLogin with the asks where there is no session, and the SessionId above them where there is
one.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import httpx

from cdrsync import __version__
from cdrsync.errors import ApiUnreachable, BadAnswer, CdrsyncError, LoginRefused
from cdrsync.model import utc_now
from cdrsync.source import session
from cdrsync.source.answers import match
from cdrsync.source.decode import BrokenXml, decode, without_noise
from cdrsync.source.http_answer import OK, HttpAnswer, read
from cdrsync.source.masks import Masks
from cdrsync.source.request import Ask, Login, Request, checked, document, request
from cdrsync.source.stop import StopEvent, stopping
from cdrsync.source.transport import Transport, password_of, proxy_for, way
from cdrsync.source.unreached import unreached

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from cdrsync.source.response import Response

_log = logging.getLogger(__name__)

HEADERS = {
    "User-Agent": f"cdrsync/{__version__}",
    "Content-Type": "text/xml",
    "Accept": "text/xml",
    "Accept-Encoding": "gzip",
}
MAX_BYTES = 16 * 1024 * 1024  # of one decoded answer: some 25,000 records
NOISE_TOLD = 86400.0  # seconds between two warnings of the same thing
LONGEST_SESSION_ID = 4096  # each of its spellings is looked for in whatever is told


@dataclass(frozen=True, slots=True)
class Bounds:
    """How long one document may take, in seconds, and how large its answer may be."""

    connect: float = 10.0
    read: float = 120.0  # between two pieces of an answer; the operator's own client waits as long
    total: float = 300.0  # from the first byte sent to the last one received
    max_bytes: int = MAX_BYTES  # decoded


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An account at the operator: where, who asks, and the time zone of the days that it names."""

    url: str
    login: Login
    timezone: ZoneInfo
    bounds: Bounds = Bounds()


@dataclass(frozen=True, slots=True)
class RequestDone:
    """One HTTP round trip, for metrics. `outcome`: ok, sessionrefused, or the error's class in lower case."""

    seconds: float
    bytes: int  # of the decoded answer
    outcome: str


class Answered(NamedTuple):
    """The responses to the asks of one document, when they were given (UTC), and what the answer weighed."""

    responses: list[Response]
    answered_at: datetime
    operator_clock: datetime | None  # HTTP `Date`, believed or not
    size: int  # bytes, decoded


class Broken(BadAnswer):
    """An answer that is complete but for its XML. `again` reads other bytes in its place, as strictly."""

    def __init__(self, error: BrokenXml, body: bytes, again: Callable[[bytes], Answered]) -> None:
        super().__init__(error.message, hint=error.hint)
        self.body = body
        self.again = again


class Exchange:
    """One account's way to the API. Every thread of an account may use it at once.

    Raises ConfigError where its address is not https (plain http only to this machine), a credential can't be sent in
    XML, or the environment names a proxy or certificates that can't be used.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        transport: httpx.BaseTransport | None = None,
        on_request: Callable[[RequestDone], None] | None = None,
        stop: threading.Event | None = None,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stop = StopEvent(stop)
        self._login = login = endpoint.login
        self._timezone = endpoint.timezone
        self._bounds = endpoint.bounds
        self._on_request = on_request
        self._clock = clock
        self._monotonic = monotonic
        self._url = checked(endpoint.url, login)
        proxy = None if transport else proxy_for(self._url)
        self._way = way(self._url, proxy)
        self._masks = Masks(login.password, login.vkey, password_of(proxy))
        self._transport = transport or Transport(self._url, self.stop, self._bounds.max_bytes)
        self._sessions = session.Sessions(self.stop, monotonic)
        self._ids = itertools.count(1)
        self._noise_told_at = float("-inf")

    def close(self) -> None:
        """End every wait, then close the connections. Asking afterwards raises ApiUnreachable."""
        self.stop.set()
        self._transport.close()

    def send(self, asks: Sequence[Ask]) -> Answered:
        """One document and its answers, with one silent login where the session is refused.

        Raises ApiUnreachable, BadAnswer (Broken where only its XML is), LoginRefused; their messages hold no secret.
        """
        with self._masking():
            return self._sent(asks)

    @contextlib.contextmanager
    def _masking(self) -> Iterator[None]:
        try:
            yield
        except CdrsyncError as error:
            error.message = self.masked(error.message)
            error.args = (error.message,)
            raise

    def masked(self, text: str) -> str:
        """Give the operator's text without a secret that it may echo."""
        return self._masks.masked(text)

    def _sent(self, asks: Sequence[Ask]) -> Answered:
        for _ in range(2):
            now = self._sessions.current()
            if now is None:
                with self._sessions.login():
                    now = self._sessions.current()  # maybe another thread has logged in meanwhile
                    if now is None:
                        return self._round_trip(asks, None)
            try:
                return self._round_trip(asks, now)
            except session.SessionRefused:
                self._sessions.forget(now)
        with self._sessions.login():
            return self._round_trip(asks, None)

    def _round_trip(self, asks: Sequence[Ask], now: session.Session | None) -> Answered:
        requests = [request(ask, f"Request{next(self._ids)}") for ask in asks]
        if now is None:
            requests.insert(0, request(self._login, f"SessionRequest{next(self._ids)}"))
        sent = document(requests, session_id=now.id if now else None)
        began = self._monotonic()
        outcome, size = "ok", 0
        try:
            got = self._post(sent)
            size = len(got.body)
            return self._read(got, requests, now, began)
        except (session.SessionRefused, CdrsyncError) as error:
            outcome = "badanswer" if isinstance(error, BadAnswer) else type(error).__name__.lower()
            raise
        finally:
            if self._on_request:
                self._on_request(RequestDone(self._monotonic() - began, size, outcome))

    def _post(self, content: bytes) -> HttpAnswer:
        """One HTTP round trip within its deadline."""
        if self.stop.is_set():
            raise stopping()
        timeout = httpx.Timeout(self._bounds.read, connect=self._bounds.connect).as_dict()
        extensions = {"timeout": timeout, "deadline": time.monotonic() + self._bounds.total}
        sent = httpx.Request("POST", self._url, headers=HEADERS, content=content, extensions=extensions)
        try:
            with contextlib.closing(self._transport.handle_request(sent)) as response:
                return read(response, self._url, self._clock(), self._bounds.max_bytes)
        except httpx.HTTPError as error:
            if self.stop.is_set():
                raise stopping() from None
            raise unreached(error, self._way, self.masked) from None

    def _read(self, got: HttpAnswer, requests: list[Request], now: session.Session | None, began: float) -> Answered:
        def judged(body: bytes) -> Answered:
            with self._masking():
                found = self._judged(got, self._decoded(got, body), requests, now, began)
            return Answered(found, got.answered_at, got.date, len(got.body))

        def again(body: bytes) -> Answered:
            try:
                return judged(body)
            except session.SessionRefused:
                raise BadAnswer("the session is refused in an answer that is broken besides") from None

        try:
            return judged(got.body)
        except BrokenXml as error:
            raise Broken(error, error.body, again) from None

    def _judged(
        self, got: HttpAnswer, found: list[Response], requests: list[Request], now: session.Session | None, began: float
    ) -> list[Response]:
        """Give the answers to the asks, once it is sure that they are the answers to these asks."""
        found = list(map(self._without_secrets, found))
        refused = next((one for one in found if not one.ok), None)
        if got.says_later and not any(session.refuses_session(one) for one in found):
            raise got.error(refused.said if refused else "")
        if now is None:
            found = self._logged_in(found, requests[0], began)
            requests = requests[1:]
            if refused and session.refuses_after_login(found):
                raise self._login_refused(refused)
        elif any(session.refuses_session(one) for one in found):
            raise session.SessionRefused
        match(requests, found)
        return found

    def _without_secrets(self, response: Response) -> Response:
        """Mask the operator's words before they are judged: a password may hold the word "password"."""
        if response.session_id:
            if len(response.session_id) > LONGEST_SESSION_ID:
                raise BadAnswer(f"a SessionId of more than {LONGEST_SESSION_ID} characters")
            self._masks.session(response.session_id)
        return replace(response, message=self.masked(response.message)) if response.message else response

    def _decoded(self, got: HttpAnswer, body: bytes) -> list[Response]:
        try:
            try:
                return decode(body, timezone=self._timezone)
            except BadAnswer:
                within = without_noise(body)
                if within is None:
                    raise
                whole, noise = within
                found = decode(whole, timezone=self._timezone)
                self._tell_noise(noise)
                return found
        except BadAnswer as error:
            if got.status == OK:
                raise
            raise got.error(self.masked(error.message)) from None

    def _tell_noise(self, noise: str) -> None:
        """Warn, once a day, of what stands around an answer."""
        if self._monotonic() - self._noise_told_at >= NOISE_TOLD:
            self._noise_told_at = self._monotonic()
            _log.warning("the operator's answers have text around their XML, which is dropped: %r", self.masked(noise))

    def _logged_in(self, found: list[Response], login: Request, asked_at: float) -> list[Response]:
        """Take the login's answer off the others, and keep the session it brought."""
        if not found or found[0].request_id != login.id or found[0].name != login.name:
            refused = next((one for one in found if session.refuses_login(one)), None)
            if refused:
                raise self._login_refused(refused)
            raise BadAnswer("the answer does not begin with that to SessionLogin")
        first, *others = found
        if session.refuses_login(first):
            raise self._login_refused(first)
        if not first.ok:
            raise ApiUnreachable(
                f"the operator can't log anybody in at the moment: {first.said}",
                hint="It passes by itself; cdrsync tries again",
            )
        if not first.session_id:
            raise BadAnswer("the answer to SessionLogin holds no SessionId")
        self._sessions.keep(first.session_id, asked_at)
        return others

    def _login_refused(self, response: Response) -> LoginRefused:
        return LoginRefused(f"the operator refused the login: {response.said}")
