"""The seam: what the web server is given to show, and the port through which it asks. Instants are aware, UTC."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from cdrsync.errors import CdrsyncError, DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from cdrsync.monitor.activity import Snapshot
    from cdrsync.monitor.status import AccountStatus, Summary


class StatusSource(Protocol):
    """Where the web server gets what it shows. Every method is called from several threads."""

    def now(self) -> Snapshot:
        """What the daemon is doing. Never touches the database, never waits."""

    def check_database(self) -> None:
        """One round trip. Raises DatabaseUnavailable, or SchemaMismatch where the schema is not this program's."""

    def overview(self) -> Mapping[str, Summary]:
        """What the database holds of every account, in figures. Raises DatabaseUnavailable, SchemaMismatch."""

    def status(self, account: str) -> AccountStatus:
        """All that the database holds of one account. Raises DatabaseUnavailable, SchemaMismatch."""


KEPT_SECONDS = 5.0

PATIENCE_SECONDS = 3.0  # how long a second thread waits for the one that is asking; probes time out soon after

_CHECK, _OVERVIEW = "", "*"  # no account has such a name

KEPT_ANSWERS = 50  # at once


class Recent:
    """A `StatusSource`'s answers from the database, at most `kept` seconds old."""

    def __init__(
        self, source: StatusSource, clock: Callable[[], float] = time.monotonic, *, kept: float = KEPT_SECONDS
    ) -> None:
        self._kept = kept
        self._source = source
        self._clock = clock
        self._asking = threading.Lock()
        self._answers: dict[str, tuple[float, Any, float]] = {}  # when, what, and for how long it is kept
        self.down_since: datetime | None = None  # when the database failed first; None: it answered last time

    def problem(self) -> CdrsyncError | None:
        """What is wrong with the database or its schema, None where nothing is."""
        answer = self._ask(_CHECK, self._source.check_database)
        return answer if isinstance(answer, CdrsyncError) else None

    def overview(self) -> Mapping[str, Summary] | CdrsyncError:
        """What the database holds of every account, or why that can't be told."""
        answer: Mapping[str, Summary] | CdrsyncError = self._ask(_OVERVIEW, self._source.overview)
        return answer

    def status(self, account: str) -> AccountStatus | CdrsyncError:
        """What the database holds of an account, or why that can't be told."""
        answer: AccountStatus | CdrsyncError = self._ask(account, lambda: self._source.status(account))
        return answer

    def _ask(self, key: str, question: Callable[[], Any]) -> Any:
        at, answer, kept = self._answers.get(key, (0.0, None, -1.0))
        if self._clock() - at <= kept:
            return answer
        # Whoever has an answer, even an old one, does not wait for the one that is asking anew.
        if not self._asking.acquire(timeout=PATIENCE_SECONDS if kept < 0 else 0):
            return DatabaseUnavailable("the database has not answered for several seconds") if kept < 0 else answer
        try:
            at, answer, kept = self._answers.get(key, (0.0, None, -1.0))
            if self._clock() - at > kept:
                began = self._clock()
                answer = self._answer(question)
                while len(self._answers) >= KEPT_ANSWERS:
                    del self._answers[next(iter(self._answers))]
                # What took long is kept longer: it is never asked for more than a tenth of the time. A failure is not.
                took = 0.0 if isinstance(answer, CdrsyncError) else self._clock() - began
                self._answers[key] = (self._clock(), answer, max(self._kept, 10 * took))
            return answer
        finally:
            self._asking.release()

    def _answer(self, question: Callable[[], Any]) -> Any:
        try:
            answer = question()
        except CdrsyncError as error:
            self.down_since = self.down_since or self._source.now().taken_at
            return error
        self.down_since = None
        return answer
