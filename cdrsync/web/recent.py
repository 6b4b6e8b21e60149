"""Answers of the database, kept for some seconds and asked for by one thread at a time.

However many ask, and however long the database hangs, one web thread waits in it at most: the others, and with them
/livez, go on.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from cdrsync.errors import CdrsyncError, DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdrsync.status import Records
    from cdrsync.web.state import StatusSource

KEPT_SECONDS = 5.0
PATIENCE_SECONDS = 3.0  # how long a second thread waits for the one that is asking; probes time out soon after

_CHECK = ""  # no account has an empty name


class Recent:
    """A `StatusSource`'s answers from the database, at most KEPT_SECONDS old."""

    def __init__(self, source: StatusSource, clock: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._clock = clock
        self._asking = threading.Lock()
        self._answers: dict[str, tuple[float, Records | CdrsyncError | None]] = {}

    def problem(self) -> CdrsyncError | None:
        """What is wrong with the database or its schema, None where nothing is."""
        answer = self._ask(_CHECK)
        return answer if isinstance(answer, CdrsyncError) else None

    def records(self, account: str) -> Records | CdrsyncError:
        """What the database holds of an account, or why that can't be told."""
        answer = self._ask(account)
        return DatabaseUnavailable("the database gave no answer") if answer is None else answer

    def _ask(self, key: str) -> Records | CdrsyncError | None:
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

    def _answer(self, key: str) -> Records | CdrsyncError | None:
        try:
            if key != _CHECK:
                return self._source.records(key)
            self._source.check_database()
        except CdrsyncError as error:
            return error
        return None
