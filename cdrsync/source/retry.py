"""Trying again: bounded attempts, bounded total time, jittered exponential backoff, `Retry-After` honoured.

Only ApiUnreachable (and with it BadAnswer) is worth another try. A refused login is never tried again: storms lock
accounts.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from cdrsync.errors import ApiUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdrsync.source.transport import Halt

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long one question is asked again before the failure is the caller's. Times in seconds."""

    attempts: int = 4  # the first one included
    total: float = 90.0  # no attempt begins later than this after the first
    wait_initial: float = 0.5  # doubled after each attempt
    wait_max: float = 20.0
    wait_jitter: float = 1.0  # up to this much is added, so that many clients don't return together
    retry_after_max: float = 60.0  # a longer wish of the operator's ends the attempts and is the caller's to honour


def run(work: Callable[[], T], policy: RetryPolicy, halt: Halt) -> T:
    """Do `work`, again where it raises ApiUnreachable, as `policy` allows.

    `halt` ends a wait at once; the last failure is raised then, as it is when the attempts are used up.
    """
    begun = time.monotonic()
    try:
        return work()
    except ApiUnreachable as error:
        failure = error
    left = policy.total - (time.monotonic() - begun)
    if left <= 0 or policy.attempts <= 1:
        raise failure
    return _again(work, failure, policy, left, halt)


def _again(work: Callable[[], T], failure: ApiUnreachable, policy: RetryPolicy, left: float, halt: Halt) -> T:
    import stamina  # not before something failed: most runs never need it

    # stamina would log each retry through a structlog of its own finding, on standard output.
    stamina.instrumentation.set_on_retry_hooks(())
    attempt_number = 0

    def wait(error: Exception) -> bool | float:
        """Wait here, where `halt` can end it, and have stamina wait no more."""
        if not isinstance(error, ApiUnreachable):
            return False
        if stamina.is_testing():
            return 0.0
        seconds = _wait(error, attempt_number, policy)
        bound = min(policy.retry_after_max, left - (time.monotonic() - begun))
        if attempt_number >= policy.attempts or seconds > bound or halt.wait(seconds):
            return False
        return 0.0

    begun = time.monotonic()
    for attempt in stamina.retry_context(on=wait, attempts=policy.attempts, timeout=left):
        with attempt:
            attempt_number = attempt.num
            if attempt.num == 1:
                raise failure  # the attempt that was made before stamina was there to count it
            return work()
    raise AssertionError("stamina ends with a result or an exception")


def _wait(error: ApiUnreachable, attempt: int, policy: RetryPolicy) -> float:
    if error.retry_after is not None:
        return error.retry_after
    jitter = random.uniform(0, policy.wait_jitter)  # noqa: S311 - not a secret
    return min(policy.wait_max, policy.wait_initial * 2.0 ** (attempt - 1)) + jitter
