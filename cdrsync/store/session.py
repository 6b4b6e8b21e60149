"""The transactions of one account, under its lease (`lease`), on any connection of the replica's pool."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, bindparam, select, update

from cdrsync.errors import LeaseHeld, LeaseLost
from cdrsync.store.databases.errors import translated
from cdrsync.store.schema.tables import lease

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection, RootTransaction

    from cdrsync.store.lease import Lease
    from cdrsync.store.replica import Replica

_OURS = (lease.c.account_id == bindparam("of_account"), lease.c.token == bindparam("our_token"))
_KNOWN = bindparam("as_known", type_=BigInteger)
_COUNT = update(lease).where(*_OURS, lease.c.commits == _KNOWN).values(commits=_KNOWN + 1)  # made once: each page asks
_COUNTED = select(lease.c.commits).where(*_OURS)

GONE_BACK_HINT = "It is read again from where the database is now; nothing of the page in hand was stored"


class WriterSession:
    """One account of a replica. Safe to use from several threads: one writing transaction at a time."""

    def __init__(self, replica: Replica, account_name: str) -> None:
        self._replica = replica
        self._account_name = account_name
        self.account_id = 0

    @property
    def dialect(self) -> str:
        """SQLAlchemy's name of the database's dialect."""
        return self._replica.engine.dialect.name

    def open(self) -> None:
        """Take the lease, unless the replica has it already. After an error it is taken anew.

        Raises LeaseHeld (naming the holder), SchemaMismatch, DatabaseUnavailable.
        """
        holder = self._replica.take([self._account_name]).get(self._account_name)
        if holder is not None:
            raise LeaseHeld(f"the lease of account {self._account_name} is held by {holder}")
        self.account_id = self._lease().account_id

    def close(self) -> None:
        """Free the lease, after the transaction in hand. May be called twice. Raises DatabaseUnavailable."""
        held = self._replica.lease(self._account_name)
        if held is not None:
            with held.lock:
                self._replica.release([self._account_name])

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction under the lease: committed at the end of the block, rolled back whole if that raises.

        Raises LeaseLost before anything is done if the lease is gone; DatabaseUnavailable for what passes by itself.
        """
        held = self._lease()
        with held.lock, translated():
            with self._replica.engine.connect() as connection, connection.begin() as transaction:
                self._write_the_row(connection, held)
                yield connection
                self._commit(transaction)
            held.commits += 1

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """One transaction that only reads. Raises DatabaseUnavailable."""
        with translated(), self._replica.reading() as connection:
            yield connection

    @contextlib.contextmanager
    def rehearsal(self) -> Iterator[Connection]:
        """One transaction that is always rolled back: to find out what the database would say."""
        with self._lease().lock, translated(), self._replica.engine.connect() as connection:
            transaction = connection.begin()
            try:
                yield connection
            finally:
                transaction.close()

    def _lease(self) -> Lease:
        held = self._replica.lease(self._account_name)
        if held is None:
            raise LeaseLost(f"this replica does not hold the lease of account {self._account_name}")
        return held

    def _commit(self, transaction: RootTransaction) -> None:
        """Commit. Whether one that failed was a commit after all is in doubt: the lease's count is read again."""
        try:
            transaction.commit()
        except BaseException:
            self._replica.forget(self._account_name)
            raise

    def _write_the_row(self, connection: Connection, held: Lease) -> None:
        ours = {"of_account": held.account_id, "our_token": held.token}
        if connection.execute(_COUNT, {**ours, "as_known": held.commits}).rowcount:
            return
        self._replica.forget(self._account_name)
        found = connection.execute(_COUNTED, ours).scalar()
        if found is None:
            raise LeaseLost(f"the lease of account {self._account_name} was given to another replica")
        raise LeaseLost(
            f"the database has gone back: of the {held.commits} commits of account {self._account_name} it has {found}",
            hint=GONE_BACK_HINT,
        )
