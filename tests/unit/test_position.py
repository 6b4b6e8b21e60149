"""What is due: one answer for the one-shot command, the daemon and the audit."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from cdrsync.sync.streams import Stream
from tests.support.account import MemoryAccount, run

OFF: list[dict[str, Any]] = [{"lookback_interval": timedelta()}, {"lookback": timedelta()}]


@pytest.mark.parametrize("settings", OFF)
def test_a_look_back_that_is_switched_off_is_never_due(settings: dict[str, Any]) -> None:
    """Neither before the first one nor ever after, whoever asks."""
    world = MemoryAccount(**settings)
    assert not world.sync.position.due(Stream.LOOKBACK)
    run(world.sync.poll())
    world.clock.set("2026-07-01 12:00:00")
    assert not world.sync.position.due(Stream.LOOKBACK)


def test_a_sweep_that_is_switched_off_is_never_due() -> None:
    world = MemoryAccount(sweep_days=0)
    run(world.sync.catch_up())
    world.clock.set("2026-07-01 12:00:00")
    assert not world.sync.position.due(Stream.SWEEP)


@pytest.mark.parametrize(
    ("stream", "step", "early", "late"),
    [
        (Stream.LOOKBACK, "look_back", "2026-05-10 12:09:20", "2026-05-10 12:09:40"),
        (Stream.SWEEP, "sweep", "2026-05-11 10:30:00", "2026-05-11 11:00:00"),
    ],
)
def test_what_was_read_is_due_an_interval_later(stream: str, step: str, early: str, late: str) -> None:
    """Or a moment before that: a scheduler may be early. A clock that was set back by as much makes it due, too."""
    world = MemoryAccount()
    assert world.sync.position.due(stream)
    run(getattr(world.sync, step)())
    due = []
    for now in ("2026-05-10 12:00:00", early, late, "2026-05-01 12:00:00"):
        world.clock.set(now)
        due.append(world.sync.position.due(stream))
    assert due == [False, False, True, True]
