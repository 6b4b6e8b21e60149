"""What was held and stated at one moment, while calls went on arriving."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cdrsync.audit.figures import Comparison, Figures, Interpretation, compare
from cdrsync.errors import BadAnswer, RequestRefused
from cdrsync.model import Batch, Cdr, Period, Refusal, Totals, Window

if TYPE_CHECKING:
    from datetime import datetime

    from cdrsync.audit.findings import Holdings


@dataclass(frozen=True, slots=True)
class Moment:
    """The answers of one document, and the rows of that moment."""

    answered_at: datetime
    totals: list[tuple[Period, Batch | Totals | Refusal]]
    holdings: Holdings
    fresh: list[Cdr]  # visible before the totals, not held yet
    behind: bool  # another process is to write them, and may be writing
    arrived: list[Cdr]  # became visible while the document was answered, oldest first


def best(moment: Moment, window: Window, totals: Totals, established: Interpretation) -> Comparison:
    """The comparison that agrees, over every number of arrivals that the totals may already have seen."""
    figures = Figures.of(day for day in moment.holdings.held if window.first <= day.day <= window.last)
    for cdr in moment.fresh:
        if window.first <= cdr.call_date <= window.last:
            figures = figures.plus(cdr)
    first = comparison = compare(figures, totals, established)
    for cdr in moment.arrived:
        if comparison.agrees or comparison.unusable:
            break
        if window.first <= cdr.call_date <= window.last:
            figures = figures.plus(cdr)
            comparison = compare(figures, totals, established)
    return comparison if comparison.agrees else first


def records_of(answer: Batch | Totals | Refusal) -> list[Cdr]:
    """The records of an answer to GetCDRs. Raises RequestRefused."""
    if isinstance(answer, Refusal):
        raise RequestRefused(f"the operator refused GetCDRs: {answer.message}", code=answer.code)
    if not isinstance(answer, Batch):
        raise BadAnswer("the answer to GetCDRs holds no CDRs")
    return answer.cdrs
