"""One operator host has one brake: after a complaint all accounts slow down together, and come back by degrees."""

from __future__ import annotations

import pytest

from cdrsync.source.brake import LONGEST, SHORTEST, Brake, brake_of
from cdrsync.source.stop import StopEvent
from tests.support.clock import Clock


class Waits(StopEvent):
    """A stop that never comes; waiting for it moves the clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, seconds: float) -> bool:
        self._clock.advance(seconds)
        return False


def sent(brake: Brake, clock: Clock, seconds: float) -> int:
    """How many requests go out in that time when as many are sent as may be; the host takes all of them."""
    end, count = clock.seconds() + seconds, 0
    while brake.wait(end, Waits(clock)):
        brake.answered(refused=False)
        clock.advance(0.001)
        count += 1
    return count


def taken(brake: Brake, clock: Clock, answers: int) -> None:
    """Answers that complain of nothing, 20 a second."""
    for _ in range(answers):
        brake.answered(refused=False)
        clock.advance(0.05)


def test_without_a_limit_nobody_waits() -> None:
    """And there is one brake a host."""
    clock = Clock(1000.0)
    brake = Brake(clock.seconds)
    assert [brake.wait(clock.seconds(), Waits(clock)) for _ in range(5)] == [True] * 5
    assert clock.seconds() == 1000
    assert brake_of("https://a.example/api/") is brake_of("https://A.example:443/other")
    assert brake_of("https://a.example/api/") is not brake_of("http://a.example/api/")


def test_a_configured_rate_holds_from_the_start() -> None:
    """20 a second are 200 in ten seconds."""
    clock = Clock(1000.0)
    brake = Brake(clock.seconds)
    brake.limit(20)
    assert sent(brake, clock, 10) in (200, 201)


def test_a_complaint_slows_all_down_to_less_than_what_was_taken() -> None:
    """Closed for as long as it asks; then nine tenths of the rate that it took, and slowly more."""
    clock = Clock(1000.0)
    brake = Brake(clock.seconds)
    taken(brake, clock, 200)
    for _ in range(8):  # of one burst: they say nothing new
        brake.answered(refused=True, retry_after=5)
    assert brake.opens_at() == clock.seconds() + 5
    assert not brake.wait(clock.seconds() + 4.9, Waits(clock))
    assert 18 * 10 <= sent(brake, clock, 15) <= 18 * 10 * 1.5


def test_where_a_request_may_be_sent_now_it_is_not_said_since_when() -> None:
    """Or accounts that are half through their first poll would stand behind all those that have not begun theirs."""
    clock = Clock(1000.0)
    brake = Brake(clock.seconds)
    taken(brake, clock, 20)
    assert brake.opens_at() == 0.0


@pytest.mark.parametrize(("wish", "seconds"), [(999999999, LONGEST), (None, 1.0), (0, 1.0), (60, 60.0)])
def test_of_a_wish_a_quarter_of_an_hour_is_believed(wish: float | None, seconds: float) -> None:
    """And a person may ask all the same."""
    clock = Clock(1000.0)
    brake = Brake(clock.seconds)
    brake.answered(refused=True, retry_after=wish)
    assert brake.opens_at() == clock.seconds() + seconds
    brake.open()
    assert brake.wait(clock.seconds(), Waits(clock))


@pytest.mark.parametrize("answers", [0, 1, 9])
def test_one_complaint_among_few_answers_says_nothing_of_a_rate(answers: int) -> None:
    """An idle account that meets one 503 is as quick as before once the time is over."""
    clock = Clock(1000.0)
    brake = Brake(clock.seconds)
    taken(brake, clock, answers)
    brake.answered(refused=True, retry_after=2)
    assert brake.wait(clock.seconds() + 2, Waits(clock))
    opened = clock.seconds()
    assert all(brake.wait(clock.seconds(), Waits(clock)) for _ in range(100))
    assert clock.seconds() == opened


def test_a_host_that_always_complains_is_asked_now_and_then() -> None:
    """As often as it may be after each complaint, and without end."""
    clock = Clock(1000.0)
    brake = Brake(clock.seconds)
    for _ in range(100):
        assert brake.wait(clock.seconds() + 60, Waits(clock))
        brake.answered(refused=True)
    assert clock.seconds() - 1000 == pytest.approx(99 * SHORTEST)


def test_a_complaint_is_forgotten_in_the_end() -> None:
    """After ten minutes without one there is no brake."""
    clock = Clock(1000.0)
    brake = Brake(clock.seconds)
    taken(brake, clock, 200)
    brake.answered(refused=True)
    clock.advance(601)
    brake.answered(refused=False)
    before = clock.seconds()
    assert all(brake.wait(clock.seconds() + 60, Waits(clock)) for _ in range(50))
    assert clock.seconds() == before
