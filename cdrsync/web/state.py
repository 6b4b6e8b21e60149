"""The seam: what the web server is given to show, and the port through which it asks. Instants are aware, UTC."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

    from cdrsync.board import AccountState
    from cdrsync.status import Records


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


class StatusSource(Protocol):
    """Where the web server gets what it shows. Every method is called from several threads."""

    def now(self) -> Now:
        """What the daemon is doing. Never touches the database, never waits."""

    def check_database(self) -> None:
        """One round trip. Raises DatabaseUnavailable, or SchemaMismatch where the schema is not this program's."""

    def records(self, account: str) -> Records:
        """What the database holds. Raises DatabaseUnavailable, SchemaMismatch."""
