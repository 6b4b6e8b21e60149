"""The statements of one grant, run as they are said. How a database lets somebody read stands in its file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from sqlalchemy.engine import Connection


@dataclass
class Grants:
    """A role and what it is to read, a connection, and what was `said` on it."""

    connection: Connection
    role: str
    quote_mark: str
    objects: Sequence[str]  # views, and tables where these are asked for
    views: Mapping[str, bool]  # every view of ours, and whether its rows are of accounts
    ours: Collection[str]  # every view and table of ours: the role may have been granted something on them before
    accounts: Sequence[str]  # whose rows alone; empty: all
    account_ids: Callable[[], list[int]]  # their numbers; raises UnknownAccount
    said: list[str] = field(default_factory=list)

    def quote(self, name: object) -> str:
        """A name as an identifier. SQLAlchemy's own would double per cent signs."""
        mark = self.quote_mark
        return mark + str(name).replace(mark, mark * 2) + mark

    def say(self, statement: str) -> None:
        # No parameters: quoted names may hold per cent signs and colons.
        self.connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
        self.said.append(statement)

    def ask(self, query: str, **values: object) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self.connection.execute(text(query), values)]

    def truth(self, condition: str) -> bool:
        """Whether a condition holds; `:role` in it is the role's name."""
        values = {"role": self.role} if ":role" in condition else {}
        return bool(self.connection.execute(text(f"SELECT {condition}"), values).scalar())
