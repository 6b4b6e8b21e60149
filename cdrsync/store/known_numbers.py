"""Which numbers the table has, as far as is remembered, and what it is to say of the others."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING

from cdrsync.model import Cdr
from cdrsync.store.schema.tables import NUMBER_LENGTH
from cdrsync.store.spelling import OPERATOR, UNKNOWN, kind_by_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cdrsync.store.databases.port import Number
    from cdrsync.store.spelling import NumberFacts

REMEMBERED = 40_000
"""More than this, and what is remembered is forgotten: a number that comes twice is left alone in the table."""

_NOTHING = (None,) * 7
_NUMBERS = tuple(itemgetter(Cdr._fields.index(name)) for name in ("anumber", "bnumber", "dialled"))
_WORDS = tuple(
    (itemgetter(Cdr._fields.index(name)), itemgetter(Cdr._fields.index(f"{name}_location")))
    for name in ("anumber", "dialled")
)


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
        if self._classify is None:
            return [(text, *_NOTHING) for text in new]
        facts = {text: self._classify(text) for text in new}
        self._ask_the_operator(calls, facts)
        return [(text, *facts[text]) for text in new]

    @staticmethod
    def _ask_the_operator(calls: Sequence[Cdr], facts: dict[str, NumberFacts]) -> None:
        """Where the public plans know no kind, the operator's words for a number do."""
        left = {text for text, known in facts.items() if known.kind == UNKNOWN}
        for number, words in _WORDS if left else ():
            for text, said in dict.fromkeys(zip(map(number, calls), map(words, calls), strict=True)):
                if text in left and (kind := kind_by_words(text, said or "")):
                    facts[text] = facts[text]._replace(kind=kind, kind_source=OPERATOR)
                    left.discard(text)

    def noted(self, rows: Iterable[Number]) -> None:
        """They are in the table now."""
        if len(self._known) > REMEMBERED:
            self._known = set()
        self._known.update(row[0] for row in rows)

    def forget(self) -> None:
        """Any of them may have gone."""
        self._known = set()
