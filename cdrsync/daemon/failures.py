"""Polls leave no line in the table of runs, which they would drown; but one that fails does, for `cdrsync status`."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from cdrsync.errors import CdrsyncError
from cdrsync.sync.runs import Run, Tally

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cdrsync.sync.runs import RunLog

AGAIN_SECONDS = 3600.0  # after which the same failure gets another line


class Failures:
    """The failed polls of one account: a line for each kind of failure an hour, and one for the success after it."""

    def __init__(self, log: RunLog, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._told: dict[str, float] = {}  # kind of failure → when it got its line

    @contextlib.contextmanager
    def tally(self, origin: str) -> Iterator[Tally]:
        """A tally of a piece of work whose failure, or first success after failures, gets a line."""
        tally = Tally()
        try:
            yield tally
        except CdrsyncError as error:
            kind, now = type(error).__name__, self._clock()
            if now - self._told.get(kind, -AGAIN_SECONDS) >= AGAIN_SECONDS:
                self._told[kind] = now
                self._write(origin, kind, error.message)
            raise
        if self._told:
            self._told.clear()
            self._write(origin, tally.outcome, None)

    def _write(self, origin: str, outcome: str, message: str | None) -> None:
        run = Run(self._log, origin)
        run.outcome = outcome
        with contextlib.suppress(CdrsyncError):  # the failure may be the database's
            run.end(message=message, always=True)
