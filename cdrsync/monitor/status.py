"""An account's state: the one shape that `cdrsync status`, its `--json` and the page show. Instants are aware, UTC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cdrsync.model import Verdict

if TYPE_CHECKING:
    from datetime import date, datetime
    from decimal import Decimal

    from cdrsync.audit.figures import Figures
    from cdrsync.model import Checkpoint, LedgerDay, Period
    from cdrsync.sync.position import HistoryRead

HOURS = 24


@dataclass(frozen=True, slots=True)
class OperatorToday:
    """The operator's own totals of today (GetTotals, period `day`), as last fetched. None: not stated readably.

    How its undocumented figures are read is what audits have established; before that, the duration is not known.
    """

    fetched_at: datetime
    calls: int | None
    duration: int | None  # seconds
    charge: Decimal | None  # pounds


@dataclass(frozen=True, slots=True)
class Today:
    """The day that still goes on, on the account's wall clock."""

    day: date
    held: Figures
    operator: OperatorToday | None
    hours: tuple[int, ...]  # calls by hour of the wall clock, HOURS of them
    hours_yesterday: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RejectLine:
    """One record in quarantine, without its content: that holds numbers of callers."""

    number: int  # for `cdrsync rejects show`
    uid: int | None
    problem: str
    seen: int
    first_seen_at: datetime


@dataclass(frozen=True, slots=True)
class AuditLine:
    """The latest comparison of one period."""

    period: Period
    audited_at: datetime
    verdict: Verdict
    note: str | None


@dataclass(frozen=True, slots=True)
class RunLine:
    """One row of `sync_run`."""

    origin: str
    started_at: datetime
    ended_at: datetime | None  # None: running, or killed
    outcome: str | None  # "ok", or the kind of failure
    inserted: int
    updated: int
    rejected: int
    message: str | None = None


@dataclass(frozen=True, slots=True)
class AccountStatus:
    """What the database holds of one account, and what became of the work on it."""

    name: str
    holder: str | None = None  # who took the lease last; whether it still has it only the lock itself can say
    held_since: datetime | None = None
    tails: tuple[Checkpoint, ...] = ()  # one, or one for each number that the account is limited to
    read_at: datetime | None = None  # when the latest look at the operator that left a trace began
    ledger: tuple[LedgerDay, ...] = ()  # oldest first
    rejects_open: int = 0
    rejects: tuple[RejectLine, ...] = ()  # the latest of them, newest first
    changes: int = 0  # values that the operator changed later
    audits: tuple[AuditLine, ...] = ()
    runs: tuple[RunLine, ...] = ()  # the latest, newest first
    today: Today | None = None  # where it was asked for
    history: HistoryRead | None = None  # how much of the wanted history is read; None: never synced

    @property
    def calls(self) -> int:
        """Calls held, by the ledger."""
        return sum(day.calls for day in self.ledger)

    @property
    def gaps(self) -> list[date]:
        """Days on which the operator counts other calls."""
        return [day.day for day in self.ledger if day.verdict is Verdict.GAP]

    def lag(self, now: datetime) -> float | None:
        """Seconds since `read_at`."""
        return None if self.read_at is None else max(0.0, (now - self.read_at).total_seconds())
