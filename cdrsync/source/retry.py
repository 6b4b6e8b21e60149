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

    from cdrsync.source.stop import StopEvent

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


def run(work: Callable[[], T], policy: RetryPolicy, stop: StopEvent) -> T:
    """Do `work`, again where it raises ApiUnreachable, as `policy` allows.

    `stop` ends a wait at once; the last failure is raised then, as it is when the attempts are used up.
    """
    end = time.monotonic() + policy.total
    attempt = 0
    while True:
        try:
            return work()
        except ApiUnreachable as error:
            attempt += 1
            seconds = _wait(error, attempt, policy)
            bound = min(policy.retry_after_max, end - time.monotonic())
            if attempt >= policy.attempts or seconds > bound or stop.wait(seconds):
                raise


def _wait(error: ApiUnreachable, attempt: int, policy: RetryPolicy) -> float:
    if error.retry_after is not None:
        return error.retry_after
    jitter = random.uniform(0, policy.wait_jitter)  # noqa: S311 - not a secret
    return min(policy.wait_max, policy.wait_initial * 2.0 ** (attempt - 1)) + jitter
