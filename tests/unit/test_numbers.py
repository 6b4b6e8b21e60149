"""What a number is, told once per distinct number."""

from __future__ import annotations

import phonenumbers
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cdrsync.store.admin.views import said
from cdrsync.store.numbering import RULES_VERSION, classify, classify_slowly
from cdrsync.store.spelling import WITHHELD, kind_by_words


@pytest.mark.parametrize(
    ("number", "e164", "kind", "region"),
    [
        ("7921255043", "+447921255043", "mobile", "GB"),
        ("1245830144", "+441245830144", "landline", "GB"),
        ("1213691057", "+441213691057", "landline", "GB"),
        ("447512345678", "+447512345678", "mobile", "GB"),
        ("8001111111", "+448001111111", "freephone", "GB"),
        ("3456000000", "+443456000000", "company", "GB"),
        ("7781123456", "+447781123456", "mobile", "GG"),
        ("33142685300", "+33142685300", "landline", "FR"),
        ("14155552671", "+14155552671", "landline or mobile", "US"),
        ("", None, "withheld", None),
        ("0", None, "none", None),
        ("V:user@domain.com", None, "voicemail", None),
        ("12", None, "unknown", None),
        ("00447921255043", "+447921255043", "mobile", "GB"),
        ("+447921255043", "+447921255043", "mobile", "GB"),
        ("+44 (0)7921 255043", "+447921255043", "mobile", "GB"),
        ("07921-255 043", "+447921255043", "mobile", "GB"),
        ("0033 1 42 68 53 00", "+33142685300", "landline", "FR"),
        ("anonymous", None, "withheld", None),
        ("Unavailable", None, "withheld", None),
        ("WITHHELD", None, "withheld", None),
        ("-", None, "withheld", None),
        ("Anna", None, "unknown", None),
        ("٠٧٩٢١٢٥٥٠٤٣", "+447921255043", "mobile", "GB"),
    ],
)
def test_numbers_as_the_operator_sends_them(number: str, e164: str | None, kind: str, region: str | None) -> None:
    """UK national without the 0, country code without the +, nothing dialled, withheld, voicemail, nonsense."""
    assert classify(number)[:4] == (e164, kind, region, RULES_VERSION)


CROWN_DEPENDENCIES = ("1481", "1534", "1624", "7781", "7911", "7797", "7509", "7624", "7457")
"""Prefixes of Guernsey, Jersey and the Isle of Man, which share +44."""


@given(
    st.one_of(
        st.from_regex(r"(44)?[0-9]{10}", fullmatch=True),
        st.builds(
            "{}{}{:06d}".format,
            st.sampled_from(("", "44")),
            st.sampled_from(CROWN_DEPENDENCIES),
            st.integers(0, 999_999),
        ),
        st.from_regex(r"[1-9][0-9]{0,14}", fullmatch=True),
        st.from_regex(r"[1-9][0-9]{9}", fullmatch=True),  # perhaps another country's
    )
)
@example("7781123456")
@example("1481123456")
@example("7624123456")
@example("447624123456")
@example("5511223344")
@example("0123456789")
@example("4412345678")
@example("1234567890")
@example("3932123456")
@example("3725123456")
def test_the_quick_way_says_what_the_library_says(number: str) -> None:
    """Numbers matched against the library's patterns get the same facts as from its parser."""
    assert classify(number) == classify_slowly(number)


@given(st.from_regex(r"[1-9][0-9]{4,14}", fullmatch=True), st.sampled_from(("", "+")))
@example("7781123456", "")
@example("123456789", "+1")
def test_what_is_not_possible_is_not_valid(number: str, plus: str) -> None:
    """The library's quick look at a length never turns down what its patient one takes."""
    try:
        parsed = phonenumbers.parse(plus + number, "GB")
    except phonenumbers.NumberParseException:
        return
    assert phonenumbers.is_possible_number(parsed) or not phonenumbers.is_valid_number(parsed)


@given(st.text(max_size=30))
def test_no_text_makes_it_fail(number: str) -> None:
    """Whatever stands in a number's place is classified, never an error."""
    assert classify(number).kind


@pytest.mark.parametrize(
    ("number", "national"),
    [
        ("7921255043", "07921255043"),
        ("447921255043", "07921255043"),
        ("+447921255043", "07921255043"),
        ("00447921255043", "07921255043"),
        ("7700900770", "07700900770"),  # of no network, but written like one
        ("33142685300", "0033142685300"),
        ("+1 415 555 2671", "0014155552671"),
        ("", None),
        ("anonymous", None),
        ("12", None),
        ("V:user@domain.com", None),
    ],
)
def test_numbers_as_people_dial_them(number: str, national: str | None) -> None:
    """With 0 in the UK, 00 and the country's code abroad, whichever way the number was sent."""
    assert classify(number).national == national


@pytest.mark.parametrize(
    ("number", "words", "kind"),
    [
        ("7700900770", "UK O2 Mobile", "mobile"),
        ("1134960123", "UK Leeds", "landline"),
        ("1632960123", "UK Landline", "landline"),
        ("3069990123", "UK Wide", None),
        ("7700900770", "Unknown", None),
        ("7700900770", "", None),
    ],
)
def test_the_operators_words_for_a_number(number: str, words: str, kind: str | None) -> None:
    """A network's name says mobile, a place of a number with 01 or 02 a landline, anything else nothing."""
    assert kind_by_words(number, words) == kind


def test_sql_and_python_know_the_same_words_for_no_number() -> None:
    """The views' list is that of the rules."""
    assert said("{withheld: x}", "sqlite") == f"LOWER(x) IN {WITHHELD}"
