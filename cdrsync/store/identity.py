"""Which login an account is. A login under a second name would hold every call twice, so it is refused."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from sqlalchemy import insert, literal, or_, select, update
from sqlalchemy.exc import IntegrityError

from cdrsync.errors import ConfigError
from cdrsync.model import utc_now
from cdrsync.store.accounts import delete_account
from cdrsync.store.databases.errors import translated
from cdrsync.store.forgetting import Forgetting
from cdrsync.store.runs import COUNTS
from cdrsync.store.schema.tables import NUMBER, account, cdr, erasure, sync_run

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime

    from sqlalchemy.engine import Connection, Engine

    from cdrsync.store.session import WriterSession

_KEY = b"cdrsync: the login of an account"


def fingerprint(login: str) -> str:
    """What is kept of a login: a username and where it logs in. Password and VKey change, and it stays the same one."""
    return hashlib.blake2b(login.casefold().encode(), key=_KEY, digest_size=16).hexdigest()


class Identity:
    """Whose calls an account holds. Raises DatabaseUnavailable, LeaseLost."""

    account: str
    _session: WriterSession
    _clock: Callable[[], datetime]

    def claim(self, login: str) -> None:
        """Keep which login the account is. Raises ConfigError where another account of the database is that login."""
        login = fingerprint(login)
        mine = account.c.id == self._session.account_id
        new = or_(account.c.login.is_(None), account.c.login != login)
        other = select(account.c.name).where(account.c.login == login, ~mine)
        with self._session.transaction() as connection:
            name = connection.scalar(other)
            if name is None:
                try:
                    with connection.begin_nested():
                        connection.execute(update(account).where(mine, new).values(login=login))
                except IntegrityError:  # somebody else was first
                    name = connection.scalar(other)
            if name is not None:
                raise ConfigError(
                    [f"the login of account {self.account} is in this database already, as account {name}"],
                    hint=f"cdrsync account rename {name} {self.account} keeps its calls under the new name; under both "
                    "names every call would be held twice",
                )

    def rename(self, new: str) -> None:
        """Give the account another name. Raises ConfigError where an account of that name holds anything."""
        if new == self.account:
            raise ConfigError([f"account {new} has that name already"])
        with self._session.transaction() as connection:
            taken = connection.scalar(select(account.c.id).where(account.c.name == new))
            if taken is not None:
                if connection.scalar(select(literal(1)).where(cdr.c.account_id == taken).limit(1)):
                    raise ConfigError(
                        [f"an account {new} is there already, and holds calls"],
                        hint=f"cdrsync account forget {new} deletes what it holds",
                    )
                numbers = (erasure.c.account_id == taken, erasure.c.what == NUMBER)
                connection.execute(update(erasure).where(*numbers).values(account_id=self._session.account_id))
                delete_account(connection, taken)
            renamed = {"name": new, "erasures": account.c.erasures + 1}
            connection.execute(update(account).where(account.c.id == self._session.account_id).values(renamed))
            self._write_run(connection, "rename", f"was {self.account}")

    def retire(self, note: str) -> None:
        """Keep what is held, but be the login no longer: after the operator has begun a new sequence of uids."""
        with self._session.transaction() as connection:
            connection.execute(update(account).where(account.c.id == self._session.account_id).values(login=None))
            self._write_run(connection, "retire", note)

    def _write_run(self, connection: Connection, origin: str, message: str) -> None:
        """Keep a person's word with the runs."""
        said = {"account_id": self._session.account_id, "origin": origin, "outcome": "ok", "message": message}
        instants = dict.fromkeys(("started_at", "ended_at"), self._clock())
        connection.execute(insert(sync_run).values({**said, **instants, **dict.fromkeys(COUNTS, 0)}))

    def forget(self, tell: Callable[[int], object] = lambda calls: None) -> int:  # noqa: ARG005 - nobody looks
        """Delete the account with all that is held of it, piece by piece; answer how many calls that were.

        `tell` is given how many have gone with each piece. A run that was cut off is gone on with by the next.
        """
        return Forgetting(self._session, tell).run()


def ask_to_retry(engine: Engine, names: Collection[str]) -> None:
    """Ask whoever works on these accounts to try at once. Raises DatabaseUnavailable."""
    asked = update(account).where(account.c.name.in_(names)).values(retry_asked_at=utc_now())
    with translated(), engine.begin() as connection:
        connection.execute(asked)
