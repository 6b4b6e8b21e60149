"""From disagreeing periods to the days at fault."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from cdrsync.audit.figures import Figures, Interpretation, Stated
from cdrsync.audit.findings import (
    Finding,
    Holdings,
    accepted_by_a_person,
    merged,
    narrow,
    overruled,
    period_window,
    stated_days,
    tampered,
    verdicts,
    within,
)
from cdrsync.model import BEGINNING, Excess, LedgerDay, Period, Totals, Verdict, Window

TODAY = date(2026, 11, 18)  # a Wednesday


@pytest.mark.parametrize(
    ("period", "window"),
    [
        (Period.DAY, Window(TODAY, TODAY)),
        (Period.WEEK, Window(date(2026, 11, 16), TODAY)),
        (Period.MONTH, Window(date(2026, 11, 1), TODAY)),
        (Period.LAST_MONTH, Window(date(2026, 10, 1), date(2026, 10, 31))),
        (Period.ALL, Window(BEGINNING, TODAY)),
    ],
)
def test_periods_are_uk_days_and_weeks_begin_on_monday(period: Period, window: Window) -> None:
    """Each period of GetTotals means these days on a Wednesday in November."""
    assert period_window(period, TODAY) == window


def finding(period: Period, verdict: Verdict = Verdict.GAP) -> Finding:
    window = period_window(period, TODAY)
    return Finding(period, window, None, verdict, Figures(), None, Interpretation(), problem=f"{period} differs")


def windows(disagreeing: list[Period], agreeing: list[Period]) -> list[Window]:
    findings = [finding(period) for period in disagreeing]
    findings += [finding(period, Verdict.COMPLETE) for period in agreeing]
    return [gap.window for gap in narrow(findings, known=set())]


def test_a_disagreeing_day_explains_the_longer_periods_around_it() -> None:
    """Today's missing call is missing of the week, the month and all time too: one gap, today."""
    assert windows([Period.ALL, Period.MONTH, Period.WEEK, Period.DAY], [Period.LAST_MONTH]) == [Window(TODAY, TODAY)]


def test_agreeing_periods_vouch_for_their_days() -> None:
    """The month differs while today and the week agree: the fault lies before the week."""
    assert windows([Period.MONTH], [Period.DAY, Period.WEEK]) == [Window(date(2026, 11, 1), date(2026, 11, 15))]


def test_two_months_at_fault_are_two_gaps() -> None:
    """Last month does not explain a fault of today."""
    assert windows([Period.DAY, Period.LAST_MONTH, Period.ALL], [Period.WEEK]) == [
        Window(TODAY, TODAY),
        Window(date(2026, 10, 1), date(2026, 10, 31)),
    ]


def test_only_all_time_differs() -> None:
    """Every shorter period agrees: what differs is older than last month."""
    agreeing = [Period.DAY, Period.WEEK, Period.MONTH, Period.LAST_MONTH]
    assert windows([Period.ALL], agreeing) == [Window(BEGINNING, date(2026, 9, 30))]


def held(calls: int = 2, duration: int = 60, charge: str = "0.5") -> Figures:
    return Figures(calls, duration, Decimal(charge))


def entry(day: date, verdict: Verdict = Verdict.UNAUDITED, calls: int = 2, charge: str = "0.500000") -> LedgerDay:
    return LedgerDay(day, calls, 60, Decimal(charge), None, None, verdict)


def test_rows_changed_behind_our_back_are_found_to_the_last_digit() -> None:
    """A thousandth of a penny, one second, one call: each names its day, with both figures."""
    days = [date(2026, 11, n) for n in (1, 2, 3, 4, 5)]
    rows = {days[0]: held(), days[1]: held(charge="0.50001"), days[2]: held(duration=61), days[4]: held()}
    gaps = tampered(Holdings(rows, rows, [entry(day) for day in days[:4]]))
    assert [gap.window.first for gap in gaps] == days[1:]
    assert gaps[0].problem == ("the table holds 2 calls, 60 s, £0.50001; cdrsync wrote 2 calls, 60 s, £0.5")


def test_verdicts_speak_only_of_days_that_were_compared() -> None:
    """A vouched day is complete (or stays healed), a day at fault a gap, any other keeps its verdict."""
    days = [date(2026, 11, n) for n in (1, 2, 3, 4)]
    ledger = [entry(days[0]), entry(days[1], Verdict.HEALED), entry(days[2], Verdict.COMPLETE), entry(days[3])]
    gaps = narrow([], known=set()) + tampered(Holdings({}, {days[2]: held(calls=1)}, [entry(days[2])]))
    vouching = replace(finding(Period.MONTH, Verdict.COMPLETE), window=Window(days[0], days[2]))
    assert verdicts(ledger, [vouching], gaps) == {
        days[0]: Verdict.COMPLETE,
        days[1]: Verdict.HEALED,
        days[2]: Verdict.GAP,
    }


def test_within_clips_a_window() -> None:
    """Days of a window inside a range; none where they do not meet."""
    november = Window(date(2026, 11, 1), date(2026, 11, 30))
    assert within(november, date(2026, 11, 29), date(2026, 12, 5)) == [date(2026, 11, 29), date(2026, 11, 30)]
    assert within(november, date(2026, 12, 1), date(2026, 12, 5)) == []


def test_a_period_within_one_that_agrees_is_no_gap() -> None:
    """The operator's week may begin on a Sunday: the month around it vouches for its days."""
    week, month = overruled([finding(Period.WEEK), finding(Period.MONTH, Verdict.COMPLETE)])
    assert (week.verdict, month.verdict) == (Verdict.UNAUDITED, Verdict.COMPLETE)
    assert week.problem == "week differs (month, which holds all of its days, agrees)"
    assert overruled([finding(Period.WEEK), finding(Period.DAY, Verdict.COMPLETE)])[0] == finding(Period.WEEK)


def test_the_findings_of_several_numbers_become_one_of_the_account() -> None:
    """The worst verdict, the sums, and every problem beside its number."""
    one, two = (
        replace(finding(Period.DAY, verdict), number=number, held=Figures(calls, 60, Decimal("0.5")), problem=problem)
        for number, calls, verdict, problem in (("1", 3, Verdict.GAP, "one is missing"), ("2", 4, Verdict.COMPLETE, ""))
    )
    both = merged([one, two])
    assert (both.verdict, both.number, both.held) == (Verdict.GAP, None, Figures(7, 120, Decimal(1)))
    assert both.problem == "1: one is missing"
    assert merged([one]) == replace(one, number=None)


def totals(period: Period, calls: int, *, charge: Decimal | None = Decimal(1)) -> Totals:
    return Totals(period, None, calls, 0, 0, Decimal(60 * calls), charge, {})


def test_single_days_are_stated_by_the_day_and_by_periods_that_differ_by_one_day() -> None:
    """On Tuesday the 2nd: today by itself, Monday as the week without today; the week before stays unknown."""
    today, seconds = date(2026, 6, 2), Interpretation(None, "seconds")
    counts = {Period.DAY: 4, Period.WEEK: 11, Period.MONTH: 11, Period.ALL: 90}
    findings = [
        Finding(p, period_window(p, today), None, Verdict.GAP, Figures(), totals(p, n), seconds)
        for p, n in counts.items()
    ]
    monday = date(2026, 6, 1)
    assert stated_days(findings) == {
        today: Stated(4, 240, Decimal(1)),
        monday: Stated(7, 420, Decimal(0)),
    }
    assert stated_days(findings[:1]) == {today: Stated(4, 240, Decimal(1))}


def test_a_figure_that_can_not_be_read_is_stated_of_no_day() -> None:
    """A charge that is missing of the day is missing of the day before, too."""
    today = date(2026, 6, 2)
    findings = [
        replace(finding(p), window=period_window(p, today), totals=totals(p, n, charge=charge))
        for p, n, charge in ((Period.DAY, 4, None), (Period.WEEK, 11, Decimal(2)))
    ]
    assert stated_days(findings)[date(2026, 6, 1)] == Stated(7, None, None)


ACCEPTED = Excess(-3, -180, Decimal("-0.30"))


def accepted(day: date, excess: Excess = ACCEPTED) -> LedgerDay:
    return replace(entry(day, Verdict.ACCEPTED), accepted=excess)


@pytest.mark.parametrize(
    ("excess", "verdict"),
    [
        (Excess(-3, -180, Decimal("-0.295")), Verdict.ACCEPTED),
        (Excess(-3, None, Decimal("-0.30")), Verdict.ACCEPTED),
        (Excess(-4, -180, Decimal("-0.30")), Verdict.GAP),
        (Excess(-3, -181, Decimal("-0.30")), Verdict.GAP),
        (Excess(-3, -180, Decimal("-0.31")), Verdict.GAP),
        (None, Verdict.GAP),
    ],
)
def test_a_gap_is_accepted_as_long_as_it_is_the_same_to_the_call_second_and_penny(
    excess: Excess | None, verdict: Verdict
) -> None:
    """Another difference is another gap."""
    day = date(2026, 11, 16)
    found = replace(finding(Period.WEEK), excess=excess)
    assert accepted_by_a_person([found], [accepted(day)])[0].verdict is verdict
    assert accepted_by_a_person([found], [entry(day)])[0].verdict is Verdict.GAP
    assert accepted_by_a_person([found], [accepted(date(2026, 11, 15))])[0].verdict is Verdict.GAP


def test_days_that_were_accepted_one_by_one_add_up_and_keep_their_verdict() -> None:
    """The period around them is accepted, its other days are complete, and no gap is left."""
    days = [date(2026, 11, 16), date(2026, 11, 17)]
    ledger = [accepted(days[0]), accepted(days[1], Excess(1, 60, Decimal("0.10"))), entry(TODAY)]
    found = replace(finding(Period.WEEK), excess=Excess(-2, -120, Decimal("-0.20")))
    findings = accepted_by_a_person([found], ledger)
    assert narrow(findings, known=set()) == []
    assert verdicts(ledger, findings, []) == {
        days[0]: Verdict.ACCEPTED,
        days[1]: Verdict.ACCEPTED,
        TODAY: Verdict.COMPLETE,
    }
