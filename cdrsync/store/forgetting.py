"""An account with all that is held of it, deleted in small pieces, however much that is.

No statement comes near the server's limit for one, and no piece makes others wait for long. The position goes first,
and with each piece of calls their figures leave the ledger: a run that was cut off leaves an account that holds less
and says so. The next run goes on with it, and a sync in its place reads again what went.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, select, update

from cdrsync.model import Verdict
from cdrsync.store.accounts import delete_account
from cdrsync.store.databases import port
from cdrsync.store.databases.choose import kind_of
from cdrsync.store.schema.tables import (
    account,
    call_day,
    cdr,
    cdr_change,
    checkpoint,
    coverage,
    number,
)
from cdrsync.store.summaries import months_of, open_days, open_months
from cdrsync.store.upsert import count_day

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sqlalchemy import Column, ColumnElement, Table
    from sqlalchemy.engine import Connection

    from cdrsync.store.session import WriterSession

PIECE = 2_000  # rows of one transaction
LOOKED_AT = 20_000  # rows that one statement looks at
SHARE = 6  # of the limit of a statement that a piece may take, before the next ones are half as large


class Forgetting:
    """The deleting of one account, under its lease. Raises DatabaseUnavailable, LeaseLost."""

    def __init__(self, session: WriterSession, tell: Callable[[int], object]) -> None:
        self._session = session
        self._tell = tell  # is given how many calls have gone with each piece
        self._piece = PIECE

    def run(self) -> int:
        """Delete everything; answer how many calls that were."""
        with self._session.transaction() as connection:
            mine = coverage.c.account_id == self._session.account_id
            connection.execute(delete(checkpoint).where(checkpoint.c.account_id == self._session.account_id))
            connection.execute(update(coverage).where(mine).values(downloaded_at=None))
        calls = 0
        for gone in self._pieces(cdr, cdr.c.uid):
            calls += gone
            self._tell(gone)
        # What has as many rows as calls goes by a column that an index has; the others are small.
        for table, column in ((cdr_change, cdr_change.c.uid), (call_day, call_day.c.call_date)):
            for _ in self._pieces(table, column):
                pass
        self._unused_numbers()
        with self._session.transaction() as connection:
            delete_account(connection, self._session.account_id)
        return calls

    def _pieces(self, table: Table, column: Column[Any]) -> Iterator[int]:
        """Delete the account's rows of a table in the order of a column; yields the rows of each transaction."""
        mine = table.c.account_id == self._session.account_id
        while True:
            begun = time.monotonic()
            with self._session.transaction() as connection:
                some = select(column).where(mine).order_by(column).limit(self._piece).subquery()
                last = connection.scalar(select(func.max(some.c[0])))
                if last is None:
                    return
                these = (mine, column <= last)
                if table is cdr:
                    self._uncount(connection, these)
                gone = connection.execute(delete(table).where(*these)).rowcount
            yield gone
            if time.monotonic() - begun > port.STATEMENT_SECONDS / SHARE:
                self._piece = max(1, self._piece // 2)

    def _uncount(self, connection: Connection, these: Iterable[ColumnElement[bool]]) -> None:
        """Take the figures of calls that go out of the ledger."""
        sums = (func.count(), func.sum(cdr.c.duration), func.sum(cdr.c.user_cost))
        days = connection.execute(select(cdr.c.call_date, *sums).where(*these).group_by(cdr.c.call_date)).all()
        gone = [
            {
                "account_id": self._session.account_id,
                "call_date": day,
                "calls": -calls,
                "duration": -int(duration),
                "charge": -charge,
                "verdict": Verdict.UNAUDITED.value,
            }
            for day, calls, duration, charge in days
        ]
        dates = [day for day, *_ in days]
        open_months(connection, self._session.account_id, months_of(dates))
        connection.execute(count_day(kind_of(self._session.dialect)), gone)
        open_days(connection, self._session.account_id, dates)

    # ── numbers that no call has any more ──────────────────────────────────────────────────────────────────────────

    def _unused_numbers(self) -> None:
        dialled = self._dialled()
        last = ""
        while True:
            with self._session.reading() as connection:
                query = (
                    select(number.c.number).where(number.c.number > last).order_by(number.c.number).limit(port.AT_ONCE)
                )
                some = list(connection.execute(query).scalars())
                unused = set(some) - dialled
                for column in (cdr.c.anumber, cdr.c.bnumber):
                    used = select(column).where(column.in_(unused)).distinct()
                    unused -= set(connection.execute(used).scalars()) if unused else set()
            if not some:
                return
            last = some[-1]
            if unused:
                with self._session.transaction() as connection:
                    connection.execute(delete(number).where(number.c.number.in_(sorted(unused))))
                    # writers forget which numbers are in the table
                    connection.execute(update(account).values(erasures=account.c.erasures + 1))

    def _dialled(self) -> set[str | None]:
        """Every destination of the other accounts' calls. Few are different, and no index is there for them."""
        found: set[str | None] = {""}
        with self._session.reading() as connection:
            others = list(connection.execute(select(account.c.id)).scalars())
        for one in others:
            last: int | None = -1
            while last is not None:
                of_account = select(cdr.c.uid, cdr.c.dialled).where(cdr.c.account_id == one, cdr.c.uid > last)
                some = of_account.order_by(cdr.c.uid).limit(LOOKED_AT).subquery()
                with self._session.reading() as connection:
                    last = connection.scalar(select(func.max(some.c.uid)))
                    found.update(connection.execute(select(some.c.dialled).distinct()).scalars())
        return found
