"""What a piece of work did, added up page by page, and its line in the table of runs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    begun: float = field(default_factory=time.monotonic)

    def add(self, saved: PageSaved) -> None:
        """Add one commit."""
        self.pages += 1
        self.inserted += saved.inserted
        self.updated += saved.updated
        self.unchanged += saved.unchanged
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
