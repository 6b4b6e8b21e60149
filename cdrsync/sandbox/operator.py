"""The operator itself: documents in, documents out, no HTTP needed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cdrsync.sandbox import envelope, render, spoil
from cdrsync.sandbox.calls import dice
from cdrsync.sandbox.envelope import Asked, Asking, MalformedError
from cdrsync.sandbox.faults import Fault
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
INTERNAL_ERROR = "500"


@dataclass(slots=True)
class _Answer:
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

    @property
    def is_data(self) -> bool:
        return self.code == "200" and not self.asked.is_login


@dataclass(slots=True)
class _Document:
    """Answers in the making, and whose they are."""

    account: Account | None = None
    refusal: str = REFUSED_SESSION
    session_id: str | None = None  # the one sent, where it was good
    answers: list[_Answer] = field(default_factory=list)


class Operator:
    """Answers NoveroRequest documents from a `World`."""

    def __init__(self, world: World) -> None:
        self.world = world

    def answer(self, body: bytes, *, address: str = "127.0.0.1") -> spoil.Reply:
        """The reply to one document from a source address, spoilt where `world.faults` says so."""
        world = self.world
        with world.lock:
            world.settle()
            world.counts["documents"] += 1
            try:
                asking = envelope.read(body)
            except MalformedError as error:
                world.counts["malformed"] += 1
                answers = [_refused(Asked("", "", "", {}), BAD_REQUEST, str(error))]
                return spoil.Reply(body=render.document(answer.shown() for answer in answers))
            document = self._document(asking, address)
            fault = None
            if world.faults.may_fire:
                fault = world.faults.pick(_applicable(document), world.settings.faults_in_a_row)
            if fault is Fault.SESSION_EXPIRED and document.session_id:
                world.sessions.end(document.session_id)
                document = self._document(asking, address)
            self._spoil_answers(document.answers, fault)
            self._remember(document.answers)
            whole = render.document(answer.shown() for answer in document.answers)
            refused = any(answer.refused for answer in document.answers)
            reply = spoil.Reply(body=whole, status=world.settings.refusal_status if refused else 200)
            return spoil.spoil(reply, fault, world.settings, world.counts["documents"])

    # The three calls and the login

    def _document(self, asking: Asking, address: str) -> _Document:
        document = _Document()
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

    def _login(self, document: _Document, asked: Asked, address: str) -> _Answer:
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
        return _Answer(asked, content=render.session(session_id))

    def _unauthenticated(self, document: _Document, asked: Asked) -> _Answer:
        answer = _refused(asked, self.world.settings.refusal_code, document.refusal)
        answer.refused = True
        return answer

    def _data(self, document: _Document, asked: Asked) -> _Answer:
        known = envelope.PARAMETERS.get((asked.target, asked.name))
        if known is None:
            return _refused(asked, NOT_FOUND, f"Unknown request {asked.target}/{asked.name}")
        if document.account is None:
            return self._unauthenticated(document, asked)
        unknown = sorted(asked.parameters.keys() - known)
        if unknown:
            return _refused(asked, BAD_REQUEST, f"Unknown parameter {unknown[0]}")
        call = {"GetCDRs": self._get_cdrs, "GetCDR": self._get_cdr, "GetTotals": self._get_totals}[asked.name]
        try:
            answer = call(document.account, asked)
        except MalformedError as error:
            return _refused(asked, BAD_REQUEST, str(error))
        answer.account = document.account
        return answer

    def _get_cdrs(self, account: Account, asked: Asked) -> _Answer:
        settings = self.world.settings
        query = envelope.query(
            asked.parameters, end_date_included=settings.end_date_included, limit_clamp=settings.limit_clamp
        )
        answer = _Answer(asked)
        self._fill(answer, account, self._page(account, query))
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

    def _fill(self, answer: _Answer, account: Account, page: list[int]) -> None:
        answer.page = page
        answer.content = render.page(account.records.xml(page), self.world.settings.empty_page)

    def _get_cdr(self, account: Account, asked: Asked) -> _Answer:
        uid, ref = envelope.uid(asked.parameters), asked.parameters.get("CDRRef")
        if uid is None and not ref:
            raise MalformedError("CDRUID or CDRRef is required")
        if uid is None:
            uid = account.records.by_ref(ref or "")
        if uid is None or not account.records.is_visible(uid):
            return _refused(asked, NOT_FOUND, "Call data record not found")
        record = account.records.xml([uid])[0]
        return _Answer(asked, content=re.sub("(?m)^ {8}( *<)", r"      \1", record))

    def _get_totals(self, account: Account, asked: Asked) -> _Answer:
        settings = self.world.settings
        period, number = asked.parameters.get("Period") or "day", asked.parameters.get("Number", "")
        try:
            sums = self.world.totals(period, number=number or None, username=account.login.username)
        except ValueError as error:
            raise MalformedError(f"Period {error}") from error
        return _Answer(
            asked,
            content=render.totals(number, period, sums, unit=settings.mins_unit, separators=settings.separators),
        )

    # Trouble in the answers themselves

    def _spoil_answers(self, answers: list[_Answer], fault: Fault | None) -> None:
        if fault is Fault.ERROR_CODE:
            answers[-1] = _refused(answers[-1].asked, INTERNAL_ERROR, "Internal error")
            answers[-1].request_id = answers[-1].asked.request_id
        elif fault is Fault.MISSING_RESPONSE:
            answers.pop()
        elif fault is Fault.WRONG_ID:
            answers[-1].request_id += "-of-another"
        elif fault in (Fault.DUPLICATE, Fault.REPEATED_PAGE):
            answer = next(answer for answer in answers if _can(answer, fault))
            account = answer.account
            if account is not None and answer.page is not None:
                again = answer.page + answer.page[:1] if fault is Fault.DUPLICATE else _still(account)
                self._fill(answer, account, again)

    def _remember(self, answers: Sequence[_Answer]) -> None:
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
                answer.account.last_page = answer.page or answer.account.last_page


def _still(account: Account) -> list[int]:
    """What is left of the account's last page."""
    return [uid for uid in account.last_page if account.records.is_visible(uid)]


def _refused(asked: Asked, code: str, text: str) -> _Answer:
    return _Answer(asked, code=code, content=render.message(text))


def _can(answer: _Answer, fault: Fault) -> bool:
    """Whether this fault shows in this answer."""
    if answer.page is None or answer.account is None:
        return False
    if fault is Fault.DUPLICATE:
        return bool(answer.page)
    return bool(_still(answer.account)) and _still(answer.account) != answer.page


def _applicable(document: _Document) -> set[Fault]:
    """Faults that would show in this document, so that counting them proves that they took effect."""
    faults = set(spoil.ANY_DOCUMENT)
    if document.answers and document.answers[-1].is_data:
        faults |= {Fault.ERROR_CODE, Fault.MISSING_RESPONSE, Fault.WRONG_ID}
    if document.session_id is not None:
        faults.add(Fault.SESSION_EXPIRED)
    for fault in (Fault.DUPLICATE, Fault.REPEATED_PAGE):
        if any(_can(answer, fault) for answer in document.answers):
            faults.add(fault)
    return faults
