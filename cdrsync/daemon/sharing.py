"""Which accounts are this replica's: each account goes to one of the living replicas, by rendezvous hashing.

One that joins or leaves moves only the accounts that it takes or gives. What is another's is given up between two
pages, what a dead one leaves is taken. Each look costs a few statements, however many accounts there are.
"""

from __future__ import annotations

import hashlib
import threading
import time
from typing import TYPE_CHECKING

from cdrsync.errors import CdrsyncError, SchemaMismatch
from cdrsync.monitor import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from cdrsync.wiring.database import Database

LOOKS = 5  # within a lease's time
UNCLAIMED = 2.0  # lease times after which an account that its own replica does not take is taken by any other


class Sharing:
    """Looks at the replicas, takes leases, and tells who has them.

    `assign` is given, at each look, the accounts that are ours and those that are others'; `retry` each account of ours
    that a person wants to be tried at once.

    `names` are the accounts that this replica knows; `shown` is told the holder of those that are another's.
    """

    def __init__(
        self,
        database: Database,
        names: Callable[[], Collection[str]],
        assign: Callable[[Collection[str], Collection[str]], None],
        shown: Callable[[Mapping[str, str]], None],
        retry: Callable[[str], object],
    ) -> None:
        self._database = database
        self._names = names
        self._assign = assign
        self._shown = shown
        self._retry = retry
        self._free_since: dict[str, float] = {}
        self._told = ""
        self._changed = threading.Event()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="sharing", daemon=True)

    def start(self) -> None:
        """Look now and then."""
        self._thread.start()

    def look(self) -> None:
        """Look soon: there are other accounts."""
        self._changed.set()

    def end(self) -> None:
        """Look no more, and wait for a look under way."""
        self._ended = True
        self._changed.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        while not self._ended:
            try:
                self._share()
            except CdrsyncError:
                # Each account's own worker finds out and says it.
                self._assign(self._names(), ())
            except Exception as error:  # noqa: BLE001 - nothing but a person's stop ends the sharing
                self._tell(logs.one_line(error))
            else:
                self._told = ""
            self._changed.wait(self._database.replica.lease_seconds / LOOKS)
            self._changed.clear()

    def _tell(self, message: str) -> None:
        """Once, until there is a look without it."""
        if message != self._told:
            self._told = message
            logs.get().error("internal error", message=message)

    def _share(self) -> None:
        names, replica = self._names(), self._database.replica
        try:
            replica.join()
        except SchemaMismatch:
            self._database.prepare()
            replica.join()
        peers = {peer.id[: len(replica.name)]: str(peer.process) for peer in replica.living() if peer.shares}
        ours = {name for name in names if chosen(name, peers) == replica.name}
        holders = replica.holders()
        in_doubt = {name for name, holder in holders.items() if holder == replica.name} - replica.held()
        replica.release_in_doubt(in_doubt - ours)  # an error came in the moment in which they were given to others
        ours |= self._unclaimed(set(names) - ours, holders)
        new = ours - replica.held()
        replica.take(sorted(new))
        replica.release(new - set(self._names()))  # removed from the configuration meanwhile: their workers have ended
        self._assign(ours & replica.held(), set(names) - ours)
        for name in replica.asked_to_retry():
            self._retry(name)
        self._shown({name: peers.get(holder, "") for name, holder in holders.items() if holder != replica.name})

    def _unclaimed(self, others: Collection[str], holders: Mapping[str, str]) -> set[str]:
        """The accounts of others that nobody has for long: another replica may not know them."""
        now = time.monotonic()
        mine = self._database.replica.name
        free = {name for name in others if holders.get(name, mine) == mine}
        self._free_since = {name: self._free_since.get(name, now) for name in free}
        patience = UNCLAIMED * self._database.replica.lease_seconds
        return {name for name, since in self._free_since.items() if now - since > patience}


def chosen(name: str, replicas: Collection[str]) -> str:
    """The replica of an account, the same wherever it is asked; empty where there is none."""
    return max(replicas, key=lambda one: hashlib.sha256(f"{one}:{name}".encode()).digest(), default="")
