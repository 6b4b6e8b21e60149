"""The ledger of days as calendar months."""

from __future__ import annotations

from calendar import Calendar
from collections import Counter
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from cdrsync.model import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cdrsync.model import LedgerDay

RECENT_MONTHS = 6  # months that are open; older ones are folded away
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class Mark(StrEnum):
    """How a day is drawn: each with a shape of its own, so that no colour is needed to tell them apart."""

    COMPLETE = "complete"
    HEALED = "healed"
    ACCEPTED = "accepted"
    GAP = "gap"
    UNAUDITED = "unaudited"
    UNREAD = "unread"


MEANING = {
    Mark.COMPLETE: "agrees with the operator",
    Mark.HEALED: "gap found and closed",
    Mark.GAP: "the operator counts other calls",
    Mark.ACCEPTED: "a gap that a person has answered for",
    Mark.UNAUDITED: "read to its end",
    Mark.UNREAD: "not read to its end yet",
}


class Cell(NamedTuple):
    """One square of a month; without a `mark` it is today, or outside the ledger."""

    number: int
    mark: Mark | None = None
    text: str = ""  # the whole story, for a pointer that rests on it and for those who listen
    today: bool = False


class Month(NamedTuple):
    """A month as weeks from Monday to Sunday; None for the squares of its neighbours."""

    title: str  # November 2025
    weeks: list[list[Cell | None]]


class Legend(NamedTuple):
    """One line of the legend."""

    mark: Mark
    meaning: str
    days: int


class LedgerView(NamedTuple):
    """The calendar, newest month first."""

    recent: list[Month]
    earlier: list[Month]
    legend: list[Legend]
    first: date | None  # first day of the ledger
    days: int


def _mark(day: LedgerDay, today: date) -> Mark | None:
    """How a day is drawn. A day that still goes on has no mark of its own."""
    if day.verdict is Verdict.UNAUDITED:
        if day.day >= today:
            return None
        return Mark.UNAUDITED if day.downloaded_at else Mark.UNREAD
    return Mark(day.verdict.value)


def view(ledger: Iterable[LedgerDay], today: date) -> LedgerView:
    """The calendar from the first day of the ledger to the month of `today`."""
    days = {day.day: day for day in ledger}
    counts = Counter(mark for day in days.values() if (mark := _mark(day, today)) is not None)
    months = [_month(first, days, today) for first in _months(min(days, default=today), max([today, *days]))]
    return LedgerView(
        recent=months[:RECENT_MONTHS],
        earlier=months[RECENT_MONTHS:],
        legend=[Legend(mark, meaning, counts[mark]) for mark, meaning in MEANING.items()],
        first=min(days, default=None),
        days=len(days),
    )


def _months(first: date, last: date) -> list[date]:
    """The first days of the months from `last` back to `first`."""
    numbers = range(last.year * 12 + last.month - 1, first.year * 12 + first.month - 2, -1)
    return [date(number // 12, number % 12 + 1, 1) for number in numbers]


def _month(first: date, days: Mapping[date, LedgerDay], today: date) -> Month:
    weeks = [
        [_cell(day, days.get(day), today) if day.month == first.month else None for day in week]
        for week in Calendar().monthdatescalendar(first.year, first.month)
    ]
    return Month(f"{first:%B %Y}", weeks)


def _cell(day: date, held: LedgerDay | None, today: date) -> Cell:
    if held is None:
        return Cell(day.day, today=day == today)
    calls = "1 call" if held.calls == 1 else f"{held.calls:,} calls"
    operator = "" if held.operator_calls is None else f", the operator counts {held.operator_calls:,}"
    note = f". {held.note}" if held.note else ""
    mark = _mark(held, today)
    return Cell(day.day, mark, f"{day:%-d %B %Y}, {mark or 'today'}: {calls} held{operator}{note}", day == today)
