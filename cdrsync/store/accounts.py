"""Accounts come and go; a person's number that was erased stays so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, delete, func, insert, literal, select, true, update

from cdrsync.store.schema.tables import NUMBER, account, erasure, metadata

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy.engine import Connection


FEW = 50  # accounts: of more names the whole table is read, which is as quick and binds nothing


def ids_by_name(connection: Connection, names: Collection[str]) -> dict[str, int]:
    """The accounts of these names that there are."""
    query = select(account.c.name, account.c.id)
    if len(names) <= FEW:
        query = query.where(account.c.name.in_(names))
    wanted = set(names)
    return {name: one for name, one in connection.execute(query).all() if name in wanted}


def hand_down(connection: Connection, new: Collection[int], now: datetime) -> None:
    """Have the numbers that are erased in every other account be so in new ones, too: a person calls any of them."""
    others = select(func.count(account.c.id)).where(account.c.id.not_in(new)).scalar_subquery()
    erased = (erasure.c.token, erasure.c.key_check)
    in_all = func.count(erasure.c.account_id.distinct()) == others
    query = select(*erased).where(erasure.c.what == NUMBER, erasure.c.account_id.not_in(new)).group_by(*erased)
    found = connection.execute(query.having(in_all)).all()
    if not found:
        return
    rule = {"what": NUMBER, "begun_at": now, "ended_at": now, "calls": 0, "rejects": 0}
    rules = [{**rule, "account_id": one, "token": token, "key_check": check} for one in new for token, check in found]
    connection.execute(insert(erasure), rules)
    connection.execute(update(account).where(account.c.id.in_(new)).values(erasures=account.c.erasures + 1))


def delete_account(connection: Connection, account_id: int) -> None:
    """Delete an account that has no calls any more, with its rows of every table.

    Where a person's number was erased in it, that and its name stay: the number must not come back if it is read anew.
    """
    here = account.c.id == account_id
    erased = and_(erasure.c.account_id == account_id, erasure.c.what == NUMBER)
    stays = connection.scalar(select(literal(1)).where(erased).limit(1)) is not None
    for table in reversed(metadata.sorted_tables):
        if "account_id" in table.c:
            other = erasure.c.what != NUMBER if table is erasure else true()
            connection.execute(delete(table).where(table.c.account_id == account_id, other))
    connection.execute(update(account).where(here).values(login=None) if stays else delete(account).where(here))
