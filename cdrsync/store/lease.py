"""The lease: who may write for an account. It is a row with a random token, and every write begins by writing that row.

    replica   one row for each process that works on this database; it renews `beat_at` every lease_seconds / 3
    lease     one row for each account: the replica that has it, the token of this taking, a count of its commits

Who lost the lease finds no row with its token, and its page is rolled back. Two that both believe to hold it write the
same row: a row lock makes one wait, certification (Galera) or serialisation makes one fail. The count tells a database
that has gone back, by a failover or a restored backup, behind what was committed: the position is then read again.

A replica whose beat is older than lease_seconds, by the database's own clock, may be given up by any other, which frees
all its leases at once. One of the same machine whose process is gone is given up without waiting. Nothing rests on a
session or on a wall clock of ours. Tokens are random: after an asynchronous failover a counter would come twice.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import Boolean, insert, literal_column, select, update

from cdrsync.store.schema.tables import lease

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection

    from cdrsync.store.process import Process


@dataclass(slots=True)
class Lease:
    """An account that this replica may write for. One transaction at a time: `lock` is held around each."""

    account_id: int
    token: str
    commits: int  # of this lease's row, as we know it
    lock: threading.RLock = field(default_factory=threading.RLock)


@dataclass(frozen=True, slots=True)
class Peer:
    """A replica of this database as the others see it. Instants are the database's, UTC."""

    id: str
    process: Process
    shares: bool  # a daemon, which takes its part of the accounts
    joined_at: datetime
    beat_at: datetime
    silent: float  # seconds since its last beat, when it was read


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has a lease that was asked for."""

    peer: Peer
    since: datetime

    def __str__(self) -> str:
        """As messages name it."""
        return f"{self.peer.process} since {self.since:%Y-%m-%d %H:%M:%S} UTC"


def intervene(connection: Connection, account_id: int) -> None:
    """Begin a transaction beside the holder of a lease: who writes for the account waits, or fails and is repeated."""
    here = lease.c.account_id == account_id
    count = {"interventions": lease.c.interventions + 1}
    if not connection.execute(update(lease).where(here).values(count)).rowcount:
        connection.execute(insert(lease).values(account_id=account_id, commits=0, interventions=1))


def of_accounts(ids: Collection[int]) -> ColumnElement[bool]:
    """A lease's account is one of these. Written out: to bind a thousand values costs more than all the rest."""
    return literal_column(f"lease.account_id IN ({','.join(map(str, ids)) or 'NULL'})", Boolean)


def lease_rows(connection: Connection, ids: Collection[int]) -> dict[int, Any]:
    """By account: which replica has its lease, and since when."""
    query = select(lease.c.account_id, lease.c.replica_id, lease.c.taken_at).where(of_accounts(ids))
    return {row[0]: row for row in connection.execute(query).all()}


def commits_by_token(connection: Connection, holder: str, token: str) -> dict[int, int]:
    """What was taken with a token: the accounts, and the commits of each so far."""
    taken = (lease.c.replica_id == holder, lease.c.token == token)
    rows = connection.execute(select(lease.c.account_id, lease.c.commits).where(*taken)).all()
    return {row[0]: row[1] for row in rows}
