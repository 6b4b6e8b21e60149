"""The sandbox's calls: believable, of nobody, and the same for the same seed."""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from cdrsync.sandbox.calls import cost, uid_at, wall_clock
from tests.support.operator import Call, Settings, World
from tests.unit.sandbox_client import turn, world

LONDON = ZoneInfo("Europe/London")
# Ofcom's numbers for drama, and their like in the countries that the calls come from
NOBODYS = re.compile(
    r"7700900\d{3}|(113|114|115|116|117|118|121|131|141|151|161)4960\d{3}|1632960\d{3}|1914980\d{3}|2079460\d{3}"
    r"|2896496\d{3}|2920180\d{3}|306999\d{4}|8081570\d{3}|1(212|310)55501\d\d|3319900\d{4}|493023125\d{3}|6125550\d{4}"
    r"|3532091\d{5}"
)


@pytest.fixture(scope="module")
def calls() -> list[Call]:
    """Twenty thousand of thirty days."""
    place = world()
    place.add_history(calls=20_000, days=30)
    return place.records()


def test_the_same_seed_makes_the_same_world() -> None:
    """Records, and what arrives later, depend on the seed alone."""

    def lived(seed: int) -> list[Call]:
        place = world(Settings(rate=0.1, late_share=0.2, change_share=0.2, hostile_share=0.1), seed=seed)
        place.add_history(calls=500, days=3)
        turn(place, 3600)
        return place.records()

    assert lived(1) == lived(1)
    assert lived(1) != lived(2)


def test_the_wall_clock_is_londons(calls: list[Call]) -> None:
    """`calldate calltime` is the second that `ref` and `started` say, in Europe/London."""
    for call in calls:
        instant = datetime.fromtimestamp(call.started, LONDON)
        assert f"{call.calldate} {call.calltime}" == f"{instant:%Y-%m-%d %H:%M:%S}"
        assert int((call.ref or "").removeprefix("!")[:8], 16) == call.started


@pytest.mark.parametrize(
    ("instant", "shown"),
    [
        (0x51FD5E98, ("2013-08-03", "20:48:40")),  # the reference page's own
        (0x5224557B, ("2013-09-02", "10:08:11")),
        (1729989000, ("2024-10-27", "01:30:00")),  # the autumn night's first half past one…
        (1729992600, ("2024-10-27", "01:30:00")),  # …and its second
        (1711846799, ("2024-03-31", "00:59:59")),  # the last second before the spring night's jump…
        (1711846800, ("2024-03-31", "02:00:00")),  # …and the first after it
    ],
)
def test_the_wall_clock_on_special_days(instant: int, shown: tuple[str, str]) -> None:
    """The page's samples, and both nights in which clocks are changed."""
    assert wall_clock(instant) == shown


def test_uids_grow_with_gaps(calls: list[Call]) -> None:
    """As on a platform that other customers share, at the pace of the page's samples."""
    assert all(one.uid < other.uid for one, other in pairwise(calls))
    assert all(one.started <= other.started + 10_800 for one, other in pairwise(calls))
    assert max(calls).uid - min(calls).uid > 50 * len(calls)
    assert (uid_at(0x51FD5E98), abs(uid_at(0x522485C6) - 108139023) < 200_000) == (106398335, True)


def test_both_shapes_of_ref_occur(calls: list[Call]) -> None:
    """16 hex digits, or `!` and up to 13."""
    shapes = Counter(bool(re.fullmatch(r"[0-9A-F]{16}", call.ref or "")) for call in calls)
    assert all(re.fullmatch(r"[0-9A-F]{16}|![0-9A-F]{9,13}", call.ref or "") for call in calls)
    assert min(shapes.values()) > 8000
    assert len({call.ref for call in calls}) == len(calls)


def test_nobodys_number_is_used(calls: list[Call]) -> None:
    """Every caller, line and target is a number set aside for drama, however it is written; the others are withheld."""
    callers = {re.sub(r"^(\+44|0044|44|0)(?=\d{10}$)", "", call.anumber or "") for call in calls}
    numbers = callers - {"anonymous", "Unavailable", "withheld", "-", "0"} | {call.bnumber for call in calls}
    targets = {(call.dialled or "").removeprefix("44") for call in calls if (call.dialled or "").startswith("44")}
    assert [number for number in numbers | targets if number and not NOBODYS.fullmatch(number)] == []
    assert {call.dialled for call in calls if (call.dialled or "").startswith("V:")} == {
        *("V:sales@example.com", "V:support@example.com", "V:desk@example.com", "V:accounts@example.com"),
        *("V:bookings@example.com", "V:night@example.com"),
    }


def test_callers_write_their_numbers_in_many_ways(calls: list[Call]) -> None:
    """As their equipment does: with 0, 44, +44 and 0044, and words where there is no number."""
    callers = {call.anumber or "" for call in calls}
    for begin in (
        r"0\d{10}",
        r"44\d{10}",
        r"\+44\d{10}",
        r"0044\d{10}",
        "anonymous",
        "Unavailable",
        "withheld",
        "-",
        "0",
    ):
        assert any(re.fullmatch(begin, caller) for caller in callers), begin


def test_callers_call_again(calls: list[Call]) -> None:
    """A few callers make many calls, many make few; some withhold their number, some call from abroad."""
    by_caller = Counter(call.anumber for call in calls)
    withheld = by_caller.pop("")
    assert 1000 < withheld < 2000
    assert by_caller.most_common(1)[0][1] > 1000
    assert len(by_caller) > 3000
    assert {call.anumber_location for call in calls} >= {"UK O2 Mobile", "UK London", "France", "Unknown"}


def test_offices_are_called_in_office_hours(calls: list[Call]) -> None:
    """Weekdays and daytime carry most of it; some come at night."""
    starts = [datetime.fromtimestamp(call.started, LONDON) for call in calls]
    daytime = sum(start.weekday() < 5 and 9 <= start.hour < 18 for start in starts)
    assert 0.7 < daytime / len(calls) < 0.95
    assert any(start.hour == 3 for start in starts)


def test_outcomes_are_those_of_the_page(calls: list[Call]) -> None:
    """Answered, voicemail, missed: dialled, duration, cost and reasons go together."""
    for call in calls:
        if call.kind == "missed":
            assert (call.dialled, call.duration, call.user_cost) == ("0", 0, Decimal("0.000"))
            assert (call.reason, call.reason_q805) in {(2, 0), (1015, 487)}
        else:
            assert (call.duration > 0, call.reason, call.reason_q805) == (True, 1, 1)
            assert (call.kind == "voicemail") == (call.dialled_location == "Voice to Email")
            rates = {
                (call.duration * Decimal(rate) / 60).quantize(Decimal("0.001"), ROUND_HALF_UP)
                for rate in ("0.02", "0.075", "0.015")
            }
            assert call.user_cost in rates
    assert {call.kind for call in calls} == {"answered", "missed", "voicemail"}


@pytest.mark.parametrize(("seconds", "rate", "pounds"), [(15, 20, "0.005"), (21, 75, "0.026"), (0, 75, "0.000")])
def test_costs_are_those_of_the_page(seconds: int, rate: int, pounds: str) -> None:
    """The page's samples, with three decimals."""
    assert str(cost(seconds, rate)) == pounds


def test_flags_are_absent_in_some(calls: list[Call]) -> None:
    """All three in most of those, the last alone in others."""
    absent = Counter(tuple(flag is None for flag in call[15:18]) for call in calls)
    assert absent.keys() == {(False, False, False), (True, True, True), (False, False, True)}
    assert 0.05 < 1 - absent[False, False, False] / len(calls) < 0.15


def test_the_world_of_now_has_no_call_of_the_future() -> None:
    """With the real clock too, whatever is visible has ended."""
    place = World()
    place.add_history(calls=300, days=0.01)
    now = place.clock()
    visible = place.records()
    assert len(visible) == 300
    assert max(call.started + call.duration + (call.ring_time or 0) for call in visible) <= now
