"""Several replicas of the real program that share a few accounts, the operator that makes calls, and the witness."""

from __future__ import annotations

import contextlib
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from cdrsync.errors import EXIT_OK
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.schema.tables import account, cdr, lease, replica
from tests.fault.fresh import upgraded
from tests.fault.start import Start
from tests.support import recount, witness
from tests.support.operator import Login, Settings, World, running
from tests.support.processes import DEADLINE, environment, since_yesterday, until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy.engine import Engine

LEASE_SECONDS = 15  # the default
STOPPED_SECONDS = 5.0  # between two looks: nobody was running
POLL_INTERVAL = "5s"


@dataclass(frozen=True)
class Outcome:
    """What a fleet shows at its end."""

    compared: int
    writes: int
    leases: int
    double: list[str]
    differences: list[str]


class Member:
    """One replica. Its database_url is its own: its way to the database may be cut."""

    def __init__(self, start: Start) -> None:
        self.start_told = start
        self._process = start.begin()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def start(self) -> None:
        """Start again."""
        self._process = self.start_told.begin()

    def kill(self) -> None:
        """Kill -9, where it still runs."""
        self._process.kill()
        self._process.wait(DEADLINE)

    def pause(self) -> None:
        """SIGSTOP."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Tell it to end, as a service manager does. Raises AssertionError where it does not end well."""
        self._process.send_signal(signal.SIGTERM)
        code = self._process.poll(DEADLINE)
        assert code is not None, f"it does not end: {self.log()}"
        assert code == EXIT_OK, (code, self.log())

    def log(self, lines: int = 12) -> str:
        """The last lines of its log."""
        return self.start_told.said(lines)


class Fleet:
    """`ways` are the database's URL as each replica sees it, `url` is ours. `settings` are the program's.

    Each account has `history` calls of so many `days`. Where nobody is to be `witnessed`, the outcome knows no writes.
    """

    def __init__(
        self,
        url: str,
        ways: Sequence[str],
        folder: Path,
        *,
        accounts: int = 6,
        rate: float = 0.3,
        history: int = 0,
        days: int = 3,
        operator: Settings | None = None,
        witnessed: bool = True,
        seed: int = 1,
        **settings: Any,
    ) -> None:
        self.logins = [Login(f"user{n}@example.com", f"password-of-{n}", f"vkey-of-{n}-0000") for n in range(accounts)]
        self.names = [f"a{n}" for n in range(accounts)]
        self._folder = folder
        self._ways = ways
        self._witnessed = witnessed
        self.world = World(operator or Settings(), logins=self.logins, seed=seed)
        for one in self.logins:
            self.world.add_history(history, days, username=one.username) if history else None
            self.world.add(username=one.username)
        self.world.configure(rate=rate)
        told = {
            "start_date": "all" if history else since_yesterday(),
            "poll_interval": POLL_INTERVAL,
            "lookback_interval": "60s",
            "lease_seconds": str(LEASE_SECONDS),
            "audit_time": "off",
            "workers": "4",
            "config": str(folder / "cdrsync.toml"),
        }
        self._settings = told | settings
        with contextlib.ExitStack() as stack:
            self.engine: Engine = open_engine(upgraded(url))
            stack.callback(self._forget)
            if witnessed:
                witness.call(self.engine)
            self._api = stack.enter_context(running(self.world))
            self._configure()
            self.members = [self._member(stack, number, way) for number, way in enumerate(ways)]
            self._closing = stack.pop_all()

    def _configure(self) -> None:
        (self._folder / "cdrsync.toml").touch()
        accounts = self._folder / "accounts.d"
        accounts.mkdir()
        for name, one in zip(self.names, self.logins, strict=True):
            file = accounts / f"{name}.toml"
            text = f'username = "{one.username}"\npassword = "{one.password}"\nvkey = "{one.vkey}"\n'
            file.write_text(text, encoding="utf-8")
            file.chmod(0o600)

    def _environment(self, way: str) -> dict[str, str]:
        told = environment(self._api, way, **self._settings)
        for name in ("USERNAME", "PASSWORD", "VKEY"):
            del told[f"CDRSYNC_{name}"]
        return told

    def _member(self, stack: contextlib.ExitStack, number: int, way: str) -> Member:
        log = str(self._folder / f"replica{number}.log")
        member = Member(Start(("run",), self._environment(way), log, quick=False))
        stack.callback(member.kill)
        return member

    # ── what is seen ───────────────────────────────────────────────────────────────────────────────────────────────

    def look_at(self, url: str) -> None:
        """See the database on another server from now on."""
        self._forget()
        self.engine = open_engine(url)

    def _forget(self) -> None:
        self.engine.dispose()

    def holders(self) -> dict[str, int]:
        """The process id of each account's replica."""
        query = select(account.c.name, replica.c.process).join(lease, lease.c.account_id == account.c.id)
        found = self._asked(query.join(replica, replica.c.id == lease.c.replica_id))
        return {row.name: row.process for row in found}

    def beats(self, member: Member) -> list[Any]:
        """When a replica last said that it lives; nothing where it was given up."""
        query = select(replica.c.id, replica.c.beat_at).where(replica.c.process == member.pid)
        return [tuple(row) for row in self._asked(query)]

    def until_back(self, member: Member, before: list[Any]) -> None:
        """Wait until a replica says that it lives, otherwise than before."""
        until(lambda: self.beats(member) not in ([], before), f"replica {member.pid} is back", 2 * DEADLINE)

    def settled(self) -> bool:
        """Whether each account has a replica that is one of ours."""
        found = self.holders()
        return len(found) == len(self.names) and set(found.values()) <= {member.pid for member in self.members}

    def held(self) -> int:
        """How many calls there are."""
        found = self._asked(select(func.count()).select_from(cdr))
        return found[0][0] if found else 0

    def arrive(self, patience: float = 3 * DEADLINE) -> float:
        """Make a call for each account now; the seconds until the last of them is held, at most `patience`.

        What stops this process as well, such as a measurement of somebody else's, does not count.
        """
        uids = {self.world.add(username=one.username).uid for one in self.logins}
        query = select(cdr.c.uid).where(cdr.c.uid.in_(uids))
        seconds, before = 0.0, time.monotonic()
        while len(self._asked(query)) < len(uids):
            if seconds > patience:
                logs = "\n".join(member.log() for member in self.members)
                raise AssertionError(f"an account was not polled for {patience:.0f} s:\n{logs}")
            time.sleep(0.2)
            now = time.monotonic()
            seconds += now - before if now - before < STOPPED_SECONDS else 0.0
            before = now
        return seconds

    def _asked(self, query: Any) -> Sequence[Any]:
        """What a query finds; nothing while the database is away."""
        try:
            with self.engine.connect() as connection:
                return connection.execute(query).all()
        except DBAPIError:
            return []

    # ── the end ────────────────────────────────────────────────────────────────────────────────────────────────────

    def finish(self, *, by_sync: bool = False) -> Outcome:
        """Make no more calls, wait for those there are, stop every replica, read once more, and compare everything.

        `by_sync`: that last reading is not waited for, but does what the replicas have left.
        """
        self.world.configure(rate=0, latency=0)
        wanted = sum(len(self.world.records(one.username)) for one in self.logins)
        if not by_sync:
            until(
                lambda: self.held() >= wanted,
                lambda: f"all {wanted} calls, of which {self.held()} are held",
                3 * DEADLINE,
            )
        for member in self.members:
            member.stop()
        time.sleep(0.1)
        told = {**self._environment(self._ways[0]), "CDRSYNC_PAGE_SIZE": "1000"}
        sync = Start(("sync",), told, str(self._folder / "sync.log"), quick=False)
        assert sync.run(3 * DEADLINE) == EXIT_OK, sync.said()
        calls = {name: self.world.records(one.username) for name, one in zip(self.names, self.logins, strict=True)}
        found = [line for name in self.names for line in recount.differences(self.engine, name, calls[name])]
        bugs = [f"internal error: {member.log()}" for member in self.members if "internal error" in member.log(10**6)]
        heard = witness.hear(self.engine) if self._witnessed else witness.Testimony()
        return Outcome(sum(map(len, calls.values())), heard.writes, heard.leases, heard.double, found + bugs)

    def close(self) -> None:
        """End everything, however it stands."""
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
