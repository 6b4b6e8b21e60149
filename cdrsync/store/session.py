"""The one connection that writes for an account: it holds the lease, and dies with it.

SQLAlchemy would quietly replace a lost connection; here a lost one stays lost until `open` takes the lease again. While
nothing is saved, a thread pings, so that the database can tell a quiet holder from a dead one.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from typing import TYPE_CHECKING

from sqlalchemy import insert, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from cdrsync.errors import CdrsyncError, ConfigError, LeaseHeld, LeaseLost
from cdrsync.store.admin import migrate
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.databases.errors import translated
from cdrsync.store.lease import PING_SECONDS, lease_for
from cdrsync.store.schema.tables import account

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from sqlalchemy.engine import Connection

POOLER_HINT = (
    "If database_url leads through a pooler (PgBouncer) in transaction mode, give cdrsync a direct connection "
    "or session mode: a lease needs a session of its own"
)


class WriterSession:
    """One account's writing connection and lease. Safe to use from several threads: one transaction at a time."""

    def __init__(self, url: str, account_name: str, clock: Callable[[], datetime]) -> None:
        self._engine = open_engine(url, writer=True)
        self._account_name = account_name
        self._clock = clock
        self._lease = lease_for(make_url(url), account_name)
        self._lock = threading.RLock()
        self._connection: Connection | None = None
        self._last_used = 0.0
        self._closing = threading.Event()
        self._pinging: threading.Thread | None = None
        self.account_id = 0

    @property
    def dialect(self) -> str:
        """SQLAlchemy's name of the database's dialect."""
        return self._engine.dialect.name

    def open(self) -> None:
        """Connect and take the lease; with one already held, let go of it first.

        Raises LeaseHeld (naming the holder), SchemaMismatch, DatabaseUnavailable, ConfigError behind a transaction
        pooler.
        """
        with self._lock:
            self._drop()
            self._closing.clear()
            with translated():
                self._connection = self._engine.connect()
            try:
                with translated():
                    migrate.check_on(self._connection)
                    self._take(self._connection)
            except BaseException:
                self._drop()
                raise
            self._last_used = time.monotonic()
            if self.dialect != "sqlite" and self._pinging is None:
                self._pinging = threading.Thread(target=self._ping, name=f"lease-{self._account_name}", daemon=True)
                self._pinging.start()

    def close(self) -> None:
        """Free the lease and the connection. May be called twice."""
        self._closing.set()
        with self._lock:
            self._drop()
            self._engine.dispose()
            pinging, self._pinging = self._pinging, None
        if pinging is not None and pinging is not threading.current_thread():
            pinging.join(timeout=PING_SECONDS)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction under the lease: committed at the end of the block, rolled back whole if that raises.

        Raises LeaseLost before anything is done if the lease is gone; DatabaseUnavailable for what passes by itself.
        """
        with self._lock, translated():
            connection = self._alive()
            try:
                with connection.begin():
                    self._check(connection)
                    yield connection
                self._last_used = time.monotonic()
            except BaseException as error:
                self._after(error)
                raise

    @contextlib.contextmanager
    def rehearsal(self) -> Iterator[Connection]:
        """One transaction that is always rolled back: to find out what the database would say."""
        with self._lock, translated():
            connection = self._alive()
            transaction = connection.begin()
            try:
                yield connection
            except BaseException as error:
                self._after(error)
                raise
            finally:
                if transaction.is_active or connection.in_transaction():
                    connection.rollback()

    def _alive(self) -> Connection:
        connection = self._connection
        if connection is None or connection.closed or connection.invalidated:
            raise LeaseLost(f"the connection that held the lease of account {self._account_name} is gone")
        return connection

    def _check(self, connection: Connection) -> None:
        if not self._lease.held(connection):
            raise LeaseLost(f"this connection does not hold the lease of account {self._account_name} any more")

    def _after(self, error: BaseException) -> None:
        """A connection that failed in a way that may have cost the lease is not used again."""
        connection = self._connection
        lost = isinstance(error, LeaseLost) or (isinstance(error, DBAPIError) and error.connection_invalidated)
        if lost or connection is None or connection.invalidated or not isinstance(error, Exception):
            self._drop()

    def _take(self, connection: Connection) -> None:
        with connection.begin():
            taken = self._lease.take(connection)
        with connection.begin():
            found = connection.execute(
                select(account.c.id, account.c.holder, account.c.held_since).where(account.c.name == self._account_name)
            ).one_or_none()
            if not taken:
                raise LeaseHeld(f"the lease of account {self._account_name} is held by {_holder(found)}")
            if not self._lease.held(connection):
                raise ConfigError(["the database gives every transaction another session"], hint=POOLER_HINT)
            now = self._clock()
            if found is None:
                created = {"name": self._account_name, "created_at": now}
                connection.execute(insert(account), created)
                found = connection.execute(select(account.c.id).where(account.c.name == self._account_name)).one()
            self.account_id = found.id
            connection.execute(
                update(account)
                .where(account.c.id == found.id)
                .values(holder=f"process {os.getpid()} on {socket.gethostname()}", held_since=now)
            )

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(DBAPIError):  # it is dead already: there is nothing to close
                connection.close()
        self._lease.give_up()

    def _ping(self) -> None:
        while not self._closing.wait(PING_SECONDS / 2):
            # A session in use needs no ping, and waiting for it could outlast a close.
            if not self._lock.acquire(blocking=False):
                continue
            try:
                if self._connection is not None and time.monotonic() - self._last_used >= PING_SECONDS / 2:
                    with contextlib.suppress(CdrsyncError):  # told to whoever saves next
                        self._say_something()
            finally:
                self._lock.release()

    def _say_something(self) -> None:
        with self.transaction():
            """The check of the lease is all there is to say."""


def _holder(found: object) -> str:
    holder, since = getattr(found, "holder", None), getattr(found, "held_since", None)
    if holder is None or since is None:
        return "another instance"
    return f"{holder} since {since:%Y-%m-%d %H:%M:%S} UTC"
