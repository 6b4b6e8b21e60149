"""Responses → the answers to the asks: each must be that to its request, of the kind that was asked for."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING

from cdrsync.errors import BadAnswer, RequestRefused
from cdrsync.model import MAX_INT, Batch, CdrsAsk, Period, Refusal, Totals, TotalsAsk
from cdrsync.source.session import passes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdrsync.source.request import RecordAsk, Request
    from cdrsync.source.response import Response, TotalsSent

_HAS_NONE = re.compile(r"not? (?:be )?(?:found|exist|such|record|cdr|call)|unknown (?:record|cdr|call)", re.IGNORECASE)

_SUCCESS = r"ok|done|success|(?:request |query )?(?:successful|(?:successfully )?completed?(?: successfully)?)"
_CALLS = r"(?:(?:new|more|further|matching|applicable|such|call|detail|data) )*(?:cdrs?|calls?|records?|results?|data)"
_NOT_THERE = r"(?:were |was |have been )?(?:available|exist|returned|made|found|matching|for|since|in)(?: [^.,;:!]*)?"
_SAYS_NONE = re.compile(
    r"(?!.*\b(?:again|later|moment|error|fail))"
    rf"(?:{_SUCCESS}|none|nothing|(?:none|nothing|not) found|(?:there (?:are|were|is|was) )?(?:no|0|zero) {_CALLS}"
    rf"(?: {_NOT_THERE})?)[.!]?",
    re.IGNORECASE,
)


def match(requests: list[Request], found: list[Response]) -> None:
    """Make sure that each answer is that to its request: by order, by RequestId and by what was asked.

    Raises BadAnswer.
    """
    if len(requests) != len(found):
        refused = next((one for one in found if not one.ok), None)
        why = f" ({refused.said})" if refused else ""
        raise BadAnswer(f"{len(found)} answers to {len(requests)} requests{why}")
    for asked, one in zip(requests, found, strict=True):
        named = (one.request_id, one.target, one.name)
        if named != (asked.id, asked.target, asked.name) and (one.ok or one.request_id not in {asked.id, ""}):
            raise BadAnswer(f"the answer to {asked.name} {asked.id} names itself {' '.join(named)[:100]!r}")


def answer(response: Response, ask: CdrsAsk | TotalsAsk) -> Batch | Totals | Refusal:
    """Give what `response` answers to `ask`. Raises BadAnswer."""
    if not response.ok:
        return Refusal(response.code, response.words, passing=passes(response))
    if isinstance(ask, TotalsAsk):
        return read_totals(response.totals, ask)
    return _batch(response, _SAYS_NONE.fullmatch(response.message), response.words)


def fetched(response: Response, wanted: RecordAsk) -> Batch:
    """Give the answer to GetCDR, empty where the operator has no such record. Raises BadAnswer, RequestRefused.

    How the operator says that it has none is not documented: by no record, by Code 404, or in words.
    """
    if not response.ok:
        if says_none(response):
            return Batch([])
        raise RequestRefused(f"the operator refused GetCDR: {response.said}", code=response.code)
    none = _SAYS_NONE.fullmatch(response.message) or _HAS_NONE.search(response.message)
    batch = _batch(response, none, response.said)
    if len(batch) > 1 or (wanted.uid is not None and any(cdr.uid != wanted.uid for cdr in batch.cdrs)):
        raise BadAnswer("the operator sent another record than the one that was asked for")
    return batch


def says_none(response: Response) -> bool:
    """Whether a refusal says that the operator has no such record."""
    return response.code == "404" or bool(_HAS_NONE.search(response.message))


def _batch(response: Response, none: re.Match[str] | None, words: str) -> Batch:
    """Give the records of an answer; `none` says whether its message, in place of any `<CDRs>`, is that there is none.

    What the operator puts in place of `<CDRs>` is not documented. Other words ("Temporarily overloaded, try again
    later") are a failure to be tried again, shown to people as they are. If they do mean "no calls", reading waits,
    visibly, and nothing is lost until this program learns them; believed to mean it, days of which nothing came would
    be marked as read, and nobody would know.
    """
    if response.batch is not None:
        return response.batch
    if none:
        return Batch([])
    if response.message:
        raise BadAnswer(f"the answer to {response.name} holds no records, but says: {words}")
    raise BadAnswer(f"the answer to {response.name} holds no records, not even none")


_FIGURE = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,6})?|[0-9]{1,3}(?:,[0-9]{3}){1,4}(?:\.[0-9]{1,6})?")

TOO_MUCH = Decimal(10) ** 12
"""Pounds, seconds or minutes that no database needs to hold: SQLite counts in millionths."""

_CREDITED = frozenset({"ChargeTotal"})
"""What falls below zero where the operator has paid back more than it charged."""

_SIGNS = re.compile(r"[£+\s\u00a0]+")


def read_totals(sent: Sequence[TotalsSent], ask: TotalsAsk) -> Totals:
    """Give the totals that answer `ask`.

    Raises BadAnswer where the operator says that these are totals of another of its periods. More than one
    `<CDRTotals>`, or none, leaves every figure None: which of them is meant is not documented.
    """
    if len(sent) != 1:
        return Totals(ask.period, ask.number, unusable=(f"{len(sent)} <CDRTotals> where one was expected",))
    only = sent[0]
    said = (only.period or "").strip()
    if said != ask.period and said in set(Period):
        raise BadAnswer(f"the operator sent totals of {said!r} where {ask.period.value!r} was asked")
    unusable: list[str] = []
    return Totals(
        ask.period,
        ask.number,
        answered=_count(only.texts, "AnsweredTotal", unusable),
        missed=_count(only.texts, "MissedTotal", unusable),
        voicemail=_count(only.texts, "VoicemailTotal", unusable),
        minutes_no_format=_figure(only.texts, "MinsTotalNoFormat", unusable),
        charge=_figure(only.texts, "ChargeTotal", unusable),
        texts=dict(only.texts),
        unusable=tuple(unusable),
    )


def _count(texts: dict[str, str], element: str, unusable: list[str]) -> int | None:
    figure = _figure(texts, element, unusable)
    if figure is None:
        return None
    if figure != int(figure) or figure > MAX_INT:
        unusable.append(f"{element}: not a number of calls: {texts[element]!r}")
        return None
    return int(figure)


def _figure(texts: dict[str, str], element: str, unusable: list[str]) -> Decimal | None:
    text = texts.get(element)
    if text is None:
        unusable.append(f"{element}: missing")
        return None
    bare = _SIGNS.sub("", text)
    if not _FIGURE.fullmatch(bare.removeprefix("-") if element in _CREDITED else bare):
        unusable.append(f"{element}: not a figure: {text!r}")
        return None
    figure = Decimal(bare.replace(",", ""))
    if abs(figure) >= TOO_MUCH:
        unusable.append(f"{element}: not a figure that an account can have: {text!r}")
        return None
    return figure
