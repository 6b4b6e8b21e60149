"""The operator's own totals, asked by themselves (GetTotals)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdrsync.errors import BadAnswer, RequestRefused
from cdrsync.model import Period, Refusal, Totals, TotalsAsk

if TYPE_CHECKING:
    from datetime import datetime

    from cdrsync.sync.ports import Source


def ask_totals(source: Source, period: Period, number: str | None = None) -> tuple[Totals, datetime]:
    """The totals of a period and the operator's moment that they are of. Raises RequestRefused."""
    document = source.ask([TotalsAsk(period, number)])
    (answer,) = document.answers
    if isinstance(answer, Refusal):
        raise RequestRefused(f"the operator refused GetTotals: {answer.message}", code=answer.code)
    if not isinstance(answer, Totals):
        raise BadAnswer("the answer to GetTotals holds no totals")
    return answer, document.answered_at
