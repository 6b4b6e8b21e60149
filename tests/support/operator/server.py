"""The operator that goes wrong, as a WSGI app: `world.faults` says when."""

from __future__ import annotations

from email.utils import formatdate
from typing import TYPE_CHECKING

from flask import Flask, Response, request

from cdrsync.sandbox import server
from cdrsync.sandbox.operator import Answer, Document, Operator, refused
from tests.support.operator import spoil
from tests.support.operator.control import control
from tests.support.operator.faults import Fault
from tests.support.operator.wire import ON_A_SOCKET, ConnectionCutError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cdrsync.sandbox.envelope import Asking
    from cdrsync.sandbox.operator import HttpAnswer
    from tests.support.operator.world import World

INTERNAL_ERROR = "500"


def app(world: World) -> Flask:
    """The WSGI app over a world. Several apps may share one."""

    def respond(answer: HttpAnswer, _: object) -> Response:
        if world.settings.latency > 0:
            world.sleep(world.settings.latency)
        return _response(
            answer if isinstance(answer, spoil.SpoiltAnswer) else spoil.SpoiltAnswer(answer.body, answer.status), world
        )

    made = server.app(world, TroubledOperator(world), respond)
    made.register_blueprint(control(world), url_prefix="/_sandbox")
    return made


class TroubledOperator(Operator):
    """Spoils answers, and what goes back over HTTP."""

    world: World

    def answered(self, asking: Asking, address: str) -> spoil.SpoiltAnswer:
        world = self.world
        document = self.document(asking, address)
        fault = None
        if world.faults.may_fire:
            fault = world.faults.pick(self._applicable(document), world.settings.faults_in_a_row)
        if fault is Fault.SESSION_EXPIRED and document.session_id:
            del world.sessions._open[document.session_id]
            document = self.document(asking, address)
        self._spoil_answers(document.answers, fault)
        whole = self.http_answer(document)
        return spoil.spoil(
            spoil.SpoiltAnswer(whole.body, whole.status), fault, world.settings, world.counts["documents"]
        )

    def remember(self, answers: Sequence[Answer]) -> None:
        super().remember(answers)
        for answer in answers:
            if answer.page and answer.account is not None:
                self.world.last_pages[answer.account.login.username] = answer.page

    def _spoil_answers(self, answers: list[Answer], fault: Fault | None) -> None:
        if fault is Fault.ERROR_CODE:
            answers[-1] = refused(answers[-1].asked, INTERNAL_ERROR, "Internal error")
            answers[-1].request_id = answers[-1].asked.request_id
        elif fault is Fault.MISSING_RESPONSE:
            answers.pop()
        elif fault is Fault.WRONG_ID:
            answers[-1].request_id += "-of-another"
        elif fault in (Fault.DUPLICATE, Fault.REPEATED_PAGE):
            answer = next(answer for answer in answers if self._can(answer, fault))
            if answer.account is not None and answer.page is not None:
                again = answer.page + answer.page[:1] if fault is Fault.DUPLICATE else self._still(answer)
                self.fill(answer, answer.account, again)

    def _still(self, answer: Answer) -> list[int]:
        """What is left of the account's last page."""
        if answer.account is None:
            return []
        last = self.world.last_pages.get(answer.account.login.username, [])
        return [uid for uid in last if answer.account.records.is_visible(uid)]

    def _can(self, answer: Answer, fault: Fault) -> bool:
        """Whether this fault shows in this answer."""
        if answer.page is None or answer.account is None:
            return False
        if fault is Fault.DUPLICATE:
            return bool(answer.page)
        still = self._still(answer)
        return bool(still) and still != answer.page

    def _applicable(self, document: Document) -> set[Fault]:
        """Faults that would show in this document, so that counting them proves that they took effect."""
        faults = set(spoil.ANY_DOCUMENT)
        last = document.answers[-1] if document.answers else None
        if last is not None and last.code == "200" and not last.asked.is_login:
            faults |= {Fault.ERROR_CODE, Fault.MISSING_RESPONSE, Fault.WRONG_ID}
        if document.session_id is not None:
            faults.add(Fault.SESSION_EXPIRED)
        for fault in (Fault.DUPLICATE, Fault.REPEATED_PAGE):
            if any(self._can(answer, fault) for answer in document.answers):
                faults.add(fault)
        return faults


def _response(answer: spoil.SpoiltAnswer, world: World) -> Response:
    headers = {**answer.headers, "Date": formatdate(world.clock(), usegmt=True)}
    gzip_accepted = "gzip" in request.headers.get("Accept-Encoding", "")
    body: bytes | Iterator[bytes] = answer.body
    if answer.manner == "huge":
        packed = gzip_accepted
        body = spoil.huge_gzip(world.settings.huge_bytes) if packed else spoil.huge(world.settings.huge_bytes)
    elif answer.manner == "whole":
        packed = gzip_accepted and world.settings.gzip
        body = spoil.gzip(answer.body) if packed else answer.body
    else:
        packed = False
        headers["Content-Length"] = str(len(answer.body))
        body = _drip(answer.body, world) if answer.manner == "drip" else _cut(answer)
    if packed:
        headers["Content-Encoding"] = "gzip"
    return Response(body, answer.status, headers)


def _cut(answer: spoil.SpoiltAnswer) -> Iterator[bytes]:
    """A body that breaks off. In-process there is no socket to break: what httpx would raise is raised instead."""
    on_a_socket = ON_A_SOCKET in request.environ
    reset = answer.manner == "reset"
    return _broken(b"" if reset else answer.body[: len(answer.body) // 2], reset=reset, on_a_socket=on_a_socket)


def _broken(half: bytes, *, reset: bool, on_a_socket: bool) -> Iterator[bytes]:
    if half:
        yield half
    if on_a_socket:
        raise ConnectionCutError(reset=reset)
    import httpx

    if reset:
        raise httpx.ReadError("[Errno 104] Connection reset by peer")
    raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


def _drip(body: bytes, world: World) -> Iterator[bytes]:
    size = world.settings.drip_bytes
    for start in range(0, len(body), size):
        world.sleep(world.settings.drip_pause)
        yield body[start : start + size]
