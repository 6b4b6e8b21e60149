"""A store with a replica of its own, as a one-shot command has."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from cdrsync.errors import CdrsyncError, DatabaseUnavailable
from cdrsync.store.replica import LEASE_SECONDS, Replica
from cdrsync.store.save import SqlStore

if TYPE_CHECKING:
    from collections.abc import Iterator


class OwnStore(SqlStore):
    """One account of a database, by a replica that leaves when the store is closed."""

    def __init__(self, url: str, account: str, *, lease_seconds: float = LEASE_SECONDS, **options: Any) -> None:
        self.replica = Replica(url, lease_seconds=lease_seconds)
        super().__init__(self.replica, account, **options)

    def open(self) -> None:
        try:
            super().open()
        except CdrsyncError:
            if not self.replica.held():
                self.replica.leave()
            raise

    def close(self) -> None:
        with contextlib.suppress(DatabaseUnavailable):
            super().close()
        self.replica.leave()


@contextlib.contextmanager
def opened(url: str, account: str = "main", **options: Any) -> Iterator[SqlStore]:
    """A store that is open for the length of a block."""
    store = OwnStore(url, account, **options)
    try:
        store.open()
        yield store
    finally:
        store.close()
