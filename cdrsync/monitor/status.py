"""What is told of an account beside its calls: read by the store, shown by the page. Instants are aware, UTC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import date, datetime
    from decimal import Decimal

    from cdrsync.audit.figures import Figures
    from cdrsync.model import Verdict

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
class DayLine:
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
    ledger: tuple[DayLine, ...]  # oldest first
    rejects_open: int
    rejects: tuple[RejectLine, ...]  # the latest of them, newest first
    runs: tuple[RunLine, ...]  # the latest, newest first
