"""The sandbox's world with hostile records in it, and a script of what goes wrong."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cdrsync import sandbox
from cdrsync.sandbox.calls import uid_at
from tests.support.operator.faults import Faults
from tests.support.operator.hostile import season

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdrsync.sandbox.world import Account


@dataclass(frozen=True, slots=True)
class Settings(sandbox.Settings):
    """With every kind of trouble."""

    hostile_share: float = 0.0
    unknown_elements_share: float = 0.0
    untypeable_share: float = 0.0
    gzip: bool = False  # compress for clients that accept it (costs more than the loopback saves)
    latency: float = 0.0  # before every answer
    retry_after: int = 1  # of 429 and 503
    drip_pause: float = 0.5  # between the pieces of a slow answer
    drip_bytes: int = 64  # in each of them
    huge_bytes: int = 200_000_000  # decoded size of a huge answer
    faults_in_a_row: int | None = None  # then one good answer; None: no such mercy


class World(sandbox.World):
    """`sleep` is what latency and slow answers wait with."""

    settings: Settings

    def __init__(
        self, settings: Settings | None = None, *, sleep: Callable[[float], None] = time.sleep, **options: Any
    ) -> None:
        super().__init__(settings or Settings(), **options)
        self.sleep = sleep
        self.faults = Faults(self.seed)
        self.last_pages: dict[str, list[int]] = {}  # uids of each login's last page that was not empty

    def counters(self) -> dict[str, Any]:
        """Those of the faults with them."""
        with self.lock:
            return {
                **super().counters(),
                "faults": {fault.value: fired for fault, fired in self.faults.fired.items()},
                "faults_pending": self.faults.pending,
            }

    def take_in(self, account: Account, call: sandbox.Call, visible_at: float, now: float) -> None:
        super().take_in(account, season(call, self.settings, self.rng), visible_at, now)

    def vanish(self, uid: int) -> sandbox.Call:
        """A call disappears for good. Raises KeyError where there is none."""
        with self.lock:
            self.settle()
            account = self._owner(uid)
            if account is None:
                raise KeyError(uid)
            self.counts["vanished"] += 1
            return account.records.remove(uid)

    def restart_sequence(self, at: int) -> None:
        """The next uid handed out is the first free one from `at` on, whatever came before."""
        with self.lock:
            now = self.settle()
            self._last_uid = at - 1
            self._uid_shift = at - uid_at(now)

    def expire_sessions(self) -> None:
        """Every session is refused from now on."""
        with self.lock:
            self.sessions._open.clear()
