"""Records that a careless reader trips over: texts that break pages, queries, terminals; XML that can't be typed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from cdrsync.sandbox import render

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from cdrsync.sandbox.calls import Call
    from tests.support.operator.world import Settings

LONG = 100_000  # characters

HOSTILE_TEXTS = (
    "<script>alert('calls')</script>",
    '"><img src=x onerror=alert(1)>',
    'Tom & Jerry\'s <b>"café"</b>',
    "&amp;lt;already escaped&amp;gt; &#65;",
    "]]> <![CDATA[ <!-- --> <?php ?>",
    "'; DROP TABLE cdr; --",
    "=cmd|' /C calc'!A0",
    "{{7*7}} ${7*7} %s %n %(uid)s",
    "\U0001f4de\U0001d516\U0001d532\U0001d52d\U0001d52d\U0001d52c\U0001d52f\U0001d531 \U0010fffd",
    "\u202etxt.exe \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627\u200f",
    "Z\u0351\u0343a\u0489l\u0334g\u0321o\u0352 e\u0301 \u00e9 \ufb01 \u212b",
    "tab\there\nnew line\rcarriage return",
    "\x85next line\u2028separator\u00a0nbsp\u200bzero",
    "\ufeff\ud7ff\ue000\ufffd",
    "\\x00 \\' \\N \\. NULL",
    "\\N",
    "\\.",
    "NULL",
    "  surrounded by spaces  ",
    " ",
    "-" * 255,
    "long " + "\u00fc" * LONG,
)
_HOSTILE_FIELDS = ("alias", "anumber_location", "dialled_location", "anumber", "dialled")
_UNKNOWN_ELEMENTS = (
    (("CallRating", "5"),),
    (("HasTranscript", "1"), ("TranscriptLanguage", "en-GB")),
    (("Tag", "sales"), ("Tag", "urgent")),
    (("Note", 'a < b & c > "d"'),),
    (("Empty", ""),),
)


def season(call: Call, settings: Settings, rng: Random) -> Call:
    """The call with hostile values, unknown elements, or in a form that can't be typed, by their shares."""
    if settings.hostile_share and rng.random() < settings.hostile_share:
        hostile: dict[str, Any] = {rng.choice(_HOSTILE_FIELDS): rng.choice(HOSTILE_TEXTS)}
        call = call._replace(**hostile)
    if settings.unknown_elements_share and rng.random() < settings.unknown_elements_share:
        call = call._replace(extra=rng.choice(_UNKNOWN_ELEMENTS))
    if settings.untypeable_share and rng.random() < settings.untypeable_share:
        call = call._replace(raw=spoilt(call, rng.randrange(len(_SPOILERS))))
    return call


def spoilt(call: Call, how: int) -> str:
    """The record's XML, well-formed, but with one element that breaks the reference page's rules."""
    xml = render.special(call._replace(raw=None)) or render.record(call)
    return _SPOILERS[how % len(_SPOILERS)](xml)


def _valued(element: str, text: str) -> Callable[[str], str]:
    pattern = re.compile(f"<{element}>[^<]*</{element}>")
    return lambda xml: pattern.sub(f"<{element}>{text}</{element}>", xml)


def _without(element: str) -> Callable[[str], str]:
    pattern = re.compile(f" *<{element}>[^<]*</{element}>\n")
    return lambda xml: pattern.sub("", xml)


def _twice(element: str) -> Callable[[str], str]:
    pattern = re.compile(f"( *<{element}>[^<]*</{element}>\n)")
    return lambda xml: pattern.sub(r"\1\1", xml)


_SPOILERS: tuple[Callable[[str], str], ...] = (
    _valued("duration", "abc"),
    _valued("duration", "-1"),
    _valued("duration", ""),
    _valued("duration", "99999999999999999999"),
    _valued("calldate", "2013-02-30"),
    _valued("calldate", "03/08/2013"),
    _valued("calltime", "25:61:00"),
    _valued("user_cost", "free"),
    _valued("user_cost", "NaN"),
    _valued("user_cost", "0.0000001"),
    _valued("reason", "1.5"),
    _valued("ring_time", "\u0661\u0662"),
    _without("duration"),
    _without("user_cost"),
    _twice("duration"),
    _valued("uid", "x"),
    _valued("uid", "99999999999999999999"),
    _without("uid"),
)
