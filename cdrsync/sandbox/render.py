"""Answers as the reference page prints them: elements, order and indentation."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from cdrsync.sandbox.calls import SOMETIMES, Call

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cdrsync.sandbox.calls import Totals

PROLOG = '<?xml version="1.0"?>\n'
_PLAIN = Call._fields.index(next(iter(SOMETIMES)))  # so many fields are printed in every answer
ELEMENTS = (*Call._fields[:_PLAIN], *SOMETIMES.values())
_NUMBERS = ("ring_time", "reason", "reason_q805")
_FLAGS = [name for name in SOMETIMES if name.startswith("has_")]
_MARKUP = re.compile("[&<>\r]")


def _template(*, all_of_it: bool) -> str:
    lines = [f"          <{name}>%s</{name}>\n" for name in Call._fields[:_PLAIN]]
    for name, element in SOMETIMES.items():
        lines.append(f"          <{element}>%{'d' if name in _FLAGS else 's'}</{element}>\n")
    shown = lines if all_of_it else lines[:_PLAIN]
    unseen = "%.0s" * (len(Call._fields) - len(shown))  # takes an argument and prints nothing of it
    return f"        <CDR>\n{''.join(shown)}        </CDR>\n{unseen}"


_ALL = _template(all_of_it=True)
_WITHOUT_FLAGS = _template(all_of_it=False)


def record(call: Call) -> str:
    """One record that is plain (see `special`), by the fast road: a thousand of them take about a millisecond."""
    return (_ALL if call.has_recorded_call is not None else _WITHOUT_FLAGS) % call


def special(call: Call) -> str | None:
    """The record's XML where the fast road can't print it (markup, parts left out, extra elements), else None."""
    if call.raw is not None:
        return call.raw
    sometimes = call[_PLAIN : len(ELEMENTS)]
    plain = (
        not call.extra
        and None not in call[:_PLAIN]
        and sometimes.count(None) in (0, len(sometimes))
        and not _MARKUP.search("".join(map(str, call[1:10] + sometimes)))  # the texts
    )
    return None if plain else _record_in_full(call)


def _record_in_full(call: Call) -> str:
    lines: list[str] = []
    for name, element in zip(Call._fields, ELEMENTS, strict=False):
        value = getattr(call, name)
        if value is not None or name in _NUMBERS:
            shown = int(value) if name in _FLAGS else value
            lines.append(_line(element, "" if shown is None else str(shown)))
    lines.extend(_line(element, text) for element, text in call.extra)
    return f"        <CDR>\n{''.join(lines)}        </CDR>\n"


def _line(element: str, text: str) -> str:
    """Every second text that is not ASCII is written as character references: both are the same XML."""
    shown = escape(text, {"\r": "&#13;"})
    if not text.isascii() and len(text) % 2:
        shown = shown.encode("ascii", "xmlcharrefreplace").decode("ascii")
    return f"          <{element}>{shown}</{element}>\n"


def page(records: Iterable[str], empty: str) -> str:
    """<CDRs> with its records, or the way of writing none that `Settings.empty_page` names."""
    content = "".join(records)
    if content or empty == "pair":
        return f"      <CDRs>\n{content}      </CDRs>\n"
    return "      <CDRs/>\n" if empty == "self-closing" else ""


def response(target: str, name: str, code: str, request_id: str, content: str) -> str:
    attributes = (("target", target), ("name", name), ("Code", code), ("RequestId", request_id))
    shown = " ".join(f"{key}={quoteattr(value)}" for key, value in attributes)
    return f"    <Response {shown}>\n{content}    </Response>\n"


def message(text: str) -> str:
    """What a response says in place of data when its Code is not 200."""
    return f"      <ResponseMessage>{escape(text)}</ResponseMessage>\n"


def session(session_id: str) -> str:
    return f"      <SessionId>{session_id}</SessionId>\n"


def document(responses: Iterable[str]) -> bytes:
    return f"{PROLOG}  <NoveroResponse>\n{''.join(responses)}  </NoveroResponse>\n".encode()


def totals(number: str, period: str, sums: Totals, *, unit: str, separators: bool) -> str:
    """<CDRTotals> as printed for GetTotals; money has two decimals, half up."""
    answered = sums.answered or 1
    no_format = str(sums.seconds) if unit == "seconds" else _two_places(Decimal(sums.seconds) / 60)
    figures: Mapping[str, str] = {
        "AnsweredTotal": f"{sums.answered:,}" if separators else str(sums.answered),
        "MinsTotal": spoken(sums.seconds),
        "MinsTotalNoFormat": no_format,
        "MissedTotal": f"{sums.missed:,}" if separators else str(sums.missed),
        "VoicemailTotal": f"{sums.voicemail:,}" if separators else str(sums.voicemail),
        "AvgLength": spoken(round(sums.seconds / answered)),
        "ChargeTotal": f"£{_two_places(sums.charge, ',')}" if separators else _two_places(sums.charge),
        "AvgCost": _two_places(sums.charge / answered),
    }
    lines = "".join(f"        <{name}>{text}</{name}>\n" for name, text in figures.items())
    return f"      <CDRTotals Number={quoteattr(number)} Period={quoteattr(period)}>\n{lines}      </CDRTotals>\n"


def _two_places(amount: Decimal, separator: str = "") -> str:
    return f"{amount.quantize(Decimal('0.01'), ROUND_HALF_UP):{separator}f}"


def spoken(seconds: int) -> str:
    """A length of time for people: "0 secs", "2 mins 3 secs", "1 hour 1 min 1 sec"."""
    parts = ((seconds // 3600, "hour"), (seconds // 60 % 60, "min"), (seconds % 60, "sec"))
    shown = [f"{count} {unit}{'' if count == 1 else 's'}" for count, unit in parts if count]
    return " ".join(shown) or "0 secs"
