"""How long a one-shot run goes on after failures."""

from __future__ import annotations

from datetime import date

import pytest

from cdrsync.errors import ApiUnreachable, CdrsyncError, DatabaseUnavailable, NoProgress, RequestRefused
from cdrsync.model import Origin, PageSaved
from cdrsync.sync.endurance import LONGEST_PAUSE, Endurance

DOWN = ApiUnreachable("HTTP 500")
DAY = date(2026, 5, 1)


class Run:
    """A run that fails and waits until it gives up."""

    def __init__(self, give_up_after: float = 300) -> None:
        self.now = 1000.0
        self.endurance = Endurance(give_up_after, lambda: self.now)

    def fails(self, error: CdrsyncError = DOWN) -> float | None:
        seconds = self.endurance.pause(error)
        self.now += seconds or 0.0
        return seconds


@pytest.mark.parametrize("error", [DOWN, DatabaseUnavailable("restart"), RequestRefused("no", code="403")])
def test_who_never_reached_the_operator_gives_up_at_once(error: CdrsyncError) -> None:
    """A wrong address, a dead server, a final refusal."""
    assert Run().fails(error) is None


def test_it_gives_up_after_so_long_without_progress() -> None:
    """Pauses double up to half a minute; the last one still ends within the five minutes."""
    run = Run()
    run.endurance.reached()
    pauses = []
    while (seconds := run.fails()) is not None:
        pauses.append(seconds)
    assert pauses[:6] == [1, 2, 4, 8, 16, LONGEST_PAUSE]
    assert 300 - LONGEST_PAUSE < sum(pauses) <= 300


@pytest.mark.parametrize(
    "saved",
    [
        PageSaved(Origin.TAIL, inserted=1),
        PageSaved(Origin.SWEEP, updated=1),
        PageSaved(Origin.TAIL, rejected=1),
        PageSaved(Origin.BACKFILL, unchanged=9, completed=(DAY,)),
        PageSaved(Origin.TAIL, high_water_uid=7),
    ],
)
def test_progress_begins_the_time_anew(saved: PageSaved) -> None:
    """Once: what a turn does again is no progress, else a day that always fails would be tried for ever."""
    run = Run()
    run.endurance.reached()
    while run.fails() is not None:
        pass
    run.endurance.saved(saved)
    assert run.fails() == 1
    while run.fails() is not None:
        if not (saved.inserted or saved.updated or saved.rejected):
            run.endurance.saved(saved)
    assert run.now < 1000 + 2 * 300 + 2


@pytest.mark.parametrize("error", [NoProgress("it repeats"), RequestRefused("try later", code="500")])
def test_after_progress_a_refusal_is_tried_again_too(error: CdrsyncError) -> None:
    run = Run()
    run.endurance.reached()
    assert run.fails(error) is None
    run.endurance.saved(PageSaved(Origin.TAIL, inserted=1))
    assert run.fails(error) == 1


@pytest.mark.parametrize(("wish", "pause"), [(20.0, 20.0), (999_999_999.0, None)])
def test_the_operators_own_wish_is_waited_for_where_there_is_time(wish: float, pause: float | None) -> None:
    run = Run()
    run.endurance.reached()
    assert run.fails(ApiUnreachable("HTTP 503", retry_after=wish)) == pause
