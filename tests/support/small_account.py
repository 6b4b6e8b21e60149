"""A small account whose every figure was worked out by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING

from cdrsync.model import Checkpoint, WallClock
from tests.support.examples import FIRST, page

if TYPE_CHECKING:
    from cdrsync.store.save import SqlStore

MISSED = FIRST._replace(
    uid=101,
    ref="A1",
    anumber="7921255043",
    dialled="0",
    dialled_location="Unknown",
    alias="Old name",
    duration=0,
    ring_time=9,
    user_cost=Decimal("0.000"),
    reason=2,
    reason_q805=0,
    has_recorded_call=False,
    has_voicemail_recording=None,
)
"""3 August 2013, 20:48:40 in summer time: nobody answered."""

ANSWERED = MISSED._replace(
    uid=102,
    ref="A2",
    call_time=time(20, 59, 58),
    started_at=datetime(2013, 8, 3, 19, 59, 58, tzinfo=UTC),
    alias="Sales",
    dialled="447512345678",
    dialled_location="UK O2 Mobile",
    duration=21,
    ring_time=14,
    user_cost=Decimal("0.026"),
    reason=1,
    reason_q805=1,
    has_recorded_call=True,
)
VOICEMAIL = ANSWERED._replace(
    uid=103,
    ref="A3",
    call_time=time(21, 0, 0),
    started_at=datetime(2013, 8, 3, 20, 0, tzinfo=UTC),
    anumber="",
    anumber_location="",
    alias="-",
    dialled="V:user@domain.com",
    dialled_location="Voice to Email",
    duration=15,
    ring_time=None,
    user_cost=Decimal("0.005"),
)
ABROAD = ANSWERED._replace(
    uid=104,
    ref=None,
    call_date=date(2013, 10, 27),
    call_time=time(1, 30),
    started_at=datetime(2013, 10, 27, 1, 30, tzinfo=UTC),
    wall_clock=WallClock.REPEATED_SECOND.value,
    anumber="33142685300",
    anumber_location="France",
    bnumber="8001111111",
    alias="",
    dialled="14155552671",
    dialled_location="USA",
    duration=3600,
    user_cost=Decimal("1234567.000001"),
    reason_q805=487,
)
ODD = ABROAD._replace(
    uid=105,
    call_date=date(2014, 3, 30),
    call_time=time(1, 15),
    started_at=datetime(2014, 3, 30, 1, 15, tzinfo=UTC),
    wall_clock=WallClock.SKIPPED.value,
    anumber=None,
    anumber_location=None,
    bnumber=None,
    alias=None,
    dialled=None,
    dialled_location=None,
    duration=1,
    ring_time=0,
    user_cost=Decimal("-0.000001"),
    reason=None,
    reason_q805=None,
    has_recorded_call=None,
    extra='{"new":"1"}',
)
CALLS = [MISSED, ANSWERED, VOICEMAIL, ABROAD, ODD]


def fill(store: SqlStore, state: str) -> None:
    """Save its calls; in the state `summed` the summary is made, too."""
    store.save(page(*CALLS, checkpoint=Checkpoint("tail", 105)))
    if state == "summed":
        assert store.sum_days() is False
