"""A sequence of uids that falls stops the account; late calls, garbled uids and wrong clocks are no fall."""

from __future__ import annotations

import pytest

from cdrsync.errors import BadAnswer, SequenceReset
from cdrsync.model import Reject
from tests.support.account import MemoryAccount, run
from tests.support.examples import call


def test_lower_uids_than_before_stop_the_account_before_anything_is_stored() -> None:
    world = MemoryAccount([call(1000, "2026-05-10 11:00:00")])
    run(world.sync.poll())
    world.source.records.append(call(3, "2026-05-10 14:30:00"))
    world.clock.set("2026-05-10 14:40:00")
    with pytest.raises(SequenceReset, match="uid 3 began at 2026-05-10 13:30:00 UTC"):
        run(world.sync.look_back())
    assert world.held() == [1000]


def test_a_sweep_notices_lower_uids_that_todays_first_page_does_not_show() -> None:
    earlier = call(500, "2026-05-10 01:00:00")
    world = MemoryAccount([earlier, *(call(uid, "2026-05-10 11:00:00") for uid in (1000, 1001))], page_size=2)
    run(world.sync.poll())
    world.source.records.append(call(3, "2026-05-10 14:30:00"))
    world.clock.set("2026-05-10 14:40:00")
    run(world.sync.look_back())
    with pytest.raises(SequenceReset):
        run(world.sync.sweep())


def test_a_fall_is_noticed_although_the_mark_is_an_unreadable_record() -> None:
    world = MemoryAccount([call(1000, "2026-05-10 11:00:00")])
    run(world.sync.poll())
    world.source.records.append(Reject(1001, "<CDR>1001</CDR>", "duration: not a number"))
    run(world.sync.poll())
    assert world.mark() == 1001
    world.source.records = [call(3, "2026-05-10 14:30:00")]
    world.clock.set("2026-05-10 14:40:00")
    with pytest.raises(SequenceReset):
        run(world.sync.look_back())


def test_look_backs_do_not_put_off_the_moment_at_which_a_fall_is_noticed() -> None:
    """A look-back reads calls of the new sequence, too; the mark is as old as the last call that raised it."""
    world = MemoryAccount([call(uid, "2026-05-10 11:00:00") for uid in (900, 1000)], page_size=1)
    run(world.sync.poll())
    for uid, clock in ((901, "13:00"), (902, "13:30"), (903, "13:55")):
        world.source.records.append(call(uid, f"2026-05-10 {clock}:00"))
        world.clock.set(f"2026-05-10 {clock}:30")
        run(world.sync.look_back())
    world.source.records.append(call(904, "2026-05-10 14:05:00"))
    world.clock.set("2026-05-10 14:06:00")
    with pytest.raises(SequenceReset, match="uid 904"):
        run(world.sync.look_back())


def test_a_late_call_with_a_high_uid_is_no_fall() -> None:
    """Uids handed out when records are written: 1001 is days old, 1000 began just now and appears after it."""
    world = MemoryAccount([call(900, "2026-05-10 09:00:00"), call(1001, "2026-05-07 10:00:00")])
    run(world.sync.poll())
    run(world.sync.poll())
    world.source.records.insert(1, call(1000, "2026-05-10 11:59:00"))
    run(world.sync.look_back())
    run(world.sync.sweep())
    assert world.held() == [900, 1000, 1001]


def test_a_fall_that_the_operator_unsays_is_a_garbled_answer() -> None:
    """Asked for that very record, it has another time, or none: nothing is stored, and it is tried again."""
    for otherwise in ([], [call(3, "2026-05-01 14:30:00")]):
        world = MemoryAccount([call(1000, "2026-05-10 11:00:00")])
        run(world.sync.poll())
        world.source.records.append(call(3, "2026-05-10 14:30:00"))
        world.source.told = otherwise
        world.clock.set("2026-05-10 14:40:00")
        with pytest.raises(BadAnswer, match="another says otherwise"):
            run(world.sync.look_back())
        assert world.held() == [1000]


@pytest.mark.parametrize("uid", [4 * 10**18, 10**16])
@pytest.mark.parametrize("garbled", [1, 2])
@pytest.mark.parametrize("page_size", [1, 2, 1000])
def test_garbled_uids_at_the_first_sync_and_later_do_not_carry_the_mark_away(
    uid: int, garbled: int, page_size: int
) -> None:
    """One, or two with uids that follow each other: the calls after them are held, and nothing has to be mended."""
    for first in (True, False):
        bad = [call(uid + n, "2026-05-10 09:00:00") for n in range(garbled)]
        good = [call(n, "2026-05-10 09:00:00") for n in (1000, 1001, 1002)]
        world = MemoryAccount([*bad, *good] if first else good, page_size=page_size)
        run(world.sync.catch_up())
        world.source.records = [*bad, *good]
        run(world.sync.poll())
        assert world.mark() == 1002
        world.clock.set("2026-05-10 15:00:00")
        world.source.records.append(call(1003, "2026-05-10 14:59:00"))
        run(world.sync.poll())
        run(world.sync.look_back())
        assert (world.mark(), world.held()) == (1003, [1000, 1001, 1002, 1003, *(one.uid for one in bad)])


def test_a_call_said_to_begin_in_the_future_is_no_fall() -> None:
    world = MemoryAccount([call(1000, "2026-05-10 11:00:00")])
    run(world.sync.poll())
    world.source.records.append(call(999, "2026-05-10 23:00:00"))
    run(world.sync.look_back())
    assert world.held() == [999, 1000]
