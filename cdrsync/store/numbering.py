"""What a number is: E.164, kind, region. Worked out once per distinct number, never per call.

The operator sends UK numbers national without the leading 0 and others with their country code and no `+`; `0` is
nothing dialled, an empty caller is withheld, and `V:` with an e-mail address is the voicemail ("CDRs", api notes).
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

import phonenumbers
from phonenumbers import PhoneNumberType
from sqlalchemy import bindparam, or_, select, update

from cdrsync.store.databases.errors import translated
from cdrsync.store.databases.port import WRITER
from cdrsync.store.schema.tables import number
from cdrsync.store.spelling import OPERATOR, UK, UNKNOWN, WITHHELD, NumberFacts, readings, uk_national
from cdrsync.store.summaries import renumber

if TYPE_CHECKING:
    from collections.abc import Callable

    from phonenumbers import PhoneNumber
    from sqlalchemy import Select
    from sqlalchemy.engine import Engine

RULES_VERSION = f"3/{phonenumbers.__version__}"
"""Changes with our rules or the library's data: rows of another version are worked out anew."""

NATIONAL_DIGITS = 10  # of nearly every UK number, without the leading 0
_LONGEST_CODE = 3  # digits

KINDS = {
    PhoneNumberType.FIXED_LINE: "landline",
    PhoneNumberType.FIXED_LINE_OR_MOBILE: "landline or mobile",
    PhoneNumberType.MOBILE: "mobile",
    PhoneNumberType.TOLL_FREE: "freephone",
    PhoneNumberType.PREMIUM_RATE: "premium rate",
    PhoneNumberType.SHARED_COST: "shared cost",
    PhoneNumberType.VOIP: "voip",
    PhoneNumberType.PERSONAL_NUMBER: "personal",
    PhoneNumberType.PAGER: "pager",
    PhoneNumberType.UAN: "company",
    PhoneNumberType.VOICEMAIL: "voicemail",
}
PLAN = "plan"
_EMPTY = {"0": "none", "V:": "voicemail"}


def classify(number: str) -> NumberFacts:
    """The facts of a number as sent. Never raises: what is no number is `unknown`."""
    if not (number.isascii() and number.isdigit()) or number[0] == "0":
        return _otherwise(number)
    national = number.removeprefix(UK) if len(number) == len(UK) + NATIONAL_DIGITS else number
    if len(national) == NATIONAL_DIGITS and national[0] != "0":
        pattern, meanings = _uk_plan()
        if found := pattern.fullmatch(national):
            kind, region = meanings[found.lastgroup or ""]
            usual = None if national is number else national
            return NumberFacts(f"+{UK}{national}", kind, region, RULES_VERSION, f"0{national}", PLAN, usual)
        if national is number:  # no number of +44, then: all that is left is another country's, without its +
            return _facts(number, None if _too_short(number) else _valid(f"+{number}", None))
    return classify_slowly(number)


def classify_slowly(number: str) -> NumberFacts:
    """The facts of a number of digits by the library's own parser: as GB, then with `+`."""
    return _facts(number, _valid(number, "GB") or _valid(f"+{number}", None))


def _otherwise(number: str) -> NumberFacts:
    """Of what is not sent in the operator's own way: with + or 00, a 0, blanks; or no number at all."""
    if number == "0" or number.startswith("V:"):
        return NumberFacts(None, _EMPTY[number[:2]], None, RULES_VERSION)
    if number.strip().casefold() in WITHHELD:
        return NumberFacts(None, "withheld", None, RULES_VERSION)
    found = (_valid(f"+{digits}", None) for digits in readings(number))
    return _facts(number, next(filter(None, found), None))


def _facts(number: str, parsed: PhoneNumber | None) -> NumberFacts:
    if parsed is None:
        dialled = uk_national(number)
        return NumberFacts(None, UNKNOWN, None, RULES_VERSION, dialled, None, _usual(number, dialled))
    e164 = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    kind = KINDS.get(phonenumbers.number_type(parsed), UNKNOWN)
    home = e164.startswith(f"+{UK}")
    national = f"0{e164.removeprefix('+44')}" if home else f"00{e164[1:]}"
    region = phonenumbers.region_code_for_number(parsed)
    source = None if kind == UNKNOWN else PLAN
    return NumberFacts(e164, kind, region, RULES_VERSION, national, source, _usual(number, national))


def _usual(number: str, national: str | None) -> str | None:
    """The operator's own spelling; None: the number has it, or another country's number would pass for a UK one."""
    if national is None:
        return None
    usual = national[2 if national.startswith("00") else 1 :]
    return usual if usual != number and classify(usual).national == national else None


_DESCRIPTIONS = (
    (PhoneNumberType.PREMIUM_RATE, "premium_rate"),
    (PhoneNumberType.TOLL_FREE, "toll_free"),
    (PhoneNumberType.SHARED_COST, "shared_cost"),
    (PhoneNumberType.VOIP, "voip"),
    (PhoneNumberType.PERSONAL_NUMBER, "personal_number"),
    (PhoneNumberType.PAGER, "pager"),
    (PhoneNumberType.UAN, "uan"),
    (PhoneNumberType.VOICEMAIL, "voicemail"),
    (PhoneNumberType.FIXED_LINE, "fixed_line"),
    (PhoneNumberType.MOBILE, "mobile"),
)


@functools.cache
def _uk_plan() -> tuple[re.Pattern[str], dict[str, tuple[str, str]]]:
    """The library's own patterns of the numbers under +44 as one, in the order in which it tries them.

    Beside it, the kind and region of each of its groups. It takes a fiftieth of the time of the library's parser.
    """
    patterns: list[str] = []
    meanings: dict[str, tuple[str, str]] = {}
    for region in phonenumbers.COUNTRY_CODE_TO_REGION_CODE[int(UK)]:
        metadata = phonenumbers.PhoneMetadata.metadata_for_region(region)
        for kind, name in _DESCRIPTIONS:
            description = getattr(metadata, name, None)
            if description is not None and description.national_number_pattern:
                group = f"p{len(patterns)}"
                patterns.append(f"(?P<{group}>{description.national_number_pattern})")
                meanings[group] = KINDS[kind], region
    return re.compile("|".join(patterns)), meanings


def _too_short(number: str) -> bool:
    """Whether digits that begin with a country's code are fewer than any number of that country has.

    Callers often have such numbers, invented ones, and the library's parser takes ten times as long to refuse them.
    """
    for length in range(1, _LONGEST_CODE + 1):
        shortest = _shortest(number[:length])
        if shortest is not None:
            return len(number) - length < shortest
    return False


@functools.cache
def _shortest(code: str) -> int | None:
    """Digits of the shortest number of a country, 0 where the library may add some; None: no country has the code."""
    regions = phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(int(code))
    if regions is None:
        return None
    metadata = phonenumbers.PhoneMetadata.metadata_for_region(regions[0], None)
    if metadata is None or metadata.general_desc is None or metadata.national_prefix_transform_rule is not None:
        return 0
    return min(metadata.general_desc.possible_length)


def _valid(text: str, region: str | None) -> PhoneNumber | None:
    try:
        parsed = phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None
    # What has the wrong length for its country is not valid: that is soon known, and most of what is not valid has it.
    possible = phonenumbers.is_possible_number(parsed)
    return parsed if possible and phonenumbers.is_valid_number(parsed) else None


FINAL = "final"
"""Stands for the rules' version of a number that no rules can classify anew: a pseudonym."""


def refresh(engine: Engine, classify: Callable[[str], NumberFacts], rules_version: str, batch: int = 1000) -> int:
    """Classify the numbers that other rules classified, or none yet; answers how many.

    Each batch is written in a transaction of its own, with nothing but the writing in it: others hardly wait, and
    after an interruption the rest is done the next time. Raises DatabaseUnavailable; ValueError where `classify` knows
    other rules than these.
    """
    # Once more from the beginning: numbers may have come in behind the first pass.
    return sum(_pass(engine, classify, rules_version, batch) for _ in range(2))


def _pass(engine: Engine, classify: Callable[[str], NumberFacts], rules_version: str, batch: int) -> int:
    done = 0
    last: str | None = None
    while True:
        stale = _stale(rules_version).limit(batch)
        if last is not None:
            stale = stale.where(number.c.number > last)
        with translated(), engine.connect() as connection:
            found = connection.execute(stale).all()
        if not found:
            return done
        facts = [_anew(classify(row.number), row) for row in found]
        others = any((new.kind, new.e164) != (row.kind, row.e164) for new, row in zip(facts, found, strict=True))
        rows = [{"of_number": row.number, **new._asdict()} for new, row in zip(facts, found, strict=True)]
        known = {row["rules_version"] for row in rows}
        if known != {rules_version}:
            raise ValueError(f"asked for rules {rules_version}, but classify knows {', '.join(map(str, known))}")
        with translated(), engine.connect() as connection, connection.execution_options(**{WRITER: True}).begin():
            if others:  # of the rest the summary says the same
                renumber(connection)
            connection.execute(_CLASSIFY, rows)
        done, last = done + len(found), found[-1].number


def _anew(facts: NumberFacts, held: Any) -> NumberFacts:
    """What the operator's words said stays, where the plans still say nothing."""
    if facts.kind == UNKNOWN and held.kind_source == OPERATOR:
        return facts._replace(kind=held.kind, kind_source=OPERATOR)
    return facts


def _stale(rules_version: str) -> Select[Any]:
    done = number.c.rules_version.in_((rules_version, FINAL))
    return (
        select(number.c.number, number.c.kind, number.c.kind_source, number.c.e164)
        .where(or_(number.c.rules_version.is_(None), ~done))
        .order_by(number.c.number)
    )


_CLASSIFY = (
    update(number)
    .where(number.c.number == bindparam("of_number"))
    .values({name: bindparam(name) for name in NumberFacts._fields})
)
