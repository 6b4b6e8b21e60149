"""`start_date = "all"`: the way back to the first call that the operator has, month by month."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

from cdrsync.errors import RequestRefused
from cdrsync.model import (
    BEGINNING,
    CdrsAsk,
    Checkpoint,
    Origin,
    PageSaved,
    Period,
    Totals,
    TotalsAsk,
    Window,
)
from cdrsync.sync.ports import batches
from cdrsync.sync.streams import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cdrsync.sync.ports import Source
    from cdrsync.sync.transfer import Transfer

EMPTY_MONTHS = 12
"""Months in a row without a call before which no older one is believed in, where the operator does not show any."""


class History:
    """How far back one account has been read. The position is kept in the checkpoint of `history`."""

    def __init__(self, transfer: Transfer) -> None:
        self._transfer = transfer
        self._store = transfer.store
        self._position = transfer.position

    def walk_back(self, today: date, read: Callable[[Window], Iterator[PageSaved]]) -> Iterator[PageSaved]:
        """Read month by month into the past until the operator has nothing older. How far it has come is kept.

        `read` reads what is missing of a window. GetTotals can't say when everything is held: how it counts calls is
        not documented.
        """
        walk = self._store.checkpoint(Stream.HISTORY)
        reached = Window(today, today) if walk is None or walk.window is None else walk.window
        oldest, busy = reached.first, reached.last  # read back to the one; no calls seen between it and the other
        yield from read(Window(oldest, today - timedelta(days=1)))
        while not self._ends_before(oldest, busy):
            last = oldest - timedelta(days=1)
            oldest = last.replace(day=1)
            month, records = Window(oldest, last), 0
            for saved in read(month):
                records += saved.records
                yield saved
            if records or self._store.holds_calls(month):  # whoever had read it before
                busy = oldest
            yield self._walked(oldest, busy)
        yield self._walked(oldest, busy, done=True)

    def reopen(self) -> bool:
        """Let the walk go on where it ended although the operator has older calls; answers whether it has."""
        first = self._position.first_day()
        if first is None or not self._goes_on_before(first):
            return False
        self._walked(first, first)
        return True

    def _ends_before(self, oldest: date, busy: date) -> bool:
        """Whether nothing is older. The operator is asked behind each month without a call, so that few are read."""
        empty = _months(oldest, busy)
        if not empty:
            return False
        goes_on = self._goes_on_before(oldest)
        return empty >= EMPTY_MONTHS if goes_on is None else not goes_on

    def _goes_on_before(self, oldest: date) -> bool | None:
        """Whether the operator has older calls; None where it answers no such question."""
        if oldest <= BEGINNING:
            return False
        try:
            return calls_before(
                self._transfer.source, oldest, self._position.numbers, self._transfer.settings.page_size
            )
        except RequestRefused:
            return None

    def _walked(self, oldest: date, busy: date, *, done: bool = False) -> PageSaved:
        checkpoint = Checkpoint(Stream.HISTORY, window=Window(oldest, busy), begun_at=self._transfer.clock(), done=done)
        return self._transfer.keep(Origin.BACKFILL, checkpoint)


def calls_before(source: Source, day: date, numbers: Sequence[str | None], page_size: int) -> bool:
    """Whether the operator has calls to the numbers before a day. Raises RequestRefused.

    Whether EndDate is included is not documented: both are asked. Nor is how long a window may be: the months before
    the day are asked for one by one as well.
    """
    eve = day - timedelta(days=1)
    firsts = [eve]
    for _ in range(EMPTY_MONTHS):
        firsts.append((firsts[-1] - timedelta(days=1)).replace(day=1))
    windows = [(BEGINNING, eve), *zip(firsts[1:], firsts, strict=False)]
    for number in numbers:
        *older, last = batches(
            source.ask(
                [
                    *(CdrsAsk(limit=1, start_date=first, end_date=end, number=number) for first, end in windows),
                    CdrsAsk(limit=page_size, start_date=eve, end_date=day, number=number),
                ]
            )
        )
        dated = (cdr for batch in (*older, last) for cdr in batch.cdrs)
        if any(cdr.call_date < day for cdr in dated) or any(batch.rejects for batch in older):
            return True
    return False


def counted(source: Source) -> int | None:
    """The most calls that GetTotals `all` can mean. None where it can't be read."""
    (answer,) = source.ask([TotalsAsk(Period.ALL)]).answers
    if not isinstance(answer, Totals):
        return None
    counts = (answer.answered, answer.missed, answer.voicemail)
    return None if None in counts else sum(count or 0 for count in counts)


def _months(first: date, last: date) -> int:
    return (last.year - first.year) * 12 + last.month - first.month
