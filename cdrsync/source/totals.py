"""`<CDRTotals>` → Totals (GetTotals of the operator's page), read tolerantly.

Answers may carry separators and signs (`7,859`, `£10`). A figure that can't be read is None and named in `unusable`;
the texts are all kept, so that nothing the operator said is lost.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING

from cdrsync.errors import BadAnswer
from cdrsync.model import Period, Totals, TotalsAsk

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdrsync.source.envelope import TotalsSent

_FIGURE = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,6})?|[0-9]{1,3}(?:,[0-9]{3}){1,4}(?:\.[0-9]{1,6})?")
_SIGNS = re.compile(r"[£+\s\u00a0]+")


def read_totals(sent: Sequence[TotalsSent], ask: TotalsAsk) -> Totals:
    """Give the totals that answer `ask`.

    Raises BadAnswer where the operator says that these are totals of another of its periods. More than one
    `<CDRTotals>`, or none, leaves every figure None: which of them is meant is not documented.
    """
    if len(sent) != 1:
        return _unreadable(ask, f"{len(sent)} <CDRTotals> where one was expected")
    only = sent[0]
    said = (only.period or "").strip()
    if said != ask.period and said in set(Period):
        raise BadAnswer(f"the operator sent totals of {said!r} where {ask.period.value!r} was asked")
    unusable: list[str] = []
    return Totals(
        period=ask.period,
        number=ask.number,
        answered=_count(only.texts, "AnsweredTotal", unusable),
        missed=_count(only.texts, "MissedTotal", unusable),
        voicemail=_count(only.texts, "VoicemailTotal", unusable),
        minutes_no_format=_figure(only.texts, "MinsTotalNoFormat", unusable),
        charge=_figure(only.texts, "ChargeTotal", unusable),
        texts=dict(only.texts),
        unusable=tuple(unusable),
    )


def _unreadable(ask: TotalsAsk, why: str) -> Totals:
    return Totals(
        period=ask.period,
        number=ask.number,
        answered=None,
        missed=None,
        voicemail=None,
        minutes_no_format=None,
        charge=None,
        texts={},
        unusable=(why,),
    )


def _count(texts: dict[str, str], element: str, unusable: list[str]) -> int | None:
    figure = _figure(texts, element, unusable)
    if figure is None:
        return None
    if figure != int(figure):
        unusable.append(f"{element}: not a whole number: {texts[element]!r}")
        return None
    return int(figure)


def _figure(texts: dict[str, str], element: str, unusable: list[str]) -> Decimal | None:
    text = texts.get(element)
    if text is None:
        unusable.append(f"{element}: missing")
        return None
    bare = _SIGNS.sub("", text)
    if not _FIGURE.fullmatch(bare):
        unusable.append(f"{element}: not a figure: {text!r}")
        return None
    return Decimal(bare.replace(",", ""))
