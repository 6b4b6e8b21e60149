"""The operator's API as a `Source`: asks in, typed answers out.

What fails is asked again (`retry`); a page that one broken record spoils is read around it (`salvage`); pages that are
too large for the operator are asked for smaller (`limits`).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from cdrsync.errors import ApiUnreachable, BadAnswer
from cdrsync.model import Batch, CdrsAsk, Document, Refusal, Totals, TotalsAsk
from cdrsync.source import salvage, session
from cdrsync.source.answers import answer, fetched, says_none
from cdrsync.source.exchange import Answered, Broken, Exchange
from cdrsync.source.http_answer import LATER
from cdrsync.source.limits import Limits
from cdrsync.source.request import Ask, RecordAsk
from cdrsync.source.retry import RetryPolicy, run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

_PLACE = re.compile(r"^the answer is not well-formed XML: |, line \d+, column \d+.*", re.DOTALL)
"""What a parser says of a whole answer, and of the place in it: another page has the same record elsewhere."""


class NoveroApi:
    """One account's way to the API: an exchange, limits, retries. Every thread of an account may use it at once.

    The exchange's `stop`, once set, ends every wait within a second by ApiUnreachable, as `close()` does.
    """

    def __init__(self, exchange: Exchange, *, retry: RetryPolicy | None = None) -> None:
        self._exchange = exchange
        self._retry = retry or RetryPolicy()
        self._salvage = salvage.Salvage()
        self.limits = Limits()

    def ask(self, asks: Sequence[CdrsAsk | TotalsAsk]) -> Document:
        """Send the asks in one document; give their answers in order, a Refusal for each that was refused."""
        if self._retry.attempts == 1:
            return self._once(asks)
        return self.limits.ask(asks, self._persistent, self._once)

    def fetch(self, *, uid: int | None = None, ref: str | None = None) -> Batch:
        """Read one record again (GetCDR), by its uid or its ref. Raises RequestRefused, and as `ask` does."""
        wanted = RecordAsk(uid=uid, ref=ref)
        try:
            return run(lambda: self._batch(wanted, []), self._retry, self._exchange.stop)
        except Broken:
            return self._single(wanted, [])

    def close(self) -> None:
        """End every wait, then close the connections. Asking afterwards raises ApiUnreachable."""
        self._exchange.close()

    def _once(self, asks: Sequence[CdrsAsk | TotalsAsk]) -> Document:
        """Ask once. Raises _Passing where a refusal may pass by itself."""
        got = self._answered(asks)
        answers = [answer(*one) for one in zip(got.responses, asks, strict=True)]
        document = Document(
            [self._masked(one) if isinstance(one, Totals) else one for one in answers],
            got.answered_at,
            got.size,
            got.operator_clock,
        )
        passing = next((one for one in answers if isinstance(one, Refusal) and one.passing), None)
        if passing is not None:
            raise _Passing(f"the operator answers Code {passing.code}: {passing.message}", document)
        return document

    def _persistent(self, asks: Sequence[CdrsAsk | TotalsAsk]) -> Document:
        """Ask until there is an answer, as often as the policy allows; read around what is broken."""
        stop = self._exchange.stop
        try:
            for _ in range(2):
                document = run(lambda: _unless_broken(lambda: self._once(asks)), self._retry, stop)
                if document is not None:
                    return document
        except _Passing as error:
            if all(isinstance(one, Refusal) for one in error.document.answers):
                raise
            return error.document
        if all(isinstance(ask, CdrsAsk) for ask in asks):
            return self._around(asks)
        return run(lambda: self._once(asks), self._retry, stop)

    def _around(self, asks: Sequence[CdrsAsk | TotalsAsk]) -> Document:
        """Read each ask in parts, around the records that are broken."""
        seen: list[Answered] = []

        def read(part: CdrsAsk) -> Batch | None:
            return run(lambda: _unless_broken(lambda: self._batch(part, seen)), self._retry, self._exchange.stop)

        def single(part: CdrsAsk) -> Batch:
            return self._single(part, seen)

        answers = [salvage.in_parts(ask, read, single) for ask in asks if isinstance(ask, CdrsAsk)]
        return Document(
            [*answers], min(one.answered_at for one in seen), sum(one.size for one in seen), seen[-1].operator_clock
        )

    def _single(self, ask: CdrsAsk | RecordAsk, seen: list[Answered]) -> Batch:
        """Read one record until it can be read, or is proven to be broken. Raises BadAnswer where neither is so."""

        def reading() -> Batch | tuple[bytes, str]:
            try:
                return self._batch(ask, seen)
            except Broken as error:
                only = salvage.cut(error.body)
                if only is None:
                    raise
                record, others = only
                rest = error.again(others)
                if not salvage.is_placeholder(_batch_of(rest, ask)):
                    raise
                seen.append(rest)
                return record, _PLACE.sub("", error.message)

        stop = self._exchange.stop
        found = salvage.proven(run(reading, self._retry, stop) for _ in range(salvage.READINGS))
        return found if isinstance(found, Batch) else self._salvage.add(*found)

    def _batch(self, ask: CdrsAsk | RecordAsk, seen: list[Answered]) -> Batch:
        got = self._answered([ask])
        batch = _batch_of(got, ask)
        seen.append(got)
        return batch

    def _answered(self, asks: Sequence[Ask]) -> Answered:
        """Ask once; what is known to be broken is cut out. Raises Broken where something else is, too."""
        try:
            return self._exchange.send(asks)
        except Broken as error:
            body, stands_for = self._salvage.without_known(error.body)
            if not stands_for:
                raise
            try:
                got = error.again(body)
            except BadAnswer:
                raise error from None
            found = [
                replace(one, batch=salvage.restored(one.batch, stands_for)) if one.batch else one
                for one in got.responses
            ]
            return got._replace(responses=found)

    def _masked(self, totals: Totals) -> Totals:
        """Totals without a secret that the operator may echo in them."""
        hide = self._exchange.masked
        return replace(
            totals,
            texts={hide(name): hide(text) for name, text in totals.texts.items()},
            unusable=tuple(map(hide, totals.unusable)),
        )


class _Passing(ApiUnreachable):
    """The operator refused something in a way that may pass by itself."""

    def __init__(self, message: str, document: Document) -> None:
        super().__init__(message, hint=LATER, answered=True)
        self.document = document


def _batch_of(got: Answered, ask: CdrsAsk | RecordAsk) -> Batch:
    """The records that answer a single ask. Raises BadAnswer, ApiUnreachable, RequestRefused."""
    (only,) = got.responses
    if session.passes(only) and not (isinstance(ask, RecordAsk) and says_none(only)):
        raise ApiUnreachable(f"the operator answers {only.said}", hint=LATER, answered=True)
    found = answer(only, ask) if isinstance(ask, CdrsAsk) else fetched(only, ask)
    if not isinstance(found, Batch):
        raise BadAnswer(f"the operator refused a part of a page that it gave before: {only.said}")
    return found


def _unless_broken(work: Callable[[], T]) -> T | None:
    try:
        return work()
    except Broken:
        return None
