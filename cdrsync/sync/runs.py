"""What a piece of work did, added up page by page, and its line in the table of runs."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from cdrsync.errors import CdrsyncError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from cdrsync.model import PageSaved


@dataclass(slots=True)
class Tally:
    """Pages and records saved by one piece of work."""

    pages: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0
    high_water_uid: int | None = None
    newest_call: datetime | None = None  # UTC
    outcome: str = "ok"  # or that it was stopped before its end
    from_nothing: bool = False  # no call was held when it began: what came twice is no unchanged call
    begun: float = field(default_factory=time.monotonic)

    def add(self, saved: PageSaved) -> None:
        self.pages += 1
        self.inserted += saved.inserted
        self.updated += saved.updated
        self.unchanged += 0 if self.from_nothing else saved.unchanged
        self.rejected += saved.rejected
        if saved.high_water_uid is not None:
            self.high_water_uid = max(saved.high_water_uid, self.high_water_uid or 0)
        if saved.newest_started_at is not None:
            self.newest_call = max(saved.newest_started_at, self.newest_call or saved.newest_started_at)

    @property
    def records(self) -> int:
        """Records read, whatever became of them."""
        return self.inserted + self.updated + self.unchanged + self.rejected

    @property
    def changed(self) -> bool:
        """Whether anything in the tables is different now."""
        return bool(self.inserted or self.updated or self.rejected)

    def seconds(self) -> float:
        """Time since the work began."""
        return time.monotonic() - self.begun


class RunLog(Protocol):
    """The table of runs. Raises DatabaseUnavailable, LeaseLost."""

    def begin_run(self, origin: str) -> int:
        """Write that work has begun; answer the run's number. A run that is killed stays without an end."""

    def end_run(self, run: int, done: Tally, message: str | None = None) -> None:
        """Write how it ended, and what it did."""


class Run(Tally):
    """A tally that has a line in the table of runs from its first record on: idle work leaves none."""

    def __init__(self, log: RunLog, origin: str) -> None:
        super().__init__()
        self._log = log
        self._origin = origin
        self._number: int | None = None

    def add(self, saved: PageSaved) -> None:
        super().add(saved)
        if self._number is None and saved.records:
            self._number = self._log.begin_run(self._origin)

    def end(self, *, message: str | None = None, always: bool = False) -> None:
        """Write how it ended, where there is a line, or `always`."""
        if self._number is None and always:
            self._number = self._log.begin_run(self._origin)
        if self._number is not None:
            self._log.end_run(self._number, self, message)


@contextlib.contextmanager
def recorded(log: RunLog, origin: str, *, failures: bool = False) -> Iterator[Run]:
    """A run with its line in the table, ended with the block: `ok`, or the failure's class and message.

    `failures`: one that failed before its first record has a line, too.
    """
    run = Run(log, origin)
    try:
        yield run
    except CdrsyncError as error:
        with contextlib.suppress(CdrsyncError):  # the failure may be the database's; the line then stays without an end
            run.outcome = type(error).__name__
            run.end(message=error.message, always=failures)
        raise
    run.end()
