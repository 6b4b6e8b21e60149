"""Trying again: what for, how often, how long between, and when not."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import pytest

from cdrsync.errors import ApiUnreachable, BadAnswer, LoginRefused, RequestRefused
from cdrsync.source.retry import RetryPolicy, run
from cdrsync.source.stop import StopEvent

if TYPE_CHECKING:
    from collections.abc import Callable


class _Waits(StopEvent):
    """Doesn't wait, but writes down for how long it was asked to; stops after so many waits."""

    def __init__(self, stop_after: int = 1000) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._stop_after = stop_after

    def wait(self, seconds: float) -> bool:
        self.seconds.append(seconds)
        return len(self.seconds) >= self._stop_after


def _failing(*failures: Exception) -> tuple[Callable[[], str], list[Exception]]:
    left = list(failures)

    def work() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return work, left


_EXACT = RetryPolicy(attempts=4, wait_initial=0.5, wait_max=1.5, wait_jitter=0.0)


def test_the_wait_doubles_up_to_its_bound() -> None:
    """Waits grow from wait_initial and stay at wait_max."""
    waits = _Waits()
    work, _ = _failing(ApiUnreachable("a"), BadAnswer("b"), ApiUnreachable("c"))

    assert run(work, _EXACT, waits) == "done"
    assert waits.seconds == [0.5, 1.0, 1.5]


def test_the_last_failure_is_raised() -> None:
    """When the attempts are used up, the last failure is the caller's, and nothing is waited for any more."""
    waits = _Waits()
    work, left = _failing(*(ApiUnreachable(name) for name in "abcdef"))

    with pytest.raises(ApiUnreachable, match=r"^d"):
        run(work, _EXACT, waits)
    assert len(left) == 2
    assert len(waits.seconds) == 3


@pytest.mark.parametrize("error", [LoginRefused("no"), RequestRefused("no", code="400"), ValueError("ours")])
@pytest.mark.parametrize("before", [0, 1])
def test_what_is_never_tried_again(error: Exception, before: int) -> None:
    """A refused login, a refused request and a bug of ours end the attempts at once, the first or a later one."""
    work, left = _failing(*[ApiUnreachable("away")] * before, error, ApiUnreachable("never reached"))

    with pytest.raises(type(error)):
        run(work, _EXACT, _Waits())
    assert len(left) == 1


def test_retry_after_is_honoured() -> None:
    """The operator's own wish takes the place of our backoff."""
    waits = _Waits()
    work, _ = _failing(ApiUnreachable("busy", retry_after=7.0), ApiUnreachable("busy", retry_after=0.0))

    assert run(work, _EXACT, waits) == "done"
    assert waits.seconds == [7.0, 0.0]


def test_a_long_retry_after_is_the_callers() -> None:
    """A wish beyond the bound ends the attempts; the error carries it."""
    waits = _Waits()
    work, left = _failing(ApiUnreachable("busy", retry_after=3600.0), ApiUnreachable("never reached"))

    with pytest.raises(ApiUnreachable) as raised:
        run(work, _EXACT, waits)
    assert raised.value.retry_after == 3600.0
    assert (waits.seconds, len(left)) == ([], 1)


def test_the_total_time_is_bounded() -> None:
    """No wait goes beyond the total time."""
    waits = _Waits()
    work, _ = _failing(*[ApiUnreachable("away", retry_after=50.0)] * 3)

    with pytest.raises(ApiUnreachable):
        run(work, RetryPolicy(attempts=9, total=40.0), waits)
    assert waits.seconds == []


def test_a_stop_ends_the_attempts() -> None:
    """After a stop nothing is tried again."""
    waits = _Waits(stop_after=2)
    work, left = _failing(*(ApiUnreachable(name) for name in "abcdef"))

    with pytest.raises(ApiUnreachable, match=r"^b"):
        run(work, _EXACT, waits)
    assert len(left) == 4


def test_a_stop_ends_a_wait() -> None:
    """A stop that is set while waiting ends the wait, not only the next one."""
    stop = threading.Event()
    both = StopEvent(stop)
    timer = threading.Timer(0.05, stop.set)
    timer.start()

    assert both.wait(3600)
    timer.join()


def test_one_attempt_means_one() -> None:
    """attempts=1 tries once."""
    work, left = _failing(ApiUnreachable("a"), ApiUnreachable("b"))

    with pytest.raises(ApiUnreachable, match=r"^a"):
        run(work, RetryPolicy(attempts=1), _Waits())
    assert len(left) == 1


def test_retries_print_nothing(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    """Retrying is silent: what is said to people is said by the caller."""
    work, _ = _failing(ApiUnreachable("a"))
    with caplog.at_level(logging.DEBUG):
        run(work, _EXACT, _Waits())

    assert (*capsys.readouterr(), caplog.records) == ("", "", [])
