"""What is held of a page's calls, and as what."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import bindparam, func, select, update

from cdrsync.model import Cdr
from cdrsync.store.databases.port import pieces
from cdrsync.store.schema.tables import cdr as table

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Select
    from sqlalchemy.engine import Connection

    from cdrsync.store.databases.port import DatabaseKind


STRETCH = 500  # uids


class Held(NamedTuple):
    """What is held of a page."""

    uids: Collection[int]
    different: Mapping[int, Cdr]  # the stored calls that are not equal to the page's


def compare(kind: DatabaseKind, connection: Connection, account_id: int, forms: Mapping[int, Any]) -> Held:
    """Which of a page's calls (forms by uid) are held, and which of these with another value.

    Rows that are not found the same are read as calls: they differ, or are only written in another way.
    """
    near = _maybe_held(connection, account_id, list(forms))
    stored = kind.stored(connection, account_id, near) if near else {}
    others = [uid for uid, form in stored.items() if form != forms[uid]]
    return Held(stored.keys(), read(kind, connection, account_id, others) if others else {})


def _maybe_held(connection: Connection, account_id: int, uids: Sequence[int]) -> list[int]:
    """Those of the uids (ascending) in whose stretch something is held: none of a page of new calls."""
    stretches = list(pieces(uids, STRETCH))
    found = connection.execute(next_held(account_id, [some[0] for some in stretches])).one()
    near = (some for some, uid in zip(stretches, found, strict=True) if uid is not None and uid <= some[-1])
    return list(chain.from_iterable(near))


def next_held(account_id: int, uids: Sequence[int]) -> Select[Any]:
    """One row: from each of the uids on, the lowest that is held. No plan but the primary key's serves it."""
    lowest = select(func.min(table.c.uid)).where(table.c.account_id == account_id)
    return select(*(lowest.where(table.c.uid >= uid).scalar_subquery() for uid in uids))


def read(kind: DatabaseKind, connection: Connection, account_id: int, uids: Sequence[int]) -> dict[int, Cdr]:
    wanted = select(*(table.c[name] for name in Cdr._fields)).where(table.c.account_id == account_id)
    return {row[0]: Cdr._make(row) for row in connection.execute(kind.by_uid(wanted, table.c.uid, uids))}


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
