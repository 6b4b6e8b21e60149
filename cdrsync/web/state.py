"""The seam: what the web server is given to show, and the port through which it asks. Instants are aware, UTC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datetime import date, datetime, tzinfo
    from decimal import Decimal

    from cdrsync.board import AccountState
    from cdrsync.model import Verdict

HOURS = 24


@dataclass(frozen=True, slots=True)
class AccountNow:
    """One account as its worker sees it."""

    state: AccountState
    timezone: tzinfo  # the wall clock of its calls
    stale_after: float  # seconds since the last success after which something is wrong


@dataclass(frozen=True, slots=True)
class Now:
    """The daemon at this moment, from memory alone."""

    started_at: datetime
    taken_at: datetime
    accounts: tuple[AccountNow, ...]
    stopping: bool = False
    stuck: str | None = None  # one line where a worker has made no step for longer than any step may take


@dataclass(frozen=True, slots=True)
class Figures:
    """What calls add up to."""

    calls: int
    duration: int  # seconds
    charge: Decimal  # pounds


@dataclass(frozen=True, slots=True)
class OperatorToday:
    """The operator's own totals of today (GetTotals, period `day`), as last fetched. None: not stated readably."""

    fetched_at: datetime
    answered: int | None
    missed: int | None
    voicemail: int | None
    duration: int | None  # seconds, where an audit could tell the unit
    charge: Decimal | None  # pounds


@dataclass(frozen=True, slots=True)
class LedgerDay:
    """One day of the ledger (table `coverage`)."""

    day: date
    calls: int
    verdict: Verdict
    downloaded: bool  # read to its end at least once
    operator_calls: int | None = None
    note: str | None = None  # the audit's finding in words


@dataclass(frozen=True, slots=True)
class RejectLine:
    """One record in quarantine, without its content: that holds numbers of callers."""

    number: int  # for `cdrsync rejects show`
    uid: int | None
    problem: str
    seen: int
    first_seen_at: datetime


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
class Records:
    """What the database holds of one account."""

    today: date  # on the account's wall clock
    held_today: Figures
    operator_today: OperatorToday | None
    hours_today: tuple[int, ...]  # calls by wall-clock hour, HOURS of them
    hours_yesterday: tuple[int, ...]
    ledger: tuple[LedgerDay, ...]  # oldest first
    rejects_open: int
    rejects: tuple[RejectLine, ...]  # the latest of them, newest first
    runs: tuple[RunLine, ...]  # the latest, newest first


class StatusSource(Protocol):
    """Where the web server gets what it shows. Every method is called from several threads."""

    def now(self) -> Now:
        """What the daemon is doing. Never touches the database, never waits."""

    def check_database(self) -> None:
        """One round trip. Raises DatabaseUnavailable, or SchemaMismatch where the schema is not this program's."""

    def records(self, account: str) -> Records:
        """What the database holds. Raises DatabaseUnavailable, SchemaMismatch."""
