"""An account's state: the one shape that `cdrsync status`, its `--json` and the page show. Instants are aware, UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date, datetime
    from decimal import Decimal

    from cdrsync.audit.figures import Figures
    from cdrsync.model import Checkpoint, LedgerDay, Period, Verdict
    from cdrsync.sync.position import HistoryRead

HOURS = 24
RECENTLY = timedelta(minutes=5)  # by whose pace the time left for history is told


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
class Failure:
    """The last failure of an account that no success has followed."""

    kind: str  # class of the error: LoginRefused, …
    words: str
    hint: str  # what to do
    since: datetime  # when it failed so for the first time
    at: datetime  # when it failed last


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """An account in some figures: its line of an overview. Of every account at once they cost little."""

    name: str
    calls: int = 0  # held, by the ledger
    first_day: date | None = None  # with a call
    last_day: date | None = None
    gaps: tuple[date, ...] = ()  # days on which the operator counts other calls
    rejects_open: int = 0
    read_at: datetime | None = None  # when the latest look at the operator that left a trace began
    audited_at: datetime | None = None
    unsure: tuple[str, ...] = ()  # periods of which the last audit can't say whether calls are missing
    last_success: datetime | None = None  # end of the last run that did all it should
    failure: Failure | None = None
    history: HistoryRead | None = None  # how much of the wanted history is read; None: never synced
    days_lately: int = 0  # read to their end within RECENTLY
    holder: str | None = None  # process and host that have the lease
    held_since: datetime | None = None

    def left(self, now: datetime) -> float | None:
        """Seconds until the wanted history is read, at the pace of the last minutes; None where that can't be told."""
        if self.history is None or self.history.wanted is None or self.history.complete or not self.days_lately:
            return None
        if self.read_at is None or now - self.read_at > RECENTLY:
            return None
        return (self.history.wanted - self.history.read) * RECENTLY.total_seconds() / self.days_lately

    def lag(self, now: datetime) -> float | None:
        """Seconds since `read_at`."""
        return None if self.read_at is None else max(0.0, (now - self.read_at).total_seconds())


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountStatus(Summary):
    """What the database holds of one account, and what became of the work on it."""

    tails: tuple[Checkpoint, ...] = ()  # one, or one for each number that the account is limited to
    ledger: tuple[LedgerDay, ...] = ()  # oldest first
    rejects: tuple[RejectLine, ...] = ()  # the latest of them, newest first
    changes: int = 0  # values that the operator changed later
    audits: tuple[AuditLine, ...] = ()
    runs: tuple[RunLine, ...] = ()  # the latest, newest first
    today: Today | None = None  # where it was asked for
