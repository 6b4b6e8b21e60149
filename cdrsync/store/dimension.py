"""The dimension `number`: what each distinct number is, worked out once per number, never per call.

`save` adds a page's new numbers with their facts, in the transaction of their calls. When the numbering rules change
(a new release of their library), `refresh` works the old rows out anew, in short transactions, while others write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import bindparam, or_, select, update

from cdrsync.store.engine import WRITER, translated
from cdrsync.store.tables import number

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Select
    from sqlalchemy.engine import Engine

    from cdrsync.model import NumberFacts

FINAL = "final"
"""Stands for the rules' version of a number that no rules can classify anew: a pseudonym."""


def refresh(engine: Engine, classify: Callable[[str], NumberFacts], rules_version: str, batch: int = 1000) -> int:
    """Classify the numbers that other rules classified, or none yet; answers how many.

    Each batch is written in a transaction of its own, with nothing but the writing in it: others hardly wait, and
    after an interruption the rest is done the next time. Raises DatabaseUnavailable; ValueError where `classify` knows
    other rules than these.
    """
    # Once more from the beginning: numbers may have come in behind the first pass.
    return sum(_pass(engine, classify, rules_version, batch) for _ in range(2))


def _pass(engine: Engine, classify: Callable[[str], NumberFacts], rules_version: str, batch: int) -> int:
    done = 0
    last: str | None = None
    while True:
        stale = _stale(rules_version).limit(batch)
        if last is not None:
            stale = stale.where(number.c.number > last)
        with translated(), engine.connect() as connection:
            texts = list(connection.execute(stale).scalars())
        if not texts:
            return done
        rows = [{"of_number": text, **classify(text)._asdict()} for text in texts]
        known = {row["rules_version"] for row in rows}
        if known != {rules_version}:
            raise ValueError(f"asked for rules {rules_version}, but classify knows {', '.join(map(str, known))}")
        with translated(), engine.connect() as connection, connection.execution_options(**{WRITER: True}).begin():
            connection.execute(_CLASSIFY, rows)
        done, last = done + len(texts), texts[-1]


def _stale(rules_version: str) -> Select[str]:
    done = number.c.rules_version.in_((rules_version, FINAL))
    return select(number.c.number).where(or_(number.c.rules_version.is_(None), ~done)).order_by(number.c.number)


_CLASSIFY = (
    update(number)
    .where(number.c.number == bindparam("of_number"))
    .values({name: bindparam(name) for name in ("e164", "kind", "region", "rules_version")})
)
