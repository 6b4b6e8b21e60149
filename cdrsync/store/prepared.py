"""A page and all that saving it needs and no database does, worked out while the page before it is being saved."""

from __future__ import annotations

from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from cdrsync.model import Cdr, Page
from cdrsync.store.changes import DayDelta, deltas, together
from cdrsync.store.schema.tables import NUMBER_LENGTH
from cdrsync.tuning import pause

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import date

    from cdrsync.model import NumberFacts
    from cdrsync.store.databases.port import Number, Rows
    from cdrsync.store.privacy.rules import Rules

    Facts = NumberFacts | tuple[None, None, None, None]

REMEMBERED = 20_000
"""Numbers known to be in the table: the last ones noted, at least so many of them and at most twice as many."""

PIECE = 200
"""Calls of which the forms are made in one go."""

_NOTHING = (None, None, None, None)
_UID = itemgetter(Cdr._fields.index("uid"))
_NUMBERS = tuple(itemgetter(Cdr._fields.index(name)) for name in ("anumber", "bnumber", "dialled"))


@dataclass(frozen=True, slots=True)
class Effect:
    """What new and changed calls mean for the tables beside theirs."""

    days: Mapping[date, DayDelta]  # what the ledger gains and loses
    numbers: Mapping[str, Facts]  # those in them that may not be in the table yet
    as_of: int  # `Numbers.forgotten` when that was worked out

    def joined(self, others: Sequence[Effect]) -> Effect:
        """The effect of all of them."""
        parts = [self, *others]
        return Effect(
            together(part.days for part in parts),
            {text: facts for part in parts for text, facts in part.numbers.items()},
            min(part.as_of for part in parts),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedPage(Page):
    """A page, and what `rules` leave of its calls."""

    rules: Rules
    calls: Mapping[int, Cdr]  # by uid, ascending; the last word on each
    forms: Mapping[int, Any]  # the same, as `Rows` takes them
    if_new: Effect | None  # of the calls if all of them are new; None where that is not expected

    @classmethod
    def of(
        cls, page: Page, *, rules: Rules, calls: Mapping[int, Cdr], forms: Mapping[int, Any], if_new: Effect | None
    ) -> PreparedPage:
        """The page, with what was worked out for it."""
        return cls(
            page.origin,
            page.cdrs,
            page.rejects,
            page.checkpoint,
            page.completes,
            page.size,
            rules=rules,
            calls=calls,
            forms=forms,
            if_new=if_new,
        )

    def joined(self, others: Sequence[Page]) -> Page:
        """What was worked out for the pages, for all of them together, unless erasures came between."""
        page = Page.joined(self, others)
        if not others or not all(isinstance(one, PreparedPage) and one.rules is self.rules for one in others):
            return page
        parts = [self, *(one for one in others if isinstance(one, PreparedPage))]
        parts.sort(key=lambda part: next(iter(part.calls), 0))
        calls = {uid: call for part in parts for uid, call in part.calls.items()}
        if len(calls) < sum(len(part.calls) for part in parts):
            return page  # a call that came twice would count twice
        forms = {uid: form for part in parts for uid, form in part.forms.items()}
        order = sorted(calls)  # which they mostly are: days follow each other
        if order != list(calls):
            calls = {uid: calls[uid] for uid in order}
            forms = {uid: forms[uid] for uid in order}
        effects = [part.if_new for part in parts if part.if_new is not None]
        return PreparedPage.of(
            page,
            rules=self.rules,
            calls=calls,
            forms=forms,
            if_new=effects[0].joined(effects[1:]) if len(effects) == len(parts) else None,
        )


def prepared(page: Page, rules: Rules, rows: Rows, known: Numbers | None) -> PreparedPage:
    """Work it out; with the numbers that are known, also the effect that the calls have if all of them are new.

    Raises ValueError or OverflowError for a call that the database can't hold.

    In the order of the primary key, databases write a third faster.
    """
    ascending = sorted(rules.apply(page.cdrs), key=_UID)
    calls = dict(zip(map(_UID, ascending), ascending, strict=True))
    return PreparedPage.of(
        page,
        rules=rules,
        calls=calls,
        forms=dict(zip(calls, _forms(rows, list(calls.values())), strict=True)),
        if_new=_if_new(calls.values(), known) if known else None,
    )


def _forms(rows: Rows, calls: Sequence[Cdr]) -> Iterator[Any]:
    """The calls as `rows` takes them, piece by piece: no other thread gets the interpreter within one."""
    for start in range(0, len(calls), PIECE):
        pause()
        yield from rows.forms(calls[start : start + PIECE])


def _if_new(calls: Collection[Cdr], known: Numbers) -> Effect:
    as_of = known.forgotten
    return Effect(deltas(calls, (), {}), known.unknown(numbers_of(calls)), as_of)


def numbers_of(calls: Collection[Cdr]) -> set[str | None]:
    """The distinct numbers of calls, and maybe None."""
    texts: set[str | None] = set()
    for column in _NUMBERS:
        texts.update(map(column, calls))
    return texts


class Numbers:
    """Which numbers are in the table, as far as is remembered, and what those that are not have to say there.

    One thread may ask while another notes: at worst a number is asked for that was noted just now.
    """

    def __init__(self, classify: Callable[[str], NumberFacts] | None) -> None:
        self._classify = classify
        self._recent: dict[str, None] = {}  # a set would take twice as much memory
        self._earlier: dict[str, None] = {}
        self.forgotten = 0  # how often: what was known before is not any more

    def unknown(self, texts: Iterable[str | None]) -> dict[str, Facts]:
        """What the table will say of those that may not be in it yet. What is too long for a number is none."""
        recent, earlier, classify = self._recent, self._earlier, self._classify
        return {
            text: classify(text) if classify else _NOTHING
            for text in texts
            if text is not None and text not in recent and text not in earlier and len(text) <= NUMBER_LENGTH
        }

    def rows(self, found: Mapping[str, Facts]) -> list[Number]:
        """Rows of those that have not been noted since, in an order that can't deadlock with other accounts."""
        recent, earlier = self._recent, self._earlier
        unknown = sorted(text for text in found if text not in recent and text not in earlier)
        return [(text, *found[text]) for text in unknown]

    def noted(self, rows: Iterable[Number]) -> None:
        """They are in the table now."""
        self._recent.update((row[0], None) for row in rows)
        if len(self._recent) > REMEMBERED:
            self._recent, self._earlier = {}, self._recent

    def forget(self) -> None:
        """Any of them may have gone."""
        self._recent, self._earlier = {}, {}
        self.forgotten += 1
