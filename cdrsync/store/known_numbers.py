"""Which numbers the table has, as far as is remembered, and what it is to say of the others."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

from cdrsync.model import Cdr
from cdrsync.store.schema.tables import NUMBER_LENGTH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cdrsync.model import NumberFacts
    from cdrsync.store.databases.port import Number

REMEMBERED = 40_000
"""More than this, and what is remembered is forgotten: a number that comes twice is left alone in the table."""

_NOTHING = (None, None, None, None)
_NUMBERS = tuple(itemgetter(Cdr._fields.index(name)) for name in ("anumber", "bnumber", "dialled"))


class KnownNumbers:
    """Numbers that the last pages have written."""

    def __init__(self, classify: Callable[[str], NumberFacts] | None) -> None:
        self._classify = classify
        self._known: set[str] = set()

    def rows(self, calls: Sequence[Cdr]) -> list[Number]:
        """Rows for the calls' other numbers, in an order that can't deadlock with other accounts.

        What is too long for a number is none.
        """
        texts: set[str | None] = set()
        for column in _NUMBERS:
            texts.update(map(column, calls))
        new = sorted(text for text in texts - self._known if text is not None and len(text) <= NUMBER_LENGTH)
        return [(text, *(self._classify(text) if self._classify else _NOTHING)) for text in new]

    def noted(self, rows: Iterable[Number]) -> None:
        """They are in the table now."""
        if len(self._known) > REMEMBERED:
            self._known = set()
        self._known.update(row[0] for row in rows)

    def forget(self) -> None:
        """Any of them may have gone."""
        self._known = set()
