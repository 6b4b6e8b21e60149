"""The lease: who may write for an account. It is the database's own lock, held by the very connection that writes.

So whoever has lost the lease has lost the connection, and can commit nothing; no clock is trusted but the database's
own. A process that was killed frees its lock at once. One that hangs or was cut off is let go after IDLE_SECONDS,
because a living holder says something every PING_SECONDS (`session`).

PostgreSQL: an advisory lock of the session, and in each transaction the same lock once more: behind a pooler that
hands transactions to changing sessions it can't be had, and the page is refused. Its time limits end a session that is
idle, but none that waits for its client in the middle of a statement: that one is ended by whoever stands by. MySQL and
MariaDB: GET_LOCK, looked at again in each transaction. SQLite: flock on a file beside the database, which the kernel
frees with the process (a process that is stopped, not dead, keeps it: the file is on its own machine, where somebody
stopped it). Each transaction looks whether the database file is still the one that was opened.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import time
from typing import TYPE_CHECKING, Protocol

from sqlalchemy import text

from cdrsync.errors import DatabaseUnavailable, LeaseLost
from cdrsync.store.databases.choose import MYSQL_FAMILY
from cdrsync.store.databases.sqlite import SQLITE_FILE, sqlite_file_identity, sqlite_path

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.engine import URL, Connection

IDLE_SECONDS = 12  # the database drops a holder that says nothing for so long
PING_SECONDS = 4.0  # a holder with nothing to do says something so often
ENDING_SECONDS = 2.0  # for a session that was ended to roll back and free its lock
REPLACED_HINT = "Nothing of the page in hand was stored; the file that is there now is opened next"
POSTGRESQL_IDLE_SESSION = 140000  # server version that knows idle_session_timeout


class Lease(Protocol):
    """One account's lock on one connection."""

    def take(self, connection: Connection) -> bool:
        """Take the lock if it is free, without waiting."""

    def held(self, connection: Connection) -> bool:
        """Whether this connection still has it; said within the transaction that is to be committed."""

    def give_up(self) -> None:
        """Free what the end of the connection does not free by itself."""


def lease_for(url: URL, account: str) -> Lease:
    """Make the lease of an account for the kind of database that the URL names."""
    backend = url.get_backend_name()
    if backend == "postgresql":
        return PostgresqlLease(account)
    if backend in MYSQL_FAMILY:
        return MysqlLease(account)
    return SqliteLease(sqlite_path(url), account)


class PostgresqlLease:
    """An advisory lock, one per database, schema and account."""

    _take = text(
        "SELECT pg_try_advisory_lock(hashtextextended(current_schema() || ':' || :account, 0)), pg_backend_pid()"
    )
    # A holder that was stopped within a COPY, a pipeline or the reading of a result. No statement of a living one lasts
    # so long (statement_timeout); the server looks at that limit only when the client moves again.
    _end_silent_holder = text(
        "SELECT pg_terminate_backend(holder.pid) FROM pg_locks AS held JOIN pg_stat_activity AS holder USING (pid)"
        " WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 1 AND held.database ="
        " (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND (held.classid::bigint << 32) | held.objid::bigint"
        " = hashtextextended(current_schema() || ':' || :account, 0)"
        " AND holder.usename = current_user AND holder.wait_event_type = 'Client'"
        " AND holder.query_start < clock_timestamp() - make_interval(secs => :seconds)"
    )
    _held = text(
        "SELECT pg_backend_pid() = :pid AND"
        " pg_try_advisory_xact_lock(hashtextextended(current_schema() || ':' || :account, 0))"
    )

    def __init__(self, account: str) -> None:
        self._account = f"cdrsync:{account}"
        self._pid = 0

    def take(self, connection: Connection) -> bool:
        """Take the lock, from a silent holder too, and ask the server to end this session should we fall silent."""
        version = connection.exec_driver_sql("SELECT current_setting('server_version_num')::int").scalar_one()
        for setting, value in _postgresql_settings().items():
            if setting != "idle_session_timeout" or version >= POSTGRESQL_IDLE_SESSION:
                connection.exec_driver_sql(f"SET {setting} = '{value}'")
        if self._try(connection):
            return True
        silent = {"account": self._account, "seconds": IDLE_SECONDS}
        if not connection.execute(self._end_silent_holder, silent).all():
            return False
        deadline = time.monotonic() + ENDING_SECONDS
        while not (taken := self._try(connection)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return taken

    def _try(self, connection: Connection) -> bool:
        taken, self._pid = connection.execute(self._take, {"account": self._account}).one()
        return bool(taken)

    def held(self, connection: Connection) -> bool:
        """Ask for the same session and for the lock again."""
        return bool(connection.execute(self._held, {"account": self._account, "pid": self._pid}).scalar())

    def give_up(self) -> None:
        """The server frees it with the session."""


def _postgresql_settings() -> dict[str, str]:
    """A silent client may be idle or within a transaction: each has its own limit.

    `statement_timeout` bounds a statement of a client that moves. The keep-alives are the server's, for a host that
    vanished.
    """
    seconds = f"{IDLE_SECONDS}s"
    return {
        "idle_session_timeout": seconds,
        "idle_in_transaction_session_timeout": seconds,
        "statement_timeout": seconds,
        "tcp_keepalives_idle": "5",
        "tcp_keepalives_interval": "2",
        "tcp_keepalives_count": "3",
        "tcp_user_timeout": seconds,
    }


class MysqlLease:
    """A named lock, which the server keeps for all its databases: the database's name is part of the lock's."""

    _name = "CONCAT('cdrsync:', LEFT(SHA2(CONCAT(DATABASE(), ':', :account), 256), 40))"
    _take = text(f"SELECT GET_LOCK({_name}, 0)")
    _held = text(f"SELECT IS_USED_LOCK({_name}) = CONNECTION_ID()")

    def __init__(self, account: str) -> None:
        self._account = account

    def take(self, connection: Connection) -> bool:
        """Take the lock, and ask the server to end this session should we fall silent."""
        connection.exec_driver_sql(
            f"SET SESSION wait_timeout = {IDLE_SECONDS}, net_read_timeout = {IDLE_SECONDS},"
            f" net_write_timeout = {IDLE_SECONDS},"
            f" innodb_lock_wait_timeout = {IDLE_SECONDS}, lock_wait_timeout = {IDLE_SECONDS}"
        )
        return connection.execute(self._take, {"account": self._account}).scalar() == 1

    def held(self, connection: Connection) -> bool:
        """Ask the server who has it."""
        return connection.execute(self._held, {"account": self._account}).scalar() == 1

    def give_up(self) -> None:
        """The server frees it with the session."""


class SqliteLease:
    """A locked file beside the database, one per account. It stays when the lock is freed: removing it would race."""

    def __init__(self, database: Path, account: str) -> None:
        plain = re.sub(r"[^A-Za-z0-9_-]", "", account)
        # Accounts whose names differ only in characters that file names don't like must not share a file.
        digest = "" if plain == account else "-" + hashlib.sha256(account.encode()).hexdigest()[:8]
        self._database = database
        self._path = database.with_name(f"{database.name}.{plain}{digest}.lock")
        self._descriptor: int | None = None

    def take(self, connection: Connection) -> bool:
        """Lock the file."""
        del connection
        self.give_up()
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise DatabaseUnavailable(f"the lock file {self._path} can't be opened: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def held(self, connection: Connection) -> bool:
        """Look whether the locked file is still the one that others would lock, and the database the one they'd open.

        Raises LeaseLost where a backup was moved over the database: what is written to the old file is lost.
        """
        if self._descriptor is None:
            return False
        if connection.info[SQLITE_FILE] != sqlite_file_identity(connection.engine.url):
            raise LeaseLost(f"the database file {self._database} was replaced or removed", hint=REPLACED_HINT)
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return False
        ours = os.fstat(self._descriptor)
        return (there.st_ino, there.st_dev) == (ours.st_ino, ours.st_dev)

    def give_up(self) -> None:
        """Free the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
