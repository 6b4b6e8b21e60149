"""An account in memory: operator, database and clock, and the real core between them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from itertools import chain
from typing import TYPE_CHECKING

from cdrsync.sync.ports import SyncSettings
from cdrsync.sync.steps import Sync
from tests.support.clock import LONDON, Clock
from tests.support.listing import Listing
from tests.support.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterable


class MemoryAccount:
    """An account: operator, database and clock, and the real core between them.

    Pages are read and saved one by one, so that a test can stop between any two.
    """

    def __init__(
        self, records: Iterable[object] = (), *, clock: str = "2026-05-10 12:00:00", **settings: object
    ) -> None:
        self.clock = Clock(clock)
        self.source = Listing([*records], now=self.clock)  # type: ignore[list-item] # Cdr and Reject
        self.store = MemoryStore(self.clock)
        plain = {"timezone": LONDON, "start": date(2026, 5, 1), "page_size": 1000, "workers": 1}
        self.settings = SyncSettings(**{**plain, **settings})  # type: ignore[arg-type]
        self.configure()

    def configure(self, **settings: object) -> None:
        """Another configuration, on the same database."""
        self.settings = replace(self.settings, **settings)  # type: ignore[arg-type]
        self.sync = Sync(self.source, self.store, self.settings, clock=self.clock, read_ahead=chain.from_iterable)

    def held(self) -> list[int]:
        return sorted(self.store.rows)

    def mark(self, stream: str = "tail") -> int | None:
        checkpoint = self.store.checkpoint(stream)
        return None if checkpoint is None else checkpoint.high_water_uid


def run(steps: Iterable[object]) -> int:
    return sum(1 for _ in steps)
