"""Reading one answer set of the operator by `offset`, until it is proven that all of it is in hand. Pure."""

from __future__ import annotations

from itertools import pairwise
from operator import attrgetter
from typing import TYPE_CHECKING

from cdrsync.errors import NoProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from cdrsync.model import Batch, Cdr

_UID, _STARTED = attrgetter("uid"), attrgetter("started_at")

REPEATED_PAGES = 10
"""Pages in a row that brought nothing new, after which reading is given up. A few are normal where new calls push known
ones to higher offsets while pages are being read."""

STRANGE_ANSWERS = 2
"""How often an offset is asked again that was answered with records which do not belong to the question. What comes
then is believed: the operator means it."""

PASSES = 4
"""Passes through one set from its beginning, after which it is given up."""


class Offsets:
    """How far one answer set is read, in whatever order it comes, and whether that was all of it.

    An empty page ends it. That proves that everything is in hand where every page brought new records, or began with
    the last ones of the page before (new calls have pushed them to higher offsets). A page that brings nothing new may
    be the answer to an earlier question: the same offset is asked again, and only then are its records passed. Records
    that were seen before and were not pushed prove nothing: the set is then read once more from the beginning.

    Where calls arrive as fast as they are read the empty page never comes; then the end is proven by a page that is not
    full and holds only known records up to the last one (new calls have pushed them there), or by one in ascending
    order, above all before it, that has come to calls younger than the first answer.
    """

    def __init__(self, what: str, belongs: Callable[[Batch], bool] = lambda _: True) -> None:
        """`what` is asked, for messages; `belongs` says whether every record of an answer can be one to it."""
        self.position = 0  # the offset to ask next
        self.ended = False
        self._what = what
        self._belongs = belongs
        self._seen: set[int | str] = set()  # uids, and the raw text of rejects
        self._before: set[int | str] = set()  # what the reading before this one has seen
        self._last: list[int | str] = []  # the page before
        self._full = 0  # records of the largest page
        self._pages: set[int] = set()  # hashes of those that brought something new
        self._proven = True  # no record was seen again but those that new calls have pushed
        self._repeated = 0
        self._pushed = False  # one of the repeated pages was what new calls leave at the end
        self._passes = 0
        self._begun: datetime | None = None
        self._top = -1
        self._newest: datetime | None = None

    @property
    def doubtful(self) -> bool:
        """Whether the offset is asked again, so that nothing behind it can be guessed."""
        return self._repeated > 0

    def take(self, batch: Batch, answered_at: datetime) -> bool:
        """Move on by the records at `position`; answers whether they were believed. Raises NoProgress.

        A record that stands twice in a page counts once, lest the one behind it be skipped.
        """
        page: list[int | str] = list(dict.fromkeys(map(_UID, batch.cdrs)))
        page += dict.fromkeys(reject.raw for reject in batch.rejects)
        if not page:
            self._end()
            return True
        strangers = not self._belongs(batch)
        again = self._seen.intersection(page)
        known = len(again) == len(page)
        if known or (strangers and self._repeated < STRANGE_ANSWERS):
            return self._repetition(page, known=known)
        if again and page[: len(again)] != self._last[-len(again) :]:
            self._proven = False
        self._repeated, self._pushed, self._last = 0, False, page
        self._full = max(self._full, len(page))
        self._seen.update(page)
        self._pages.add(hash(tuple(page)))
        self.position += len(page)
        if self._arrivals(batch.cdrs, answered_at):
            self._end()
        return True

    def _repetition(self, page: list[int | str], *, known: bool) -> bool:
        """A page that brought nothing new, or another question's records."""
        self._repeated += 1
        if known and page != self._last and page[-1] == self._last[-1] and len(page) < self._full:
            self._pushed = True
        if self._repeated == 1:
            return False
        if known and self._pushed:
            self._end()
            return True
        if self._repeated > REPEATED_PAGES:
            raise NoProgress(f"the operator repeats the same records for {self._what}, whatever the offset")
        if known:  # pushed here by new calls, unless this very page was sent before
            self._proven = self._proven and hash(tuple(page)) not in self._pages
            self.position += len(page)
        return known

    def _end(self) -> None:
        """No more records: the end, or what is not proven to be everything is read once more to see whether it is."""
        self.ended = self._proven or self._seen <= self._before
        if self.ended:
            return
        self._passes += 1
        if self._passes == PASSES:
            raise NoProgress(f"the operator's records for {self._what} move while they are read")
        self._before, self._seen, self._last = self._seen, set(), []
        self._proven, self._pushed, self._repeated, self.position = True, False, 0, 0

    def _arrivals(self, cdrs: Sequence[Cdr], answered_at: datetime) -> bool:
        """Whether a page in ascending order has come to calls that were not there when reading began."""
        begun, top, newest = self._begun, self._top, self._newest
        self._begun = begun or answered_at
        if not cdrs:
            return False
        self._top = max(top, *map(_UID, cdrs))
        latest = max(map(_STARTED, cdrs))
        self._newest = latest if newest is None else max(newest, latest)
        if begun is None or newest is None or latest <= begun or len(cdrs) < 2:  # noqa: PLR2004 - one proves no order
            return False
        return (cdrs[0].uid > top and all(a.uid < b.uid for a, b in pairwise(cdrs))) or (
            cdrs[0].started_at > newest and all(a.started_at <= b.started_at for a, b in pairwise(cdrs))
        )


SIGNIFICANT_DIGITS = 9
"""Last digits by which a number is known again: of +441213691057, 01213691057 and 1213691057 they are the same."""


def of_number(number: str | None) -> Callable[[Batch], bool]:
    """Whether every call was made to a number, written with or without country code and leading zero."""
    if number is None:
        return lambda _: True
    last = number[-SIGNIFICANT_DIGITS:]
    return lambda batch: all(cdr.bnumber is not None and cdr.bnumber.endswith(last) for cdr in batch.cdrs)
