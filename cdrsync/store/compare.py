"""Calls into the table and back, the fastest way of each database. What to write is decided in `sql`, not here.

Each database has a module with the functions that need speed: `held` and `same` say which calls of a page are held, and
held as they are, `insert` writes new ones. Everything rarer goes through SQLAlchemy Core, the same for all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, select, update

from cdrsync.model import Cdr
from cdrsync.store.schema.tables import cdr as table

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from cdrsync.store.databases.port import Rows


@dataclass(slots=True)
class Known:
    """What is held of a page: the uids, and the stored calls that are not equal to the page's."""

    uids: Collection[int] = ()
    different: Mapping[int, Cdr] = field(default_factory=dict)


def compare(
    rows: Rows, connection: Connection, account_id: int, forms: Mapping[int, Any], *, expects_new: bool
) -> Known:
    """Which of a page's calls (forms by uid, ascending) are held, and which of these with another value.

    Where new ones are expected, the database is asked first which are held. Otherwise its rows are read back right
    away. What is not found the same is read through Core: it differs, is written in another way, or is not held.
    """
    held = rows.held(connection, account_id, list(forms)) if expects_new else None
    wanted = forms if held is None else {uid: forms[uid] for uid in sorted(held)}
    if not wanted:
        return Known()
    same = rows.same(connection, account_id, wanted)
    others = read(connection, account_id, [uid for uid in wanted if uid not in same])
    return Known(same | others.keys(), others)


def read(connection: Connection, account_id: int, uids: Collection[int]) -> dict[int, Cdr]:
    """Read calls by uid through Core: for the few that differ."""
    found: dict[int, Cdr] = {}
    wanted = sorted(uids)
    for start in range(0, len(wanted), 500):
        statement = select(*(table.c[name] for name in Cdr._fields)).where(
            table.c.account_id == account_id, table.c.uid.in_(wanted[start : start + 500])
        )
        for row in connection.execute(statement):
            found[row[0]] = Cdr._make(row)
    return found


def write_back(connection: Connection, account_id: int, calls: Sequence[Cdr], now: datetime) -> None:
    """Overwrite calls that are held and really differ."""
    connection.execute(
        _UPDATE,
        [{"in_account": account_id, "in_uid": call.uid, "changed_at": now, **_values(call)} for call in calls],
    )


def _values(call: Cdr) -> dict[str, object]:
    values = call._asdict()
    del values["uid"]
    return values


_UPDATE = (
    update(table)
    .where(table.c.account_id == bindparam("in_account"), table.c.uid == bindparam("in_uid"))
    .values({name: bindparam(name) for name in (*Cdr._fields[1:], "changed_at")})
)
