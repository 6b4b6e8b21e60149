"""The one example of a call, and pages of calls like it."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from cdrsync.model import Cdr, Origin, Page
from tests.support.clock import LONDON

FIRST = Cdr(
    uid=106398335,
    ref="51FD5E980233A34F",
    call_date=date(2013, 8, 3),
    call_time=time(20, 48, 40),
    started_at=datetime(2013, 8, 3, 19, 48, 40, tzinfo=UTC),
    wall_clock=None,
    anumber="7921255043",
    anumber_location="UK O2 Mobile",
    bnumber="1245830144",
    alias="",
    dialled="0",
    dialled_location="Unknown",
    duration=61,
    ring_time=7,
    user_cost=Decimal("0.125"),
    reason=1,
    reason_q805=1,
    has_recorded_call=True,
    has_voicemail_recording=False,
    has_fax_document=None,
    extra=None,
)
"""The first record of the reference page, with something in every figure."""


def call(uid: int, began: str = "2026-05-10 10:00:00", **changes: Any) -> Cdr:
    """A call of a uid that began at a UK wall clock time."""
    clock = datetime.fromisoformat(began)
    plain = FIRST._replace(
        uid=uid,
        ref=f"ref-{uid}",
        call_date=clock.date(),
        call_time=clock.time(),
        started_at=clock.replace(tzinfo=LONDON).astimezone(UTC),
    )
    return plain._replace(**changes)


def calls(count: int, first: Cdr = FIRST) -> list[Cdr]:
    """Calls with uids in a row, a minute apart."""
    return [
        first._replace(uid=first.uid + n, started_at=first.started_at + timedelta(minutes=n), ref=f"{n:016X}")
        for n in range(count)
    ]


def page(*cdrs: Cdr, **parts: Any) -> Page:
    """A page of the tail."""
    return Page(Origin.TAIL, list(cdrs), **parts)
