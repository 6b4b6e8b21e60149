"""What befalls the sandbox's records as time goes by, and hostile ones among them."""

from __future__ import annotations

from decimal import Decimal
from itertools import count, pairwise
from threading import Thread
from typing import Any

import pytest

from cdrsync.sandbox.calls import SOMETIMES
from tests.support.operator import Settings, World
from tests.support.operator.hostile import HOSTILE_TEXTS, LONG, spoilt
from tests.unit.sandbox_client import GET_CDRS, Client, texts, turn, world


def _visible(place: World) -> list[int]:
    return [call.uid for call in place.records()]


def test_a_late_record_appears_behind_younger_ones() -> None:
    """Its uid is handed out first, it is seen last: the record that every id-cursor loses."""
    place = world()
    late = place.add_late(600, alias="late")
    young = place.add()
    assert late.uid < young.uid
    assert _visible(place) == [young.uid]
    assert [call.uid for call in place.records(visible=False)] == [late.uid, young.uid]
    turn(place, 599)
    assert _visible(place) == [young.uid]
    turn(place, 1)
    assert _visible(place) == [late.uid, young.uid]
    assert Client(place).uids(LastId=late.uid - 1) == [late.uid, young.uid]
    assert place.counters()["appeared_later"] == 1


def test_a_record_changes_later() -> None:
    """At its moment, value by value; what no call has is refused at once."""
    place = world()
    call = place.add(user_cost=Decimal("0.100"), has_recorded_call=None)
    place.change(call.uid, delay=60, user_cost=Decimal("0.200"))
    place.change(call.uid, has_recorded_call=True)
    assert place.records()[0][12:16] == (Decimal("0.100"), call.reason, call.reason_q805, True)
    turn(place, 60)
    assert place.records()[0].user_cost == Decimal("0.200")
    with pytest.raises(ValueError, match="colour"):
        place.change(call.uid, delay=60, colour="red")
    with pytest.raises(KeyError):
        place.change(1, duration=1)


def test_a_record_vanishes() -> None:
    """From pages, totals and GetCDR; a change that was due later finds nothing."""
    place = world()
    call, other = place.add(), place.add()
    place.change(call.uid, delay=60, duration=1)
    assert place.vanish(call.uid) == call
    turn(place, 60)
    assert (_visible(place), place.totals("all").calls) == ([other.uid], 1)
    assert (place.counters()["vanished"], place.counters()["changed"]) == (1, 0)
    with pytest.raises(KeyError):
        place.vanish(call.uid)


def test_the_sequence_can_be_restarted() -> None:
    """The next uids begin where told, and go on from there as time passes."""
    place = world()
    before = place.add()
    place.restart_sequence(at=1000)
    after = place.add()
    turn(place, 100)
    later = place.add()
    assert 1000 <= after.uid < 1100 < before.uid
    assert after.uid + 50 < later.uid < 1200
    assert _visible(place) == [after.uid, later.uid, before.uid]


def test_calls_arrive_at_their_rate() -> None:
    """As the clock goes, in the order of their uids; the rate can be changed and stopped while it runs."""
    place = world(Settings(rate=2.0))
    turn(place, 1000)
    count = len(_visible(place))
    assert 1800 < count < 2200
    assert all(one.uid < other.uid for one, other in pairwise(place.records()))
    place.configure(rate=0)
    turn(place, 1000)
    assert len(_visible(place)) == count
    place.configure(rate=50.0)
    turn(place, 10)
    assert 400 < len(_visible(place)) - count < 600


def test_uids_at_the_end_of_a_call_are_seen_in_order() -> None:
    """`appear="at-end"`: a pure id-cursor would lose nothing."""
    place = world(Settings(rate=1.0))
    seen: list[int] = []
    for _ in range(600):
        turn(place, 1)
        assert _visible(place)[: len(seen)] == seen
        seen = _visible(place)


def test_uids_at_the_start_of_a_call_are_seen_out_of_order() -> None:
    """`appear="at-start"`: a long call appears after younger ones with higher uids."""
    place = world(Settings(rate=1.0, appear="at-start"))
    overtaken, highest = 0, 0
    seen: set[int] = set()
    for _ in range(600):
        turn(place, 1)
        new = set(_visible(place)) - seen
        overtaken += sum(uid < highest for uid in new)
        seen |= new
        highest = max(seen, default=0)
    assert overtaken > 50


def test_shares_of_late_and_changed_calls() -> None:
    """Late ones wait within their bounds; changed ones are re-rated or have a flag flipped, and are counted."""
    place = world(
        Settings(rate=5.0, late_share=0.2, late_delay=(10.0, 300.0), change_share=0.3, change_delay=(5.0, 60.0))
    )
    turn(place, 1000)
    place.configure(rate=0)
    before = {call.uid: call for call in place.records()}
    turn(place, 301 + 60)
    counters = place.counters()
    assert 0.15 < counters["late"] / counters["live"] < 0.25
    assert counters["appeared_later"] == counters["late"]
    assert 0.25 < counters["changed"] / counters["live"] < 0.35
    assert counters["visible"] == counters["issued"] == counters["live"]
    changed = [(before[call.uid], call) for call in place.records() if before.get(call.uid, call) != call]
    assert {name for old, new in changed for name in _different(old, new)} == {
        "user_cost", "has_recorded_call", "has_voicemail_recording",
    }  # fmt: skip


def _different(old: Any, new: Any) -> list[str]:
    return [name for name in old._fields if getattr(old, name) != getattr(new, name)]


def test_a_clock_that_steps_back_harms_nothing() -> None:
    """What was visible stays visible; time goes on from there."""
    place = world(Settings(rate=1.0))
    turn(place, 100)
    seen = _visible(place)
    turn(place, -3600)
    assert _visible(place) == seen
    turn(place, 3600 + 100)
    assert _visible(place)[: len(seen)] == seen
    assert len(_visible(place)) > len(seen)


def test_hostile_texts_come_through_xml_unharmed() -> None:
    """Markup, astral and right-to-left characters, carriage returns, 100,000 umlauts: as they were put in."""
    place = world()
    added = [place.add(alias=text, anumber_location=text) for text in HOSTILE_TEXTS]
    records = list(Client(place).ask(GET_CDRS, limit=1000).iter("CDR"))
    assert [record.findtext("alias") for record in records] == list(HOSTILE_TEXTS)
    assert [record.findtext("anumber_location") for record in records] == [call.anumber_location for call in added]
    assert max(map(len, HOSTILE_TEXTS)) > LONG


def test_parts_may_be_left_out_or_added() -> None:
    """A text or flag of None is absent, a number of None is empty, extra elements follow in their order."""
    place = world()
    absent: dict[str, Any] = {**dict.fromkeys(SOMETIMES), "alias": None, "ring_time": None}
    place.add(**{**absent, "has_fax_document": True, "extra": (("Tag", "a"), ("Tag", "b"))})
    record = texts(next(Client(place).ask(GET_CDRS).iter("CDR")))
    names = [name for name, _ in record]
    assert "alias" not in names
    assert "HasRecordedCall" not in names
    assert dict(record)["ring_time"] == ""
    assert record[-3:] == [("HasFaxDocument", "1"), ("Tag", "a"), ("Tag", "b")]


def test_records_that_cannot_be_typed_are_sent_in_their_place() -> None:
    """Each is well-formed, differs from the good record in one element, and never stops the others."""
    place = world()
    good = place.add(has_recorded_call=True, has_voicemail_recording=False, has_fax_document=False, alias="-")
    plain = texts(next(Client(place).ask(GET_CDRS).iter("CDR")))
    for how in range(18):
        place.change(good.uid, raw=None)
        place.change(good.uid, raw=spoilt(good, how))
        got = texts(next(Client(place).ask(GET_CDRS).iter("CDR")))
        assert len(set(got) ^ set(plain)) in {0, 1, 2}, got
        assert got != plain


def test_shares_of_hostile_calls() -> None:
    """Unknown elements, hostile values and records that can't be typed, as often as told."""
    place = world(Settings(hostile_share=0.2, unknown_elements_share=0.1, untypeable_share=0.1))
    place.add_history(calls=2000, days=2)
    calls = place.records()
    assert 150 < sum(bool(call.extra) for call in calls) < 250
    assert 150 < sum(call.raw is not None for call in calls) < 250
    hostile = sum(any(text in HOSTILE_TEXTS for text in call[4:10]) for call in calls)
    assert 300 < hostile < 500
    assert len(list(Client(place).ask(GET_CDRS, LastId=0, limit=2000).iter("CDR"))) == 2000


def test_uids_are_never_used_twice() -> None:
    """A given uid that is taken is refused; history that is older than what is there finds gaps."""
    place = world()
    place.add_history(calls=500, days=1)
    taken = _visible(place)[0]
    with pytest.raises(ValueError, match="already taken"):
        place.add(uid=taken)
    place.add_history(calls=500, days=1)
    assert len(set(_visible(place))) == 1000


def test_it_may_be_used_from_many_threads() -> None:
    """Pages, verbs and arrivals at once: nothing is lost, nothing fails."""
    ticks = count(17_000_000_000_000)
    place = World(Settings(rate=500.0), clock=lambda: next(ticks) / 10_000)  # however slow the machine, few arrive
    failures: list[str] = []

    def work() -> None:
        client = Client(place)
        try:
            for _ in range(25):
                last = 0
                while page := client.uids(LastId=last, limit=50):
                    if page != sorted(page) or page[0] <= last:
                        failures.append(f"after {last}: {page}")
                    last = page[-1]
                place.change(place.add().uid, duration=1)
        except Exception as error:  # noqa: BLE001 - a thread's failure must reach the test
            failures.append(repr(error))

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    place.configure(rate=0)
    assert failures == []
    counters = place.counters()
    assert (counters["visible"], counters["changed"]) == (counters["live"] + 100, 100)
