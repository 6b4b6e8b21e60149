"""Where one person's number may stand in an account, however it is written."""

from __future__ import annotations

import re
from collections import Counter
from datetime import date
from typing import TYPE_CHECKING, Any

from sqlalchemy import String, and_, cast, delete, or_, select, update

from cdrsync.errors import ConfigError
from cdrsync.store.schema.tables import call_day, cdr, cdr_change, checkpoint, erasure, metadata, number, reject
from cdrsync.store.schema.types import Exact
from cdrsync.store.spelling import readings

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from sqlalchemy import Column, ColumnElement, Table
    from sqlalchemy.engine import Connection

    from cdrsync.store.privacy.rules import Rules

LOOKED_AT = 6  # last digits by which the database finds texts that may hold the number
OTHERWISE = (cdr, cdr_change, reject, erasure, call_day, checkpoint)
"""Tables that are treated by themselves; checkpoints name the account's own numbers, as the configuration does."""

_SCRIPTS = [str.maketrans("0123456789", digits) for digits in ("٠١٢٣٤٥٦٧٨٩", "۰۱۲۳۴۵۶۷۸۹", "０１２３４５６７８９")]  # noqa: RUF001 - digits


def normal_form(wanted: str) -> str:
    """The number that a person gives. Raises ConfigError for what is neither one nor a mailbox (`V:` and e-mail)."""
    text = wanted.strip()
    if text[:2].upper() == "V:":
        return f"V:{text[2:].casefold()}"
    meant = readings(text)
    if not meant:
        raise ConfigError([f"{wanted!r} is no number"], hint="Write it as 07921255043, +33123456789 or V:NAME@HOST")
    return meant[0]


class Person:
    """One number in one account. `found` counts what was erased where."""

    def __init__(self, account_id: int, rules: Rules, meant: str) -> None:
        self.rules = rules
        self.found: Counter[str] = Counter()
        self._account_id = account_id
        last = [meant.removeprefix("V:")] if meant.startswith("V:") else [*meant[-LOOKED_AT:]]
        written = ["%".join(last), *("%".join(last).translate(digits) for digits in _SCRIPTS)]
        self._patterns = [f"%{digits}%" for digits in (*written, rules.stand_in) if digits]
        plain = [".*".join(map(re.escape, last)), *map(re.escape, filter(None, [rules.stand_in]))]
        # What is worth a closer look of numbers; the others are digits of other scripts, or written out (&#55;).
        self._worth = re.compile("|".join([*plain, "&", r"[^\x00-\x7f]"]), re.IGNORECASE | re.DOTALL)

    def forms(self, connection: Connection) -> Iterator[str]:
        """The ways in which calls have it."""
        for text in connection.execute(select(number.c.number)).scalars():
            if self._worth.search(text) and self.rules.text(text, date.max) != text:
                yield text

    def calls(self, forms: Collection[str]) -> ColumnElement[bool]:
        """The calls in which it may stand."""
        texts = (cdr.c.ref, cdr.c.alias, cdr.c.anumber_location, cdr.c.dialled_location, cdr.c.anumber, cdr.c.dialled)
        numbers = [column.in_(forms) for column in (cdr.c.anumber, cdr.c.dialled, cdr.c.bnumber)]
        return or_(*numbers, *map(self._may_hold, texts), self._may_hold(cdr.c.extra))

    def clean_texts(self, connection: Connection, forms: Collection[str]) -> None:
        """Take it out of the history of changes, and of every other table's words."""
        self.clean_history(connection)
        for table in metadata.sorted_tables:
            if "account_id" in table.c and table not in OTHERWISE:
                for column in table.c:
                    if isinstance(column.type, Exact) and not column.primary_key:
                        self._clean(connection, table, column)
        mine = and_(
            call_day.c.account_id == self._account_id,
            call_day.c.split.in_(("number", "number-month")),
            call_day.c.called_number.in_(forms),
        )
        connection.execute(delete(call_day).where(mine))  # their days are summed anew

    def _may_hold(self, column: Column[Any]) -> ColumnElement[bool]:
        return or_(*(cast(column, String).ilike(pattern) for pattern in self._patterns))

    def clean_history(self, connection: Connection) -> None:
        """Take it out of the history of changes."""
        may = or_(self._may_hold(cdr_change.c.old_value), self._may_hold(cdr_change.c.new_value))
        for row in connection.execute(select(cdr_change).where(cdr_change.c.account_id == self._account_id, may)).all():
            values = {}
            for name in ("old_value", "new_value"):
                before = getattr(row, name)
                after = self.rules.text(before, date.max)
                values[name] = None if row.column_name == "extra" and after != before else after
                if after != before:
                    self.found[f"cdr_change.{name}"] += 1
            here = (cdr_change.c.account_id == self._account_id, cdr_change.c.id == row.id)
            connection.execute(update(cdr_change).where(*here).values(values))

    def _clean(self, connection: Connection, table: Table, column: Column[Any]) -> None:
        keys = list(table.primary_key.columns)
        may = select(*keys, column.label("held")).where(table.c.account_id == self._account_id, self._may_hold(column))
        for row in connection.execute(may).all():
            after = self.rules.text(row.held, date.max)
            if after != row.held:
                here = [table.c.account_id == self._account_id, *(key == getattr(row, key.name) for key in keys)]
                connection.execute(update(table).where(*here).values({column.name: after}))
                self.found[f"{table.name}.{column.name}"] += 1
