"""A `Source` over a list of calls, for tests that say exactly what the operator shows and look at what was asked."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from cdrsync.model import Batch, Cdr, CdrsAsk, Document, Refusal, Reject, Totals, TotalsAsk

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LONDON = ZoneInfo("Europe/London")
NOW = datetime(2026, 5, 10, 12, tzinfo=UTC)


class Listing:
    """The operator's list, in the order in which `records` stands. `documents` keeps what was asked."""

    def __init__(
        self,
        records: Sequence[Cdr | Reject] = (),
        *,
        clamp: int = 10_000,
        end_included: bool = False,
        before: Callable[[], None] = lambda: None,
        now: Callable[[], datetime] = lambda: NOW,
    ) -> None:
        self.records = list(records)
        self.dateless: set[int] = set()  # uids of records that no window shows
        self.told: Sequence[Cdr | Reject] | None = None
        self.documents: list[list[CdrsAsk | TotalsAsk]] = []
        self._clamp = clamp
        self._end_included = end_included
        self._before = before
        self._now = now

    @property
    def asked(self) -> list[CdrsAsk]:
        """Every GetCDRs, one after the other."""
        return [ask for document in self.documents for ask in document if isinstance(ask, CdrsAsk)]

    def ask(self, asks: Sequence[CdrsAsk | TotalsAsk]) -> Document:
        """Answer a document; `before` stands before each of its requests."""
        self.documents.append(list(asks))
        answers: list[Batch | Totals | Refusal] = []
        for ask in asks:
            self._before()
            answers.append(self._answer(ask))
        return Document(answers, self._now())

    def fetch(self, *, uid: int | None = None, ref: str | None = None) -> Batch:
        """One record, or what the test has told it to say."""
        if self.told is not None:
            return _batch(self.told)
        return _batch([one for one in self.records if isinstance(one, Cdr) and (one.uid == uid or one.ref == ref)])

    def close(self) -> None:
        """Nothing is open."""

    def _answer(self, ask: CdrsAsk | TotalsAsk) -> Batch | Refusal:
        if isinstance(ask, TotalsAsk):
            return Refusal("403", "GetTotals is not available")
        found = [one for one in self.records if self._applies(one, ask)]
        return _batch(found[ask.offset : ask.offset + min(ask.limit, self._clamp)])

    def _applies(self, record: Cdr | Reject, ask: CdrsAsk) -> bool:
        if ask.after_uid is not None and (record.uid or 0) <= ask.after_uid:
            return False
        if ask.after_uid is None and record.uid in self.dateless:
            return False
        if isinstance(record, Reject):
            return True
        if ask.number is not None and record.bnumber != ask.number:
            return False
        return ask.after_uid is not None or self._in_window(record.call_date, ask)

    def _in_window(self, day: date, ask: CdrsAsk) -> bool:
        assert ask.start_date is not None
        assert ask.end_date is not None
        return ask.start_date <= day < ask.end_date or (self._end_included and day == ask.end_date)


def _batch(records: Sequence[Cdr | Reject]) -> Batch:
    return Batch([one for one in records if isinstance(one, Cdr)], [one for one in records if isinstance(one, Reject)])


def at(hour: int, minute: int = 0, *, day: date = date(2026, 5, 10)) -> datetime:
    """A UK wall clock time of the test's day as an instant."""
    return datetime.combine(day, time(hour, minute), LONDON).astimezone(UTC)
