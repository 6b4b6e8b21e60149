"""Where an account stands, read without its lease: for whoever looks on while another instance writes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from sqlalchemy import select

from cdrsync.store.databases.errors import translated
from cdrsync.store.position import Positions
from cdrsync.store.schema.tables import account

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Connection, Engine

NEVER_SYNCED = -1  # no row has this number


class ReadSession:
    """Transactions on any connection of the engine."""

    def __init__(self, engine: Engine, account_name: str) -> None:
        self._engine = engine
        self._account_name = account_name

    @property
    def account_id(self) -> int:
        """Our number of the account; NEVER_SYNCED before its first sync."""
        with self.reading() as connection:
            found = connection.execute(select(account.c.id).where(account.c.name == self._account_name)).scalar()
        return NEVER_SYNCED if found is None else found

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """One transaction, to read in. Raises DatabaseUnavailable."""
        with translated(), self._engine.connect() as connection:
            yield connection


class SqlReader(Positions):
    """An account's position, beside whoever holds its lease."""

    def __init__(self, engine: Engine, account_name: str) -> None:
        self._session = ReadSession(engine, account_name)
