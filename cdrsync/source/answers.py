"""Responses → the answers to the asks: each must be that to its request, of the kind that was asked for."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cdrsync.errors import BadAnswer, RequestRefused
from cdrsync.model import Batch, CdrsAsk, Refusal, Totals, TotalsAsk
from cdrsync.source.totals import read_totals

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdrsync.source.envelope import Response
    from cdrsync.source.request import RecordAsk, Request

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


def match(requests: list[Request], found: list[Response], said: Callable[[Response], str]) -> None:
    """Make sure that each answer is that to its request: by order, by RequestId and by what was asked.

    `said` gives the words of a refusal without secrets. Raises BadAnswer.
    """
    if len(requests) != len(found):
        refused = next((one for one in found if not one.ok), None)
        why = f" ({said(refused)})" if refused else ""
        raise BadAnswer(f"{len(found)} answers to {len(requests)} requests{why}")
    for asked, one in zip(requests, found, strict=True):
        named = (one.request_id, one.target, one.name)
        if named != (asked.id, asked.target, asked.name) and (one.ok or one.request_id not in {asked.id, ""}):
            raise BadAnswer(f"the answer to {asked.name} {asked.id} names itself {' '.join(named)[:100]!r}")


def answer(response: Response, ask: CdrsAsk | TotalsAsk, words: str) -> Batch | Totals | Refusal:
    """Give what `response` answers to `ask`; `words` are the operator's where it is a refusal. Raises BadAnswer."""
    if not response.ok:
        return Refusal(response.code, words)
    if isinstance(ask, TotalsAsk):
        return read_totals(response.totals, ask)
    return _batch(response, _SAYS_NONE.fullmatch(response.message), words)


def fetched(response: Response, wanted: RecordAsk, said: str) -> Batch:
    """Give the answer to GetCDR, empty where the operator has no such record. Raises BadAnswer, RequestRefused.

    How the operator says that it has none is not documented: by no record, by Code 404, or in words.
    """
    if not response.ok:
        if response.code == "404" or _HAS_NONE.search(response.message):
            return Batch([])
        raise RequestRefused(f"the operator refused GetCDR: {said}", code=response.code)
    none = _SAYS_NONE.fullmatch(response.message) or _HAS_NONE.search(response.message)
    batch = _batch(response, none, said)
    if len(batch) > 1 or (wanted.uid is not None and any(cdr.uid != wanted.uid for cdr in batch.cdrs)):
        raise BadAnswer("the operator sent another record than the one that was asked for")
    return batch


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
