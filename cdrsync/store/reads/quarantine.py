"""The quarantine: records that could not be typed or held, to be looked at and tried again."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import select, update

from cdrsync.errors import BadAnswer
from cdrsync.model import Cdr, Origin, Page, utc_now
from cdrsync.store.databases.errors import translated
from cdrsync.store.reads.ledger import still_open
from cdrsync.store.schema.tables import account, reject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from sqlalchemy import Select
    from sqlalchemy.engine import Engine

    from cdrsync.model import PageSaved, Reject


class Kept(NamedTuple):
    """One record in quarantine. Instants are aware, UTC."""

    number: int  # for `cdrsync rejects show`
    account: str
    uid: int | None  # where it could be read
    problem: str
    seen: int
    first_seen_at: datetime
    last_seen_at: datetime
    resolved_at: datetime | None
    dismissed_at: datetime | None
    dismissed_note: str | None
    raw: str  # as sent, XML


class Quarantine:
    """The rejects of all accounts of a database. Every method raises DatabaseUnavailable."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def records(self, names: Iterable[str] = (), *, resolved: bool = False) -> list[Kept]:
        """Open rejects of these accounts (none named: of all), oldest first; `resolved`: those of the past, too."""
        query = _query().order_by(reject.c.id)
        wanted = list(names)
        if wanted:
            query = query.where(account.c.name.in_(wanted))
        if not resolved:
            query = query.where(still_open())
        with translated(), self._engine.connect() as connection:
            return [Kept._make(row) for row in connection.execute(query)]

    def record(self, number: int) -> Kept | None:
        """One reject, open or not; None where there is none of that number."""
        with translated(), self._engine.connect() as connection:
            row = connection.execute(_query().where(reject.c.id == number)).one_or_none()
        return None if row is None else Kept._make(row)

    def dismiss(self, number: int, note: str, at: datetime) -> bool:
        """Nothing more is to be done about a reject: a person's word. False where none of that number is open."""
        where = (reject.c.id == number, reject.c.resolved_at.is_(None))
        with translated(), self._engine.begin() as connection:
            changed = update(reject).where(*where).values(dismissed_at=at, dismissed_note=note)
            return bool(connection.execute(changed).rowcount)

    def resolve(self, numbers: Iterable[int], at: datetime) -> None:
        """Close rejects whose record is stored now: `save` knows only those whose uid could be read before."""
        with translated(), self._engine.begin() as connection:
            for number in numbers:
                where = (reject.c.id == number, reject.c.resolved_at.is_(None))
                connection.execute(update(reject).where(*where).values(resolved_at=at))

    def retry(
        self, name: str, decode: Callable[[str], Cdr | Reject], save: Callable[[Page], PageSaved]
    ) -> tuple[int, int]:
        """Read an account's rejects again and store what now fits; answer how many were stored and how many are left.

        A call that the database still can't hold is left.
        """
        fitting: dict[int, Cdr] = {}
        kept = self.records([name])
        for one in kept:
            with contextlib.suppress(BadAnswer):
                record = decode(one.raw)
                if isinstance(record, Cdr):
                    fitting[one.number] = record
        stored: list[int] = []
        if fitting:
            unholdable = save(Page(Origin.REJECTS, list(fitting.values()))).unholdable
            stored = [number for number, record in fitting.items() if record.uid not in unholdable]
            self.resolve(stored, utc_now())
        return len(stored), len(kept) - len(stored)


def _query() -> Select[tuple[object, ...]]:
    others = [reject.c[name] for name in Kept._fields[2:]]
    return select(reject.c.id, account.c.name, *others).join(account, account.c.id == reject.c.account_id)
