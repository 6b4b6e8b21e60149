"""What the operator can't do at once: large pages, or several requests in one document. Found out by trying, and kept.

Nothing is concluded from one failure: the smaller question must be answered, and the larger one fail again after it.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from cdrsync.errors import ApiUnreachable
from cdrsync.model import CdrsAsk, Document, Refusal, TotalsAsk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Asks = Sequence[CdrsAsk | TotalsAsk]
    Asking = Callable[[Asks], Document]

LEAST = 10
"""Records: the default of the operator's page. A server that can't give so many can't give any."""

_log = logging.getLogger(__name__)


class Limits:
    """What was learned of one operator, for as long as the process lives."""

    def __init__(self) -> None:
        self._records: int | None = None  # that are asked for at once, at most
        self._one_by_one = False

    def told(self) -> list[str]:
        """What was learned, in words."""
        words = []
        if self._records is not None:
            words.append(f"the operator fails when asked for more than {self._records} records: pages are smaller")
        if self._one_by_one:
            words.append("the operator fails when asked several things in one document: each is asked by itself")
        return words

    def ask(self, asks: Asks, persistent: Asking, once: Asking) -> Document:
        """Ask within what was learned, and learn where the operator fails. `once` tries once, `persistent` again."""
        asks = [self._within(ask) for ask in asks]
        if self._one_by_one and len(asks) > 1:
            return joined([self.ask([ask], persistent, once) for ask in asks])
        failure = None
        try:
            document = persistent(asks)
            if not _refused(document):
                return document
        except ApiUnreachable as error:
            if not error.answered or error.retry_after:
                raise
            failure = error
        smaller = self._smaller(asks, persistent, once)
        if smaller is not None:
            return smaller
        if failure is not None:
            raise failure
        return document

    def _within(self, ask: CdrsAsk | TotalsAsk) -> CdrsAsk | TotalsAsk:
        if self._records is None or isinstance(ask, TotalsAsk):
            return ask
        return replace(ask, limit=min(ask.limit, self._records))

    def _smaller(self, asks: Asks, persistent: Asking, once: Asking) -> Document | None:
        if len(asks) == 1:
            return self._smaller_page(asks[0], persistent, once)
        documents = []
        for ask in asks:
            one = self._within(ask)
            document = _answer([one], once) or self._smaller_page(one, persistent, once)
            if document is None:
                return None
            documents.append(document)
        together = _answer([self._within(ask) for ask in asks], persistent)
        if together is not None:
            return together
        self._one_by_one = True
        self._tell()
        return joined(documents)

    def _smaller_page(self, ask: CdrsAsk | TotalsAsk, persistent: Asking, once: Asking) -> Document | None:
        if isinstance(ask, TotalsAsk) or ask.limit <= LEAST or _answer([replace(ask, limit=LEAST)], once) is None:
            return None
        if document := _answer([ask], persistent):
            return document
        records = ask.limit
        while (records := max(LEAST, records // 2)) > LEAST:
            if document := _answer([replace(ask, limit=records)], once):
                break
        else:
            document = _answer([replace(ask, limit=LEAST)], persistent)
        if document is not None:
            self._records = records
            self._tell()
        return document

    def _tell(self) -> None:
        _log.warning("%s", self.told()[-1] if self._one_by_one else self.told()[0])


def _answer(asks: Asks, asking: Asking) -> Document | None:
    """The answer, None where anything of it fails."""
    try:
        document = asking(asks)
    except ApiUnreachable:
        return None
    return None if _refused(document) else document


def _refused(document: Document) -> bool:
    return any(isinstance(answer, Refusal) for answer in document.answers)


def joined(documents: Sequence[Document]) -> Document:
    """The answers of several documents as one."""
    return Document(
        [answer for one in documents for answer in one.answers],
        min(one.answered_at for one in documents),
        sum(one.size for one in documents),
        documents[-1].operator_clock,
    )
