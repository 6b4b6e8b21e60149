"""Who may read: the views, or the tables too, and nothing else.

On PostgreSQL the views run with their owner's rights, so that a reader needs no right on any table. On MySQL they run
with the reader's, so that they outlive their owner, and on a Citus cluster the other nodes are asked in the reader's
name: there a reader may read the tables that the views read, too. What a reader was granted on our views and tables
before is taken back first: a second grant narrows as well as widens.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cdrsync.errors import ConfigError
from cdrsync.store.admin import dictionary
from cdrsync.store.admin.views import tables_read
from cdrsync.store.databases.choose import kind_of
from cdrsync.store.databases.errors import translated
from cdrsync.store.databases.grants import Grants
from cdrsync.store.lease import intervene
from cdrsync.store.position import account_ids
from cdrsync.store.schema.tables import SCHEMA_ID, metadata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Engine


@dataclass(frozen=True, slots=True)
class Granted:
    """What was done: the objects that the role may read now, and the statements that saw to it."""

    role: str
    objects: tuple[str, ...]
    accounts: tuple[str, ...]  # empty: all
    statements: tuple[str, ...]


def grant_reader(engine: Engine, role: str, *, tables: bool = False, accounts: Sequence[str] = ()) -> Granted:
    """Let an existing role read the views of every account or only of `accounts`, and if asked the `tables`.

    On MySQL and MariaDB `role` may be a user or role, with `@host` where the name alone is not one.
    Raises ConfigError where the role is not there or may write anyway, where the database can't limit a reader as
    asked, and where our own user may not grant; DatabaseUnavailable.
    """
    if accounts and tables:
        raise ConfigError(["the tables hold every account: a reader of some accounts gets views only"])
    kind = kind_of(engine.dialect.name)
    views = {view.name: any(c.name == "account_id" for c in view.columns) for view in dictionary.views()}
    with translated(), engine.begin() as connection:
        read = [] if kind.views_read_as_owner(connection) else tables_read()
        objects = [*views, *(sorted(metadata.tables) if tables else read)]
        if kind.has_users:
            intervene(connection, SCHEMA_ID)  # of two grants at once, one waits
        ours = [*views, *sorted(metadata.tables)]
        ids = functools.partial(account_ids, connection, accounts)
        grants = Grants(connection, role, kind.quote_mark, objects, views, ours, accounts, ids)
        kind.grant(grants)
    return Granted(role, tuple(objects), tuple(accounts), tuple(grants.said))
