"""How long a run that is to end by itself goes on after failures: while it makes progress, and a while longer."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cdrsync.errors import ApiUnreachable, CdrsyncError, Retry

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

    from cdrsync.model import Origin, PageSaved

FIRST_PAUSE = 1.0  # seconds after the first failure, doubled after each until there is progress
LONGEST_PAUSE = 30.0


class Endurance:
    """Says after each failure how long to wait before the work is begun again from the database's position.

    Progress is what a later turn need not do again: a record that is new or changed, a day read to its end for the
    first time, a higher mark. Whoever never reached the operator is given up at once: a wrong address does not pass.
    """

    def __init__(self, give_up_after: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._give_up_after = give_up_after  # seconds
        self._clock = clock
        self._progressed_at: float | None = None
        self._saved_something = False
        self._failures = 0
        self._days: set[tuple[Origin, date]] = set()
        self._high_water = -1

    def reached(self) -> None:
        """The operator gave a good answer."""
        if self._progressed_at is None:
            self._progressed_at = self._clock()

    def saved(self, page: PageSaved) -> None:
        days = {(page.origin, day) for day in page.completed} - self._days
        high_water = -1 if page.high_water_uid is None else page.high_water_uid
        if page.inserted or page.updated or page.rejected or days or high_water > self._high_water:
            self._progressed_at, self._saved_something, self._failures = self._clock(), True, 0
        self._days |= days
        self._high_water = max(self._high_water, high_water)

    def pause(self, error: CdrsyncError) -> float | None:
        """Seconds until the next turn; None: the failure is the caller's."""
        if self._progressed_at is None or not (isinstance(error, Retry) or self._saved_something):
            return None  # a refusal that comes before all else is final
        wish = error.retry_after if isinstance(error, ApiUnreachable) else None
        seconds = max(min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._failures, 10)), wish or 0.0)
        self._failures += 1
        left = self._progressed_at + self._give_up_after - self._clock()
        return seconds if seconds <= left else None
