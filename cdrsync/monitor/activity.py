"""What the daemon is doing, as it tells the status page, the metrics and the service manager.

Workers `publish` what changed; readers take a `snapshot`, which never touches the database and never waits for it.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from cdrsync.model import utc_now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime, tzinfo

    from cdrsync.model import PageSaved


class Phase(StrEnum):
    """What an account's worker is at."""

    STARTING = "starting"
    STANDING_BY = "standing by"  # another instance holds the lease
    POLLING = "polling"
    LOOKING_BACK = "looking back"
    BACKFILLING = "backfilling"
    SWEEPING = "sweeping"
    AUDITING = "auditing"
    IDLE = "idle"  # all done, waiting for the next poll
    FAILING = "failing"  # will try again by itself
    PARKED = "parked"  # a person must act (login refused, schema, uids fell)
    STOPPED = "stopped"


PHASES = {
    "poll": Phase.POLLING,
    "look-back": Phase.LOOKING_BACK,
    "backfill": Phase.BACKFILLING,
    "sweep": Phase.SWEEPING,
    "audit": Phase.AUDITING,
}
"""By the task that a worker is at."""


@dataclass(frozen=True, slots=True)
class AccountState:
    """One account, as of now. Instants are aware, UTC; counts are since the daemon's start."""

    name: str
    phase: Phase = Phase.STARTING
    lease_held: bool = False
    holder: str = ""  # the other replica that works on it, as its process and host
    last_success: datetime | None = None  # end of the last poll that read the tail to its end
    read_until: datetime | None = None  # when that poll began: everything the operator showed by then is held
    last_error: str | None = None  # one line, without secrets; None once all that failed has succeeded
    last_error_kind: str | None = None  # class of that error: ApiUnreachable, LoginRefused, …
    failing_since: datetime | None = None  # when the first error came that no success has followed
    high_water_uid: int | None = None
    newest_call: datetime | None = None  # start of the youngest call saved
    inserted: int = 0
    updated: int = 0
    rejected: int = 0
    next_runs: Mapping[str, datetime] = field(default_factory=dict)  # poll, look-back, … → when
    timezone: tzinfo = UTC  # the wall clock of its calls
    stale_after: float = 300.0  # seconds since the last success after which something is wrong

    def lag(self, now: datetime) -> float | None:
        """Seconds by which the table may be behind the operator; None before the first complete poll."""
        return None if self.read_until is None else max(0.0, (now - self.read_until).total_seconds())


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Every account at one moment."""

    started_at: datetime
    taken_at: datetime
    accounts: tuple[AccountState, ...]
    stopping: bool = False
    stuck: str | None = None  # one line where a worker has made no step for longer than any step may take
    cut_off: float | None = None  # seconds since the database heard of us, where others may have our accounts
    reload_refused: str | None = None  # what is wrong with the configuration that was refused last
    reload_refused_at: datetime | None = None


INSTANTS = frozenset({"last_success", "read_until", "failing_since"})  # fields of the past, whose age matters


class Activity:
    """The one place where workers say what they do. Safe from any thread.

    Past instants are kept by the monotonic clock and told by the wall clock as it is at a snapshot: a step of the
    host's clock changes no age.
    """

    def __init__(
        self, clock: Callable[[], datetime] = utc_now, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self.cut_off: Callable[[], float | None] = lambda: None
        self.stuck: Callable[[], str | None] = lambda: None
        """As in Snapshot. Whoever knows sets these."""
        self._lock = threading.Lock()
        self._started = monotonic()
        self._stopping = False
        self._reload_refused: tuple[str, float] | None = None
        self._states: dict[str, AccountState] = {}
        self._instants: dict[str, dict[str, float]] = {}  # account → field → seconds of the monotonic clock

    def reset(self, accounts: Iterable[AccountState]) -> None:
        """Show these accounts, in this order; what is known of those that stay is kept."""
        with self._lock:
            self._states = {
                new.name: replace(self._states.get(new.name, new), timezone=new.timezone, stale_after=new.stale_after)
                for new in accounts
            }
            self._instants = {name: self._instants.get(name, {}) for name in self._states}

    def publish(self, name: str, **changes: Any) -> None:
        """Change fields of an account's state. An account that was reconfigured away is ignored."""
        with self._lock:
            if name not in self._states:
                return
            if self._states[name].last_error is not None and changes.get("failing_since"):
                del changes["failing_since"]  # it went on
            for key in INSTANTS & changes.keys():
                if changes[key] is not None:
                    self._instants[name][key] = self._monotonic() - (self._clock() - changes[key]).total_seconds()
            self._states[name] = replace(self._states[name], **changes)

    def saved(self, name: str, page: PageSaved) -> None:
        """Add a commit to an account's counts. An older call, as history brings them, is not its youngest."""
        with self._lock:
            state = self._states.get(name)
            if state is not None:
                self._states[name] = replace(
                    state,
                    high_water_uid=state.high_water_uid if page.high_water_uid is None else page.high_water_uid,
                    newest_call=max(filter(None, (state.newest_call, page.newest_started_at)), default=None),
                    inserted=state.inserted + page.inserted,
                    updated=state.updated + page.updated,
                    rejected=state.rejected + page.rejected,
                )

    def reload_refused(self, problem: str | None) -> None:
        """Say that a changed configuration was refused, or with None that the last one was taken."""
        with self._lock:
            self._reload_refused = None if problem is None else (problem, self._monotonic())

    def stop(self) -> None:
        """Say that the daemon is on its way out."""
        with self._lock:
            self._stopping = True

    def snapshot(self) -> Snapshot:
        """Every account's state at this moment. A replica that is cut off holds no lease for all that anybody knows."""
        cut_off, stuck = self.cut_off(), self.stuck()
        with self._lock:
            now, wall = self._monotonic(), self._clock()
            accounts = tuple(self._told(state, now, wall) for state in self._states.values())
            if cut_off is not None:
                accounts = tuple(replace(state, lease_held=False) for state in accounts)
            started_at = wall - timedelta(seconds=now - self._started)
            refused, at = self._reload_refused or (None, now)
            refused_at = None if refused is None else wall - timedelta(seconds=now - at)
            return Snapshot(started_at, wall, accounts, self._stopping, stuck, cut_off, refused, refused_at)

    def _told(self, state: AccountState, now: float, wall: datetime) -> AccountState:
        instants = self._instants[state.name]
        changes: Any = {
            key: wall - timedelta(seconds=now - at) for key, at in instants.items() if getattr(state, key) is not None
        }
        return replace(state, **changes) if changes else state
