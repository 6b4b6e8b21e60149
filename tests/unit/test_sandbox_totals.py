"""GetTotals of the sandbox: which calls belong to a period, and how figures are written."""

from __future__ import annotations

from decimal import Decimal

import pytest

from cdrsync.sandbox.render import spoken
from tests.support.clock import Clock
from tests.support.operator import Settings
from tests.unit.sandbox_client import (
    GET_TOTALS,
    Client,
    add_days,
    code,
    turn,
    world,
)

CALLS = {  # NOON is Thursday the 23rd of May
    "2024-05-23": ("day", "week", "month", "all"),
    "2024-05-20": ("week", "month", "all"),  # Monday
    "2024-05-19": ("month", "all"),  # Sunday
    "2024-05-01": ("month", "all"),
    "2024-04-30": ("last-month", "all"),
    "2024-04-01": ("last-month", "all"),
    "2024-03-31": ("all",),
}


@pytest.mark.parametrize("period", ["day", "week", "month", "last-month", "all"])
def test_periods_are_uk_days_and_weeks_begin_on_monday(period: str) -> None:
    """Each call belongs to the periods beside its day; a day ends at London's midnight."""
    place = world()
    add_days(place, *CALLS)
    expected = sum(period in periods for periods in CALLS.values())
    assert place.totals(period).calls == expected
    answer = Client(place).ask(GET_TOTALS, Period=period)
    assert [element.get("Period") for element in answer] == [period]
    assert answer.findtext("CDRTotals/AnsweredTotal") == str(expected)


def test_a_day_begins_at_midnight_in_london() -> None:
    """Half past midnight of British Summer Time is the evening before in UTC."""
    place = world(clock=Clock("2024-05-23T00:30:00+01:00"))
    place.add(started=int(place.clock()) - 1200, calldate="2024-05-23")
    place.add(started=int(place.clock()) - 2400)
    assert place.totals("day").calls == 1


def test_totals_sum_up_the_records() -> None:
    """Calls by their kind, seconds, and money rounded half up to two decimals."""
    place = world()
    for duration, cost in ((60, "0.125"), (65, "0.120"), (3600, "1.000")):
        place.add(duration=duration, user_cost=Decimal(cost), dialled="447700900001")
    place.add(duration=30, user_cost=Decimal("0.010"), dialled="V:a@example.com")
    place.add(duration=0, user_cost=Decimal("0.000"), dialled="0")
    answer = Client(place).ask(GET_TOTALS)
    assert [(child.tag, child.text) for child in answer[0]] == [
        ("AnsweredTotal", "3"),
        ("MinsTotal", "1 hour 2 mins 35 secs"),
        ("MinsTotalNoFormat", "3755"),
        ("MissedTotal", "1"),
        ("VoicemailTotal", "1"),
        ("AvgLength", "20 mins 52 secs"),
        ("ChargeTotal", "1.26"),
        ("AvgCost", "0.42"),
    ]
    assert place.totals("day") == (3, 1, 1, 3755, Decimal("1.255"))


def test_totals_follow_what_befalls_the_records() -> None:
    """The aggregates are those of the visible records, after late ones, changes, moved days and losses."""
    place = world(Settings(rate=0.5, late_share=0.3, late_delay=(5, 900), change_share=0.5, change_delay=(1, 900)))
    place.add_history(calls=300, days=2)
    turn(place, 1800)
    place.change(place.records()[0].uid, calldate="2024-05-01", duration=1, bnumber="1")
    place.vanish(place.records()[5].uid)
    calls = place.records()
    sums = place.totals("all")
    assert (sums.calls, sums.seconds) == (len(calls), sum(call.duration for call in calls))
    assert sums.charge == sum(call.user_cost for call in calls)
    assert sums.answered == sum(call.kind == "answered" for call in calls)
    assert place.counters()["changed"] > 100


def test_figures_may_be_dressed_up() -> None:
    """Separators, the pound sign, minutes in place of seconds: the page shows one reading, the operator may differ."""
    place = world(Settings(separators=True, mins_unit="minutes"))
    place.add_history(calls=2000, days=2)
    place.add(duration=10, user_cost=Decimal("7859.5"), dialled="0")
    answer = Client(place).ask(GET_TOTALS, Period="all")
    assert f"{place.totals('all').answered:,}" == answer.findtext("CDRTotals/AnsweredTotal")
    assert f"£{place.totals('all').charge:,.2f}" == answer.findtext("CDRTotals/ChargeTotal")
    assert answer.findtext("CDRTotals/MinsTotalNoFormat") == f"{place.totals('all').seconds / 60:.2f}"


def test_an_unknown_period_is_refused() -> None:
    """With Code 400."""
    assert code(Client(world()).ask(GET_TOTALS, Period="year")) == "400"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 secs"), (1, "1 sec"), (61, "1 min 1 sec"), (123, "2 mins 3 secs"), (7325, "2 hours 2 mins 5 secs")],
)
def test_lengths_are_written_for_people(seconds: int, text: str) -> None:
    """As the page's "0 secs" lets expect."""
    assert spoken(seconds) == text
