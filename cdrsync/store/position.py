"""Where an account stands: the reading half of `SqlStore`, and what an audit reads beside it, without the lease."""

from __future__ import annotations

import contextlib
import functools
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, func, literal, select

from cdrsync.errors import ConfigError, UnknownAccount
from cdrsync.model import MAX_UID, Checkpoint, Window
from cdrsync.store.databases.errors import translated
from cdrsync.store.schema.tables import account, cdr, checkpoint, coverage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date, datetime

    from sqlalchemy.engine import Connection, Engine, Row

    from cdrsync.store.session import WriterSession

LOOK_BACK_STEP = 5_000  # rows looked at in one step when walking back through the newest calls
LONGEST_CALL = timedelta(days=1)

_CHECKPOINT = select(checkpoint).where(
    checkpoint.c.account_id == bindparam("account_id"), checkpoint.c.stream == bindparam("stream")
)  # made once: each poll asks


def account_ids(connection: Connection, names: Sequence[str] = ()) -> list[int]:
    """Our numbers of these accounts, or of all. Raises UnknownAccount."""
    found = {row.name: row.id for row in connection.execute(select(account.c.name, account.c.id))}
    if missing := [name for name in names if name not in found]:
        raise UnknownAccount([f"the database has no account {name!r}" for name in missing])
    return sorted(found[name] for name in names or found)


class ReadSession:
    """The transactions of one account for who only looks on. Each raises DatabaseUnavailable."""

    def __init__(self, engine: Engine, account_name: str) -> None:
        self._engine = engine
        self._account_name = account_name

    @functools.cached_property
    def account_id(self) -> int:
        """Our number of the account. Raises ConfigError while it was never synced."""
        with self.reading() as connection:
            query = select(account.c.id).where(account.c.name == self._account_name)
            found: int | None = connection.scalar(query)
        if found is None:
            raise ConfigError([f"the database has no account {self._account_name!r} yet"], hint="cdrsync sync makes it")
        return found

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        with translated(), self._engine.connect() as connection:
            yield connection


class Positions:
    """The port `ReadStore`: checkpoints, the ledger and the newest uids of one account."""

    _session: WriterSession | ReadSession

    def checkpoint(self, stream: str) -> Checkpoint | None:
        values = {"account_id": self._session.account_id, "stream": stream}
        with self._session.reading() as connection:
            row = connection.execute(_CHECKPOINT, values).one_or_none()
        return None if row is None else as_checkpoint(row)

    def look_back_uid(self, since: datetime, until: datetime) -> int | None:
        # Uids grow with time but for stragglers, so the walk backwards ends where LOOK_BACK_STEP calls have no such one
        # among them: no index on started_at is needed.
        lowest, top = None, MAX_UID
        below = select(func.max(cdr.c.uid)).where(cdr.c.account_id == self._session.account_id)
        with self._session.reading() as connection:
            while (going_on := self._going_on(connection, top, since, until)) is not None:
                lowest, top = going_on, going_on - 1
            if lowest is None:
                return connection.execute(below).scalar()
            return connection.execute(below.where(cdr.c.uid < lowest)).scalar() or lowest - 1

    def uids_around(self, window: Window) -> tuple[int | None, int | None]:
        here = cdr.c.account_id == self._session.account_id
        inside = and_(here, cdr.c.call_date.between(window.first, window.last))
        with self._session.reading() as connection:
            lowest, highest = connection.execute(select(func.min(cdr.c.uid), func.max(cdr.c.uid)).where(inside)).one()
            earlier = cdr.c.call_date < window.first if lowest is None else cdr.c.uid < lowest
            later = cdr.c.call_date > window.last if highest is None else cdr.c.uid > highest
            below = connection.scalar(select(func.max(cdr.c.uid)).where(here, earlier))
            above = connection.scalar(select(func.min(cdr.c.uid)).where(here, later))
        return _in_order(below, above)

    def days_downloaded(self, window: Window, *, since: datetime | None = None) -> set[date]:
        statement = select(coverage.c.call_date).where(
            coverage.c.account_id == self._session.account_id,
            coverage.c.call_date.between(window.first, window.last),
            coverage.c.downloaded_at.is_not(None),
        )
        if since is not None:
            statement = statement.where(coverage.c.downloaded_at >= since)
        with self._session.reading() as connection:
            return set(connection.execute(statement).scalars())

    def holds_calls(self, window: Window) -> bool:
        statement = (
            select(literal(1))
            .where(
                coverage.c.account_id == self._session.account_id,
                coverage.c.call_date.between(window.first, window.last),
                coverage.c.calls > 0,
            )
            .limit(1)
        )
        with self._session.reading() as connection:
            return connection.scalar(statement) is not None

    def _going_on(self, connection: Connection, top: int, since: datetime, until: datetime) -> int | None:
        """Of the next calls from uid `top` downwards: the lowest uid of those that ended from `since` to `until`."""
        step = (
            select(cdr.c.uid, cdr.c.started_at, cdr.c.duration)
            .where(cdr.c.account_id == self._session.account_id, cdr.c.uid <= top)
            .order_by(cdr.c.uid.desc())
            .limit(LOOK_BACK_STEP)
            .subquery()
        )
        # When a call ended, each database says in its own words: the few that may matter are looked at here.
        near = select(step).where(step.c.started_at.between(since - LONGEST_CALL, until))
        return min(
            (
                uid
                for uid, started_at, duration in connection.execute(near)
                if since <= started_at + timedelta(seconds=duration) <= until
            ),
            default=None,
        )


def as_checkpoint(row: Row[Any]) -> Checkpoint:
    window = Window(row.window_first, row.window_last) if row.window_first and row.window_last else None
    return Checkpoint(row.stream, row.high_water_uid, row.high_water_ended_at, window, row.begun_at, done=row.done)


def _in_order(below: int | None, above: int | None) -> tuple[int | None, int | None]:
    """A straggler may have a uid out of the order of days: the wider range is right, too."""
    if below is not None and above is not None and above < below:
        return above, below
    return below, above
