"""The table of runs: one line for each piece of work that somebody may ask about later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import insert, update

from cdrsync.store.schema.tables import sync_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from cdrsync.store.session import WriterSession
    from cdrsync.sync.runs import Tally

COUNTS = ("inserted", "updated", "unchanged", "rejected")


class Runs:
    """The port `RunLog`: lines of `sync_run` for one account."""

    _session: WriterSession
    _clock: Callable[[], datetime]

    def begin_run(self, origin: str) -> int:
        values = {
            "account_id": self._session.account_id,
            "origin": origin,
            "started_at": self._clock(),
            **dict.fromkeys(COUNTS, 0),
        }
        with self._session.transaction() as connection:
            key = connection.execute(insert(sync_run).values(values)).inserted_primary_key
            return int(key[0]) if key else 0

    def end_run(self, run: int, done: Tally, message: str | None = None) -> None:
        ended = (
            update(sync_run)
            .where(sync_run.c.id == run, sync_run.c.account_id == self._session.account_id)
            .values(
                ended_at=self._clock(),
                outcome=done.outcome,
                message=message,
                **{name: getattr(done, name) for name in COUNTS},
            )
        )
        with self._session.transaction() as connection:
            connection.execute(ended)
