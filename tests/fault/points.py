"""The named points of the write path, from the question to the commit, at which a process can be killed.

The product carries no hooks: its functions are wrapped from outside, here. `test_campaign` proves that each of them is
passed by an ordinary sync, so that a renamed function can't make a point silently disappear.

    asking → request → received → decoded → answered          one document of the API
    saving → begun → compared → inserted → rewritten → written → ledger → completed → rejected → moved
           → commit → committed → saved                       one transaction of the store
    statement, executed                                       before and after any SQL statement, migrations included
    row                                                       amid a COPY (PostgreSQL)
    lease                                                     the lease was just taken
"""

from __future__ import annotations

import importlib
from functools import wraps
from typing import TYPE_CHECKING, Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Callable

    Reached = Callable[[str], None]
    SetAttribute = Callable[[Any, str, Any], None]

_CROSSINGS = (  # where, which function, the point before it, the point after it
    ("cdrsync.source.api:NoveroApi", "ask", "asking", "answered"),
    ("cdrsync.source.api:NoveroApi", "_answered", "request", "received"),
    ("cdrsync.source.exchange:Exchange", "_decoded", "", "decoded"),
    ("cdrsync.store.save:SqlStore", "save", "saving", "saved"),
    ("cdrsync.store.save:SqlStore", "_write", "begun", "written"),
    ("cdrsync.store.save:SqlStore", "_count", "", "ledger"),
    ("cdrsync.store.save:SqlStore", "_complete", "", "completed"),
    ("cdrsync.store.rejects:Rejects", "write", "", "rejected"),
    ("cdrsync.store.save:SqlStore", "_move", "", "moved"),
    ("cdrsync.store.save:", "compare", "", "compared"),
    ("cdrsync.store.save:", "write_back", "", "rewritten"),
    ("cdrsync.store.replica:Replica", "_take_ids", "", "lease"),
    ("sqlalchemy.engine.default:DefaultDialect", "do_commit", "commit", "committed"),
)
_OF_A_DATABASE = {
    "sqlite": (("cdrsync.store.databases.sqlite:Sqlite", "insert", "", "inserted"),),
    "postgresql": (
        ("cdrsync.store.databases.postgresql:Postgresql", "insert", "", "inserted"),
        ("psycopg:Copy", "write_row", "", "row"),
    ),
    "mariadb": (("cdrsync.store.databases.mysql:Mysql", "insert", "", "inserted"),),
}


def names(kind: str) -> tuple[str, ...]:
    """Every point that a sync into this kind of database passes, in the order of the table above."""
    crossings = (*_CROSSINGS, *_OF_A_DATABASE[kind])
    return (*(point for *_, before, after in crossings for point in (before, after) if point), "statement", "executed")


def watch(kind: str, reached: Reached, set_attribute: SetAttribute = setattr) -> Callable[[], None]:
    """Call `reached(point)` at every passing. Returns what ends the watch on statements.

    `set_attribute` is pytest's `monkeypatch.setattr` where the wrapping must be undone.
    """
    for where, name, before, after in (*_CROSSINGS, *_OF_A_DATABASE[kind]):
        module, _, owner = where.partition(":")
        found = importlib.import_module(module)
        holder = getattr(found, owner) if owner else found
        set_attribute(holder, name, _wrapped(getattr(holder, name), before, after, reached))

    def before_statement(*_: Any) -> None:
        reached("statement")

    def after_statement(*_: Any) -> None:
        reached("executed")

    event.listen(Engine, "before_cursor_execute", before_statement)
    event.listen(Engine, "after_cursor_execute", after_statement)

    def end() -> None:
        event.remove(Engine, "before_cursor_execute", before_statement)
        event.remove(Engine, "after_cursor_execute", after_statement)

    return end


def _wrapped(function: Callable[..., Any], before: str, after: str, reached: Reached) -> Callable[..., Any]:
    @wraps(function)
    def watched(*args: Any, **kwargs: Any) -> Any:
        if before:
            reached(before)
        result = function(*args, **kwargs)
        if after:
            reached(after)
        return result

    return watched
