"""One running process among those that work on a database: its pool of connections, its beats, the leases it holds."""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import delete, insert, literal_column, or_, select, update
from sqlalchemy.exc import DBAPIError

from cdrsync.errors import CdrsyncError
from cdrsync.model import utc_now
from cdrsync.store.accounts import hand_down, ids_by_name
from cdrsync.store.databases.choose import kind_of
from cdrsync.store.databases.engine import POOL, open_engine
from cdrsync.store.databases.errors import again, translated
from cdrsync.store.databases.port import WRITER
from cdrsync.store.lease import Holder, Lease, Peer, commits_by_token, lease_rows, of_accounts
from cdrsync.store.process import Process, this_process
from cdrsync.store.schema import versions
from cdrsync.store.schema.tables import SCHEMA_ID, account, lease, replica
from cdrsync.store.schema.types import Instant

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from datetime import datetime

    from sqlalchemy.engine import URL, Connection

LEASE_SECONDS = 15.0
BEATS = 3  # within a lease's time
RETRY_SECONDS = 1.0  # after a beat that failed
LATE = 1.5  # times the pause between two beats: one of them is missing
LOOK_SECONDS = 0.5  # between two looks at a holder that may be dead
LEAVE_SECONDS = 3.0  # at most, for a clean farewell
NAME_LENGTH = 8  # of a replica's id: what stays the same when it has to join again

T = TypeVar("T")

_FREE: dict[str, Any] = {"replica_id": None, "token": None, "taken_at": None}


class Replica:
    """This process among those that work on one database: it has the pool of connections, beats, and holds leases.

    Any thread may call. It joins, and begins to beat, with the first `take`; `leave` frees everything. Every method
    that asks the database raises DatabaseUnavailable.
    """

    def __init__(
        self,
        url: str | URL,
        *,
        lease_seconds: float = LEASE_SECONDS,
        connections: int = POOL,
        shares: bool = False,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self.name = secrets.token_hex(NAME_LENGTH // 2)  # the part of our id that stays when we have to join again
        self.engine = open_engine(url, writer=self.name, connections=connections)
        self.reader = self.engine.execution_options(**{WRITER: False})  # the same pool, for what only reads
        self.lease_seconds = lease_seconds
        self.shares = shares
        self.id = ""  # of our row; empty before we joined, or where we were given up
        self._clock = clock
        self._kind = kind_of(self.engine.dialect.name)
        self._now = literal_column(self._kind.now, Instant)
        self._leases: dict[str, Lease] = {}
        self._lock = threading.Lock()  # of what is remembered here
        self._taking = threading.Lock()
        self._leaving = threading.Event()
        self._beating: threading.Thread | None = None
        self._last_beat = 0.0  # monotonic

    # ── leases ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def take(self, names: Collection[str]) -> dict[str, Holder]:
        """Take the leases of these accounts that are free or whose holder is gone; answer who has the others.

        A few statements for any number of accounts, none that writes where every lease is another's. An account is
        made on its first use. Raises SchemaMismatch.
        """
        with self._taking:
            with self._lock:
                wanted = [name for name in names if name not in self._leases]
            return again(lambda: self._take(wanted)) if wanted else {}

    def take_schema(self) -> Holder | None:
        """Take the lease of the schema itself, for who upgrades it; answer who has it otherwise."""
        with self._taking:
            return again(lambda: self._take_ids({"": SCHEMA_ID})).get("")

    def lease(self, name: str) -> Lease | None:
        """The lease of an account, if this replica holds it for all it knows. The schema's name is empty."""
        with self._lock:
            return self._leases.get(name)

    def held(self) -> set[str]:
        """The accounts whose leases are ours; none where the last beat is so old that they may be another's."""
        with self._lock:
            return set() if self.cut_off is not None else set(self._leases) - {""}

    @property
    def cut_off(self) -> float | None:
        """Seconds since our last beat, where that is so long ago that our leases may be another's."""
        silent = time.monotonic() - self._last_beat
        return silent if self._beating is not None and silent >= self.lease_seconds else None

    def forget(self, name: str) -> None:
        """Use a lease no more until it is taken again: after an error its count, or the lease itself, is in doubt."""
        with self._lock:
            self._leases.pop(name, None)

    def release(self, names: Iterable[str]) -> None:
        """Free leases for others. Only between two transactions of theirs."""
        with self._lock:
            ids = [held.account_id for name in names if (held := self._leases.pop(name, None))]
            here = (of_accounts(ids), lease.c.replica_id == self.id)
        if ids:
            self._write(lambda connection: connection.execute(update(lease).where(*here).values(_FREE)))

    def release_in_doubt(self, names: Iterable[str]) -> None:
        """Free leases that we use no more (`forget`), where the database still has them as ours."""
        with self._taking:
            with self._lock:
                unused = set(names) - self._leases.keys()
            of_them = lease.c.account_id.in_(select(account.c.id).where(account.c.name.in_(unused)))
            freed = update(lease).where(of_them, lease.c.replica_id == self.id).values(_FREE)
            if unused:
                self._write(lambda connection: connection.execute(freed))

    # ── replicas ───────────────────────────────────────────────────────────────────────────────────────────────────

    def join(self) -> None:
        """Be seen by the others, also without a lease. Raises SchemaMismatch."""
        if not self.id:
            with self._taking, translated():
                with self.reading() as connection:
                    versions.check_on(connection)
                self._write(self._join)
                self._begin_to_beat()

    def holders(self) -> dict[str, str]:
        """The accounts that have a holder, and which replica that is, by the part of its id that stays."""
        query = select(account.c.name, lease.c.replica_id).join(lease, lease.c.account_id == account.c.id)
        with translated(), self.reading() as connection:
            rows = connection.execute(query.where(lease.c.replica_id.is_not(None)))
            return {row.name: row.replica_id[:NAME_LENGTH] for row in rows}

    def asked_to_retry(self) -> set[str]:
        """The accounts of ours that a person wants to be tried at once (`identity`); they are told once."""
        query = select(account.c.name).where(account.c.retry_asked_at.is_not(None))
        with translated(), self.reading() as connection:
            asked = self.held().intersection(connection.execute(query).scalars())
        if asked:
            done = update(account).where(account.c.name.in_(asked)).values(retry_asked_at=None)
            self._write(lambda connection: connection.execute(done))
        return asked

    def living(self) -> list[Peer]:
        """Every replica that may hold leases, this one among them; oldest first."""
        with translated(), self.reading() as connection:
            return [peer for peer in self._peers(connection) if not self._is_gone(peer)]

    def beat(self) -> None:
        """Say that we live, for all leases at once. Where we were given up meanwhile, all of them are forgotten."""
        ours = self.id
        begun = time.monotonic()
        if ours and not self._write(lambda connection: self._renew(connection, ours)):
            with self._lock:
                if self.id == ours:
                    self.id = ""
                    self._leases.clear()
        self._last_beat = begun

    def leave(self) -> None:
        """Free all leases, and the connections. Where the database is away they end by themselves."""
        self._leaving.set()
        with self._lock:
            ours, self.id, beating, self._beating = self.id, "", self._beating, None
            self._leases.clear()
        if ours:
            leaving = threading.Thread(target=self._strike_off, args=(ours, beating), name="leave", daemon=True)
            leaving.start()
            leaving.join(LEAVE_SECONDS)
        self.engine.dispose()

    def _strike_off(self, ours: str, beating: threading.Thread | None) -> None:
        if beating is not None:
            beating.join()
        with contextlib.suppress(CdrsyncError):  # told by whoever wrote before
            self._write(lambda connection: self._give_up(connection, [ours]))

    def outlive(self, holder: Holder, tell: Callable[[str], object], stop: threading.Event | None = None) -> None:
        """Wait until a holder may be replaced, saying so; no longer than until it is sure to live, or `stop` is set."""
        interval = self.lease_seconds / BEATS
        peer: Peer | None = holder.peer
        said = False
        while peer is not None and peer.beat_at == holder.peer.beat_at and not self._is_gone(peer):
            late = peer.silent > interval * LATE
            if peer.process.is_here() and not late:
                return
            if late and not said:
                said = True
                left = self.lease_seconds - peer.silent
                tell(f"{peer.process} has said nothing for {peer.silent:.0f} s: it is replaced in {left:.0f} s")
            if stop is not None and stop.wait(LOOK_SECONDS):
                return
            if stop is None:
                time.sleep(LOOK_SECONDS)
            with translated(), self.reading() as connection:
                peer = next((one for one in self._peers(connection) if one.id == holder.peer.id), None)

    # ── transactions ───────────────────────────────────────────────────────────────────────────────────────────────

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """One transaction that only reads. Drivers' errors go through."""
        with self.engine.connect() as connection:
            connection.execution_options(**{WRITER: False})
            yield connection

    def _write(self, work: Callable[[Connection], T]) -> T:
        """Do a small transaction, again where another came between."""

        def once() -> T:
            with self.engine.begin() as connection:
                return work(connection)

        return again(once)

    def _take(self, names: list[str]) -> dict[str, Holder]:
        with self.reading() as connection:
            versions.check_on(connection)
            ids = ids_by_name(connection, names)
        missing = [name for name in names if name not in ids]
        if missing:
            with self.engine.begin() as connection:
                made = [{"name": name, "created_at": self._clock()} for name in missing]
                connection.execute(insert(account), made)
                new = ids_by_name(connection, missing)
                hand_down(connection, list(new.values()), self._clock())
                ids |= new
        return self._take_ids(ids)

    def _take_ids(self, ids: Mapping[str, int]) -> dict[str, Holder]:
        with self.reading() as connection:
            rows = lease_rows(connection, ids.values())
            peers = {peer.id: peer for peer in self._peers(connection)}  # after the rows: who has one is among them
        gone = {peer.id for peer in peers.values() if self._is_gone(peer)}
        gone |= {row.replica_id for row in rows.values() if row.replica_id} - peers.keys()
        self._bury(gone - {self.id})
        free = [one for one in ids.values() if one not in rows or rows[one].replica_id in (None, self.id, *gone)]
        token, mine = secrets.token_hex(16), {}
        if free:
            with self.engine.begin() as connection:
                self._join(connection)
                new = [{"account_id": one, "commits": 0, "interventions": 0} for one in free if one not in rows]
                if new:
                    connection.execute(insert(lease), new)
                ours = or_(lease.c.replica_id.is_(None), lease.c.replica_id == self.id)
                taken = {"replica_id": self.id, "token": token, "taken_at": self._now}
                connection.execute(update(lease).where(of_accounts(free), ours).values(taken))
                mine = commits_by_token(connection, self.id, token)
                if len(mine) < len(ids):
                    rows = lease_rows(connection, ids.values() - mine.keys())
            self._begin_to_beat()
        with self._lock:
            for name, one in ids.items():
                if one in mine:
                    self._leases[name] = Lease(one, token, mine[one])
        others = {name: rows[one] for name, one in ids.items() if one not in mine}
        if any(row.replica_id not in peers for row in others.values()):  # whoever joined in this very moment
            return self._take_ids({name: row.account_id for name, row in others.items()})
        return {name: Holder(peers[row.replica_id], row.taken_at) for name, row in others.items()}

    def _bury(self, gone: Collection[str]) -> None:
        for one in gone:
            with self.reading() as connection:
                self._kind.end_sessions(connection, one[:NAME_LENGTH])
        if gone:
            with self.engine.begin() as connection:
                self._give_up(connection, gone)

    def _join(self, connection: Connection) -> None:
        if self.id and self._renew(connection, self.id):
            return
        with self._lock:
            self._leases.clear()
        self.id = self.name + secrets.token_hex(16 - NAME_LENGTH // 2)
        process = this_process()
        values = {
            "id": self.id,
            "host": process.host,
            "process": process.pid,
            "machine": process.machine,
            "process_started": process.started,
            "shares": self.shares,
            "joined_at": self._now,
            "beat_at": self._now,
        }
        connection.execute(insert(replica).values(values))

    def _renew(self, connection: Connection, ours: str) -> bool:
        return bool(connection.execute(update(replica).where(replica.c.id == ours).values(beat_at=self._now)).rowcount)

    def _give_up(self, connection: Connection, gone: Collection[str]) -> None:
        """Free what replicas hold, and strike them off: the row goes first, so that none beats on."""
        connection.execute(delete(replica).where(replica.c.id.in_(gone)))
        connection.execute(update(lease).where(lease.c.replica_id.in_(gone)).values(_FREE))

    def _peers(self, connection: Connection) -> list[Peer]:
        query = select(replica, self._now.label("now")).order_by(replica.c.joined_at, replica.c.id)
        return [
            Peer(
                row.id,
                Process(row.host, row.machine, row.process, row.process_started),
                row.shares,
                row.joined_at,
                row.beat_at,
                (row.now - row.beat_at).total_seconds(),
            )
            for row in connection.execute(query)
        ]

    def _is_gone(self, peer: Peer) -> bool:
        if peer.id == self.id:  # after an outage its beats are old, but whoever asks lives
            return False
        return peer.silent > self.lease_seconds or peer.process.is_gone()

    # ── beats ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin_to_beat(self) -> None:
        self._last_beat = time.monotonic()
        if self._beating is None:
            self._leaving.clear()
            self._beating = threading.Thread(target=self._keep_beating, name="beat", daemon=True)
            self._beating.start()

    def _keep_beating(self) -> None:
        pause = interval = self.lease_seconds / BEATS
        while not self._leaving.wait(pause):
            begun = time.monotonic()
            try:
                self.beat()
                pause = max(0.0, begun + interval - time.monotonic())  # one that took long is as old as it took
            except (CdrsyncError, DBAPIError):  # told by whoever saves next; without beats the leases end by themselves
                pause = min(RETRY_SECONDS, interval)
