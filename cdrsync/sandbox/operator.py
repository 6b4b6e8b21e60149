"""The operator itself: documents in, documents out, no HTTP needed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cdrsync.sandbox import envelope, render
from cdrsync.sandbox.calls import dice
from cdrsync.sandbox.envelope import Asked, Asking, MalformedError
from cdrsync.sandbox.world import RequestSeen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdrsync.sandbox.records import Query
    from cdrsync.sandbox.world import Account, World

REFUSED_LOGIN = "Authentication failed: check username, password and VKey"
REFUSED_ADDRESS = "Authentication failed: this IP address is not allowed for the VKey"
REFUSED_SESSION = "Authentication failed: no valid session"
NOT_FOUND = "404"
BAD_REQUEST = "400"


@dataclass(frozen=True)
class HttpAnswer:
    """What goes back over HTTP."""

    body: bytes
    status: int = 200


@dataclass(slots=True)
class Answer:
    """One <Response> in the making."""

    asked: Asked
    code: str = "200"
    content: str = ""
    request_id: str = ""
    account: Account | None = None
    page: list[int] | None = None  # uids, of GetCDRs
    refused: bool = False  # login or session

    def shown(self) -> str:
        return render.response(self.asked.target, self.asked.name, self.code, self.request_id, self.content)


@dataclass(slots=True)
class Document:
    """Answers in the making, and whose they are."""

    account: Account | None = None
    refusal: str = REFUSED_SESSION
    session_id: str | None = None  # the one sent, where it was good
    answers: list[Answer] = field(default_factory=list)


class Operator:
    """Answers NoveroRequest documents from a `World`."""

    def __init__(self, world: World) -> None:
        self.world = world

    def answer(self, body: bytes, *, address: str = "127.0.0.1") -> HttpAnswer:
        """The answer to one document from a source address."""
        world = self.world
        with world.lock:
            world.settle()
            world.counts["documents"] += 1
            try:
                asking = envelope.read(body)
            except MalformedError as error:
                world.counts["malformed"] += 1
                return HttpAnswer(render.document([refused(Asked("", "", "", {}), BAD_REQUEST, str(error)).shown()]))
            return self.answered(asking, address)

    def answered(self, asking: Asking, address: str) -> HttpAnswer:
        """The answer to a document that could be read, with the world's lock held."""
        return self.http_answer(self.document(asking, address))

    def http_answer(self, document: Document) -> HttpAnswer:
        """The document in print; counts what it tells."""
        self.remember(document.answers)
        refusal = any(answer.refused for answer in document.answers)
        whole = render.document(answer.shown() for answer in document.answers)
        return HttpAnswer(whole, self.world.settings.refusal_status if refusal else 200)

    # The three calls and the login

    def document(self, asking: Asking, address: str) -> Document:
        document = Document()
        if asking.session_id is not None and self._is_allowed(address):
            document.account = self.world.session_account(asking.session_id)
            document.session_id = asking.session_id if document.account else None
        for asked in asking.asked:
            answer = self._login(document, asked, address) if asked.is_login else self._data(document, asked)
            answer.request_id = asked.request_id
            document.answers.append(answer)
        return document

    def _is_allowed(self, address: str) -> bool:
        allowed = self.world.settings.allowed_addresses
        return allowed is None or address in allowed

    def _login(self, document: Document, asked: Asked, address: str) -> Answer:
        if not self._is_allowed(address):
            self.world.counts["login_refusals"] += 1
            session_id, document.refusal = None, REFUSED_ADDRESS
        else:
            credentials = (asked.parameters.get(name, "") for name in ("Username", "Password", "VKey"))
            session_id, document.refusal = self.world.log_in(*credentials), REFUSED_LOGIN
        if session_id is None:
            document.account = None
            return self._unauthenticated(document, asked)
        document.account = self.world.session_account(session_id)
        return Answer(asked, content=render.session(session_id))

    def _unauthenticated(self, document: Document, asked: Asked) -> Answer:
        answer = refused(asked, self.world.settings.refusal_code, document.refusal)
        answer.refused = True
        return answer

    def _data(self, document: Document, asked: Asked) -> Answer:
        known = envelope.PARAMETERS.get((asked.target, asked.name))
        if known is None:
            return refused(asked, NOT_FOUND, f"Unknown request {asked.target}/{asked.name}")
        if document.account is None:
            return self._unauthenticated(document, asked)
        unknown = sorted(asked.parameters.keys() - known)
        if unknown:
            return refused(asked, BAD_REQUEST, f"Unknown parameter {unknown[0]}")
        call = {"GetCDRs": self._get_cdrs, "GetCDR": self._get_cdr, "GetTotals": self._get_totals}[asked.name]
        try:
            answer = call(document.account, asked)
        except MalformedError as error:
            return refused(asked, BAD_REQUEST, str(error))
        answer.account = document.account
        return answer

    def _get_cdrs(self, account: Account, asked: Asked) -> Answer:
        settings = self.world.settings
        query = envelope.query(
            asked.parameters, end_date_included=settings.end_date_included, limit_clamp=settings.limit_clamp
        )
        answer = Answer(asked)
        self.fill(answer, account, self._page(account, query))
        return answer

    def _page(self, account: Account, query: Query) -> list[int]:
        settings, records = self.world.settings, account.records
        if query.last_id is None or query.first_day or query.last_day:
            return records.by_days(query, descending=settings.date_order == "descending")
        if settings.last_id_order == "newest-first":
            return records.newest_after(query)
        page = records.after(query)
        if settings.last_id_order == "descending":
            return page[::-1]
        if settings.last_id_order == "shuffled":
            rest = page[1:]
            dice("page", *page[:1]).shuffle(rest)
            return page[:1] + rest  # the page promises: the next applicable record is the first item
        return page

    def fill(self, answer: Answer, account: Account, page: list[int]) -> None:
        answer.page = page
        answer.content = render.page(account.records.xml(page), self.world.settings.empty_page)

    def _get_cdr(self, account: Account, asked: Asked) -> Answer:
        uid, ref = envelope.uid(asked.parameters), asked.parameters.get("CDRRef")
        if uid is None and not ref:
            raise MalformedError("CDRUID or CDRRef is required")
        if uid is None:
            uid = account.records.by_ref(ref or "")
        if uid is None or not account.records.is_visible(uid):
            return refused(asked, NOT_FOUND, "Call data record not found")
        record = account.records.xml([uid])[0]
        return Answer(asked, content=re.sub("(?m)^ {8}( *<)", r"      \1", record))

    def _get_totals(self, account: Account, asked: Asked) -> Answer:
        settings = self.world.settings
        period, number = asked.parameters.get("Period") or "day", asked.parameters.get("Number", "")
        try:
            sums = self.world.totals(period, number=number or None, username=account.login.username)
        except ValueError as error:
            raise MalformedError(f"Period {error}") from error
        return Answer(
            asked,
            content=render.totals(number, period, sums, unit=settings.mins_unit, separators=settings.separators),
        )

    def remember(self, answers: Sequence[Answer]) -> None:
        """Count them, and keep what was asked."""
        world, now = self.world, self.world.clock()
        for answer in answers:
            asked = answer.asked
            size = len(answer.page or ())
            world.asked[asked.name] += 1
            parameters = {} if asked.is_login else asked.parameters
            world.requests.append(RequestSeen(now, asked.target, asked.name, parameters, answer.code, size))
            if answer.page is not None and answer.account is not None:
                world.counts["pages" if answer.page else "empty_pages"] += 1
                world.counts["records_sent"] += size


def refused(asked: Asked, code: str, text: str) -> Answer:
    """An answer that only says why there is none."""
    return Answer(asked, code=code, content=render.message(text))
