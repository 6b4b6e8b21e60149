"""The seam: what the web server is given to show, and the port through which it asks. Instants are aware, UTC."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cdrsync.errors import CdrsyncError, DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime, tzinfo

    from cdrsync.monitor.activity import AccountState
    from cdrsync.monitor.status import AccountStatus


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

    def status(self, account: str) -> AccountStatus:
        """What the database holds. Raises DatabaseUnavailable, SchemaMismatch."""


KEPT_SECONDS = 5.0

PATIENCE_SECONDS = 3.0  # how long a second thread waits for the one that is asking; probes time out soon after

_CHECK = ""  # no account has an empty name


class Recent:
    """A `StatusSource`'s answers from the database, at most KEPT_SECONDS old."""

    def __init__(self, source: StatusSource, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._clock = clock
        self._asking = threading.Lock()
        self._answers: dict[str, tuple[float, AccountStatus | CdrsyncError | None]] = {}

    def problem(self) -> CdrsyncError | None:
        """What is wrong with the database or its schema, None where nothing is."""
        answer = self._ask(_CHECK)
        return answer if isinstance(answer, CdrsyncError) else None

    def status(self, account: str) -> AccountStatus | CdrsyncError:
        """What the database holds of an account, or why that can't be told."""
        answer = self._ask(account)
        return DatabaseUnavailable("the database gave no answer") if answer is None else answer

    def _ask(self, key: str) -> AccountStatus | CdrsyncError | None:
        if not self._asking.acquire(timeout=PATIENCE_SECONDS):
            return DatabaseUnavailable("the database has not answered for several seconds")
        try:
            at, answer = self._answers.get(key, (None, None))
            if at is None or self._clock() - at > KEPT_SECONDS:
                answer = self._answer(key)
                self._answers[key] = (self._clock(), answer)
            return answer
        finally:
            self._asking.release()

    def _answer(self, key: str) -> AccountStatus | CdrsyncError | None:
        try:
            if key != _CHECK:
                return self._source.status(key)
            self._source.check_database()
        except CdrsyncError as error:
            return error
        return None
