"""The status page's figures: calendar, chart, times and amounts."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from cdrsync.model import LedgerDay, Verdict
from cdrsync.monitor.words import ago, pounds, span, visible
from cdrsync.web import calendar, chart
from cdrsync.web.calendar import Cell, Mark

NOON = datetime(2025, 7, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (-3, "0 s"), (0, "0 s"), (0.42, "0.4 s"), (3.0, "3 s"), (9.96, "10 s"), (59.4, "59 s"), (60, "1 min"),
        (65, "1 min 5 s"), (600, "10 min"), (3599, "59 min"), (3600, "1 h"), (12_000, "3 h 20 min"),
        (172_800, "2 days"), (187_200, "2 days 4 h"), (90_000_000, "1041 days 16 h"),
    ],
)  # fmt: skip
def test_span(seconds: float, written: str) -> None:
    assert span(seconds) == written


@pytest.mark.parametrize(("seconds", "written"), [(12, "12 s ago"), (0.3, "now"), (-0.3, "now"), (-240, "in 4 min")])
def test_ago(seconds: float, written: str) -> None:
    assert ago(NOON - timedelta(seconds=seconds), NOON) == written


@pytest.mark.parametrize(
    ("amount", "written"),
    [("0", "£0.00"), ("0.000000", "£0.00"), ("1234.5", "£1,234.50"), ("-0.005", "-£0.005"), ("41.873000", "£41.873"),
     ("1000000", "£1,000,000.00")],
)  # fmt: skip
def test_pounds_are_exact(amount: str, written: str) -> None:
    assert pounds(Decimal(amount)) == written


def test_what_cannot_be_seen_is_written_out() -> None:
    assert visible("plain £é") == "plain £é"
    assert visible("a\u202eb\x00c\x1b[31m\u200b") == "a\\u202eb\\x00c\\x1b[31m\\u200b"


def day(text: str, verdict: Verdict, *, downloaded: bool = True, operator: int | None = None) -> LedgerDay:
    read_at = NOON if downloaded else None
    return LedgerDay(date.fromisoformat(text), 1200, 60, Decimal(1), read_at, None, verdict, operator)


def test_calendar_has_a_square_for_every_day() -> None:
    today = date(2025, 3, 1)
    shown = calendar.view([day("2025-02-27", Verdict.COMPLETE), day("2025-02-28", Verdict.GAP, operator=1201)], today)
    assert [month.title for month in shown.recent] == ["March 2025", "February 2025"]
    assert shown.recent[0].weeks[0] == [None] * 5 + [Cell(1, today=True), Cell(2)]
    assert shown.recent[1].weeks[-1] == [
        Cell(24), Cell(25), Cell(26),
        Cell(27, Mark.COMPLETE, "27 February 2025, complete: 1,200 calls held"),
        Cell(28, Mark.GAP, "28 February 2025, gap: 1,200 calls held, the operator counts 1,201"),
        None, None,
    ]  # fmt: skip


def test_legend_counts_every_mark_and_not_the_day_that_goes_on() -> None:
    days = [
        day("2025-02-01", Verdict.COMPLETE),
        day("2025-02-02", Verdict.UNAUDITED),
        day("2025-02-03", Verdict.UNAUDITED, downloaded=False),
        day("2025-02-04", Verdict.HEALED),
        day("2025-02-05", Verdict.COMPLETE),
        day("2025-02-06", Verdict.UNAUDITED, downloaded=False),
    ]
    shown = calendar.view(days, date(2025, 2, 6))
    assert {line.mark.value: line.days for line in shown.legend} == {
        "complete": 2, "healed": 1, "accepted": 0, "gap": 0, "unaudited": 1, "unread": 1,
    }  # fmt: skip


def test_months_beyond_half_a_year_are_folded_away() -> None:
    shown = calendar.view([day("2024-01-31", Verdict.COMPLETE)], date(2025, 1, 1))
    assert [month.title for month in shown.recent][::5] == ["January 2025", "August 2024"]
    assert [month.title for month in shown.earlier][::6] == ["July 2024", "January 2024"]


def test_empty_ledger_is_this_month() -> None:
    shown = calendar.view([], date(2025, 12, 31))
    assert ([month.title for month in shown.recent], shown.first, shown.days) == (["December 2025"], None, 0)


@pytest.mark.parametrize(
    ("highest", "top"), [(0, 2), (1, 2), (3, 4), (11, 12), (13, 16), (17, 20), (25, 30), (130, 160), (1001, 1200)]
)
def test_scale_ends_a_little_above_the_highest(highest: int, top: int) -> None:
    shown = chart.view((highest, *[0] * 23), (0,) * 24, 1.0)
    assert (shown.top, shown.half) == (top, top // 2)


def test_single_call_beside_a_thousand_is_seen() -> None:
    shown = chart.view((1000, 1, *[0] * 22), (0,) * 24, 14.5)
    assert [(bar.x, bar.y, bar.height) for bar in shown.today] == [(2.9, 0.0, 100.0), (12.9, 99.0, 1.0)]
    assert shown.now == 145.0


def test_hours_to_come_are_not_zero_calls() -> None:
    shown = chart.view((5, 7, *[0] * 22), (1,) * 24, 2.5)
    assert [hour.today for hour in shown.hours[:5]] == [5, 7, 0, None, None]
    assert shown.summary == "12 calls today, most of them from 01:00 to 02:00 (7); 24 yesterday."
    assert chart.view((0,) * 24, (1,) * 24, 0.1).summary == "No call today so far; 24 yesterday."
