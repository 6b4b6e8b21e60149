"""The arithmetic of an audit: what agrees, what does not, and what may not decide alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from cdrsync.audit.figures import Figures, Interpretation, compare, of_raw
from cdrsync.model import Period, Totals

HELD = Figures(calls=10, duration=605, charge=Decimal("1.234"))
STATED = Totals(
    Period.DAY,
    None,
    answered=6,
    missed=3,
    voicemail=1,
    minutes_no_format=Decimal(605),
    charge=Decimal("1.23"),
    texts={},
)


def test_all_figures_agree() -> None:
    """Ten calls, 605 seconds and £1.234 are what 6 + 3 + 1, 605 and £1.23 say."""
    comparison = compare(HELD, STATED, Interpretation())
    assert comparison.agrees
    assert comparison.interpretation == Interpretation("answered+missed+voicemail", "seconds")


@pytest.mark.parametrize(
    ("held", "difference"),
    [
        (
            replace(HELD, calls=8),
            "2 calls fewer than the operator counts: 8 held, 6 answered, 3 missed, 1 voicemail",
        ),
        (
            replace(HELD, calls=11),
            "1 call more than the operator counts: 11 held, 6 answered, 3 missed, 1 voicemail",
        ),
        (replace(HELD, charge=Decimal("1.24")), "£0.01 more than the operator states: £1.24 held, £1.23 stated"),
        (
            replace(HELD, charge=Decimal("1.2199")),
            "£0.0101 less than the operator states: £1.2199 held, £1.23 stated",
        ),
    ],
)
def test_a_difference_is_told_in_figures(held: Figures, difference: str) -> None:
    """Calls and charge are certain: each alone is a disagreement, in words with both figures."""
    assert compare(held, STATED, Interpretation()).differences == (difference,)


@pytest.mark.parametrize("charge", ["1.2201", "1.225", "1.2399"])
def test_rounding_of_the_charge_is_allowed_for(charge: str) -> None:
    """How the operator rounds three decimals to two is not documented: less than a penny either way agrees."""
    assert compare(replace(HELD, charge=Decimal(charge)), STATED, Interpretation()).agrees


def test_voicemail_may_be_counted_among_the_answered() -> None:
    """Nine calls agree with 6 + 3 where the voicemail is one of the six."""
    comparison = compare(replace(HELD, calls=9), STATED, Interpretation())
    assert comparison.agrees
    assert comparison.interpretation.calls == "answered+missed"


def test_a_missing_voicemail_is_not_taken_for_one_counted_among_the_answered() -> None:
    """Nine calls and too few seconds: before any unit is established, the duration still has to fit one."""
    comparison = compare(replace(HELD, calls=9, duration=585), STATED, Interpretation())
    assert comparison.differences == (
        "1 call fewer than the operator counts: 9 held, 6 answered, 3 missed, 1 voicemail",
    )
    assert comparison.interpretation == Interpretation()


def test_a_disagreement_establishes_nothing() -> None:
    """Nine calls fit a reading, but the charge is another: whatever is wrong may be wrong with the calls too."""
    comparison = compare(replace(HELD, calls=9, charge=Decimal(2)), STATED, Interpretation(duration="seconds"))
    assert comparison.interpretation == Interpretation(duration="seconds")


def test_a_reading_that_a_missing_voicemail_had_established_gives_way() -> None:
    """Ten calls that agree in every figure, with the voicemail by itself; what agrees in part proves no such thing."""
    mistaken = Interpretation("answered+missed", "seconds")
    assert compare(HELD, STATED, mistaken).interpretation == Interpretation("answered+missed+voicemail", "seconds")
    assert not compare(replace(HELD, duration=606), STATED, mistaken).agrees
    assert not compare(replace(HELD, charge=Decimal(2)), STATED, mistaken).agrees


def test_an_established_reading_of_the_counts_is_the_only_one() -> None:
    """Once ten was seen to mean 6 + 3 + 1, nine calls are one too few."""
    assert not compare(replace(HELD, calls=9), STATED, Interpretation(calls="answered+missed+voicemail")).agrees


def test_nothing_is_established_where_both_readings_agree() -> None:
    """Without a voicemail call and without duration the figures tell the interpretation not apart."""
    quiet = replace(STATED, voicemail=0, answered=0, missed=2, minutes_no_format=Decimal(0), charge=Decimal(0))
    comparison = compare(Figures(calls=2), quiet, Interpretation())
    assert comparison.agrees
    assert comparison.interpretation == Interpretation()


def test_minutes_are_recognised() -> None:
    """605 seconds are stated as 10 (or 10.08) minutes by an operator that counts so."""
    for stated in ("10", "11", "10.08"):
        comparison = compare(HELD, replace(STATED, minutes_no_format=Decimal(stated)), Interpretation())
        assert comparison.agrees
        assert comparison.interpretation.duration == "minutes"


def test_a_duration_of_unknown_unit_is_never_the_sole_reason_for_an_alarm() -> None:
    """Where no unit was established yet, a duration that fits none is a remark, and nothing is established."""
    comparison = compare(HELD, replace(STATED, minutes_no_format=Decimal(77)), Interpretation())
    assert comparison.agrees
    assert comparison.remarks == ("605 seconds held, MinsTotalNoFormat is 77",)
    assert comparison.interpretation.duration is None


def test_a_duration_of_established_unit_is_a_difference() -> None:
    """Once the unit is known to be seconds, one second less is a disagreement."""
    comparison = compare(replace(HELD, duration=604), STATED, Interpretation(duration="seconds"))
    assert comparison.differences == (
        "1 second less than the operator states: 604 seconds held, MinsTotalNoFormat is 605",
    )


@pytest.mark.parametrize("figure", ["answered", "missed", "voicemail", "charge"])
def test_unreadable_totals_are_unusable_never_an_agreement(figure: str) -> None:
    """A figure that can't be read says nothing: no agreement, and no alarm either."""
    unreadable: dict[str, Any] = {figure: None, "unusable": (f"{figure}: 'n/a'",)}
    comparison = compare(HELD, replace(STATED, **unreadable), Interpretation())
    assert not comparison.agrees
    assert comparison.differences == ()
    assert comparison.unusable == (f"{figure}: 'n/a'",)


def test_readings_are_stored_as_text_and_read_back() -> None:
    """What a verdict stores is what the next audit starts from; unknown words are ignored."""
    known = Interpretation("answered+missed", "minutes")
    assert str(known) == "calls=answered+missed duration=minutes"
    assert Interpretation.parse(str(known)) == known
    assert Interpretation.parse("calls=of-the-future duration=seconds") == Interpretation(None, "seconds")
    assert Interpretation.parse(None) == Interpretation()


@pytest.mark.parametrize(
    ("raw", "day", "figures"),
    [
        (
            "<CDR><calldate>2024-05-21</calldate><duration>61</duration><user_cost>0.125</user_cost></CDR>",
            date(2024, 5, 21),
            Figures(1, 61, Decimal("0.125")),
        ),
        ("<CDR><calldate> 0000-00-00 </calldate>\n<duration>5</duration></CDR>", None, Figures(1, 5)),
        ("<CDR><calldate>2013-02-30</calldate><user_cost>free</user_cost></CDR>", None, Figures(1)),
        ("<CDR><duration>-1</duration><duration>9</duration>&nbsp;", None, Figures(1)),
        ("<CDR><duration>3.5</duration><user_cost>-0.125</user_cost></CDR>", None, Figures(1, 0, Decimal("-0.125"))),
        (f"<CDR><duration>{'9' * 5000}</duration><user_cost>1E99999</user_cost></CDR>", None, Figures(1)),
        ("<CDR><duration>NaN</duration><user_cost>NaN</user_cost></CDR>", None, Figures(1)),
        ("<CDR><user_cost>sNaN</user_cost></CDR>", None, Figures(1)),
        ("<CDR><user_cost>Infinity</user_cost></CDR>", None, Figures(1)),
        ("", None, Figures(1)),
    ],
)
def test_a_record_in_quarantine_is_counted_with_what_can_be_read_of_it(
    raw: str, day: date | None, figures: Figures
) -> None:
    """One call, and its seconds and pounds where they are such."""
    assert of_raw(raw) == (day, figures)
    assert sum([figures, of_raw(raw)[1]], Figures()).calls == 2
