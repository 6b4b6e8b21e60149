"""Telephone numbers in text: one normal form for all the ways in which one number is written.

The normal form is digits with the country's code. The operator sends UK numbers without the leading 0 and others with
their code and no `+`; callers' own equipment sends `+`, `00`, blanks and brackets as well.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

UK = "44"
WITHHELD = ("", "-", "0", "anonymous", "private", "restricted", "unavailable", "unknown", "withheld")
"""What stands in a caller's place where there is none, in small letters."""

UNKNOWN = "unknown"


class NumberFacts(NamedTuple):
    """What is known of a distinct number (A-number, B-number or dialled)."""

    e164: str | None  # None where it is no telephone number, or none that is valid
    kind: str  # mobile, landline, freephone, …, withheld, voicemail, none, unknown
    region: str | None  # ISO 3166 country code
    rules_version: str  # of the rules that said so: another version works it out anew
    national: str | None = None  # as dialled in the UK: with 0, or 00 and the country's code
    kind_source: str | None = None  # plan: the public numbering plans; operator: its own words for the number
    usual: str | None = None  # the number as the operator writes it; None where it is written so, or is none


OPERATOR = "operator"
_WORDS = ("mobile", "landline", "freephone", "premium", "voip", "pager")
_KINDS = {"premium": "premium rate"}

LONGEST = 15  # digits of a telephone number, by E.164
SHORTEST = 7  # of one that is looked for within other text
_NATIONAL = (9, 10)  # digits of a UK number without its 0
_DIGIT = r"(?:\d|&#0*(?:4[89]|5[0-7]);|&#[xX]0*3[0-9];)"
_BETWEEN = r"(?:[ \u00a0\u2007\u202f\u2009().\-\u2010\u2011\u2012\u2013/]|&#160;|&#[xX][aA]0;)"
_RUN = re.compile(rf"\+?(?:{_BETWEEN}{{0,2}})?{_DIGIT}(?:{_BETWEEN}{{0,3}}{_DIGIT})*")
_GROUP = re.compile(rf"\+?{_DIGIT}+")
_ONE = re.compile(_DIGIT)
_MAILBOX = re.compile(r"[\w.+%-]+@[\w-]+(?:\.[\w-]+)+")
_GROUPS = 8  # of a number, at most: 0 7 9 …


def readings(text: str) -> tuple[str, ...]:
    """The numbers that a text means which is a number and nothing else, the likeliest first; none: it is no number."""
    whole = text.strip()
    if whole.isascii() and whole.isdigit():  # nearly all
        return _meant(whole, abroad=False)
    if len(whole) > 4 * LONGEST or not _RUN.fullmatch(whole.strip("() ")):
        return ()
    return _meant(_digits(whole), abroad="+" in whole[:2])


def uk_national(text: str) -> str | None:
    """A UK number as it is dialled in the UK, with its 0; None where the text is none."""
    for number in readings(text)[:1]:
        if number.startswith(UK) and len(number) - len(UK) in _NATIONAL and number[len(UK)] != "0":
            return f"0{number.removeprefix(UK)}"
    return None


def kind_by_words(text: str, location: str) -> str | None:
    """The kind of a number by the operator's words for it, like "UK O2 Mobile" or "UK Leeds"; None: they say none."""
    said = location.casefold()
    for word in _WORDS:
        if word in said:
            return _KINDS.get(word, word)
    # Of the UK's numbers, those that begin with 1 and 2 are places'.
    is_place = said.startswith("uk ") and (uk_national(text) or "").startswith(("01", "02"))
    return "landline" if is_place else None


def replaced(text: str, is_meant: Callable[[str], bool], by: str) -> str:
    """The text with every number, and every mailbox, that is meant replaced."""
    if not _ONE.search(text) and "@" not in text:
        return text
    parts, end = [], 0
    for begin, stop, meant in sorted([*_numbers(text), *_mailboxes(text)], key=lambda one: (one[0], -one[1])):
        if begin >= end and any(map(is_meant, meant)):
            parts += [text[end:begin], by]
            end = stop
    return "".join((*parts, text[end:])) if parts else text


def _digits(text: str) -> str:
    return "".join(_value(match) for match in _ONE.findall(text))


def _value(digit: str) -> str:
    if digit.startswith("&"):
        code = digit[2:-1]
        return chr(int(code[1:], 16) if code[0] in "xX" else int(code))
    return str(unicodedata.digit(digit))


def _meant(digits: str, *, abroad: bool) -> tuple[str, ...]:
    if digits.startswith("00"):
        abroad, digits = True, digits[2:]
    if not digits.strip("0") or len(digits) > LONGEST + 1:
        return ()
    if digits.startswith(f"{UK}0"):  # +44 (0)7921 …
        return (UK + digits[len(UK) + 1 :],)
    if abroad:
        return (digits,)
    if digits.startswith("0"):
        return (UK + digits[1:],)
    if len(digits) <= max(_NATIONAL):
        return (UK + digits, digits)
    return (digits,)


def _numbers(text: str) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    """Each number that may stand in a text: where it begins and ends, and what it means."""
    for run in _RUN.finditer(text):
        groups = [match.span() for match in _GROUP.finditer(text, run.start(), run.end())]
        for first in range(len(groups)):
            for last in range(min(first + _GROUPS, len(groups)) - 1, first - 1, -1):
                begin, end = groups[first][0], groups[last][1]
                digits = _digits(text[begin:end])
                if SHORTEST <= len(digits) <= LONGEST + len(UK) + 2:
                    yield begin, end, _meant(digits, abroad=text[begin] == "+")


def _mailboxes(text: str) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    for match in _MAILBOX.finditer(text):
        yield match.start(), match.end(), (f"V:{match[0].casefold()}",)
