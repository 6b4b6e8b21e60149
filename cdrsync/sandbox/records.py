"""The records of one login, indexed: a page or a total out of a million costs no more than out of a thousand."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING

from cdrsync.sandbox.calls import Totals
from cdrsync.sandbox.render import record, special

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cdrsync.sandbox.calls import Call


@dataclass(slots=True)
class _Sums:
    answered: int = 0
    missed: int = 0
    voicemail: int = 0
    seconds: int = 0
    charge: Decimal = Decimal(0)

    def count(self, call: Call, sign: int) -> None:
        setattr(self, call.kind, getattr(self, call.kind) + sign)
        self.seconds += sign * call.duration
        self.charge += sign * call.user_cost


@dataclass(frozen=True, slots=True)
class Query:
    """The parameters of GetCDRs; days as yyyy-mm-dd, both included."""

    limit: int = 10
    offset: int = 0
    last_id: int | None = None
    first_day: str | None = None
    last_day: str | None = None
    number: str | None = None


def national(number: str) -> str:
    """The account's own spelling of a number: without the leading 0."""
    return number.removeprefix("0")


class _Uids:
    """Visible uids, ascending, overall and by day. Late ones are put in their place."""

    def __init__(self) -> None:
        self.all: list[int] = []
        self.days: list[str] = []
        self.by_day: dict[str, list[int]] = {}
        self.sums: dict[str, _Sums] = defaultdict(_Sums)

    def add(self, call: Call) -> None:
        if call.calldate not in self.by_day:
            self.by_day[call.calldate] = []
            insort(self.days, call.calldate)
        for uids in (self.all, self.by_day[call.calldate]):
            if uids and uids[-1] > call.uid:
                insort(uids, call.uid)
            else:
                uids.append(call.uid)
        self.sums[call.calldate].count(call, 1)

    def remove(self, call: Call) -> None:
        for uids in (self.all, self.by_day[call.calldate]):
            del uids[bisect_left(uids, call.uid)]
        self.sums[call.calldate].count(call, -1)

    def between(self, first: str | None, last: str | None) -> list[str]:
        start = 0 if first is None else bisect_left(self.days, first)
        stop = len(self.days) if last is None else bisect_right(self.days, last)
        return self.days[start:stop]


class Records:
    """Calls of one login by uid, visible or not yet, and the indexes over the visible ones."""

    def __init__(self) -> None:
        self.calls: dict[int, Call] = {}
        self._visible = _Uids()
        self._by_number: dict[str, _Uids] = defaultdict(_Uids)
        self._by_ref: dict[str, int] = {}
        self._special: dict[int, str] = {}
        self._hidden: set[int] = set()

    def add(self, call: Call, *, visible: bool) -> None:
        """Take a call in. An invisible one waits for `show`."""
        self.calls[call.uid] = call
        if (xml := special(call)) is not None:
            self._special[call.uid] = xml
        self._hidden.add(call.uid)
        if visible:
            self.show(call.uid)

    def show(self, uid: int) -> bool:
        """Make a call visible; False where it is gone or already visible."""
        if uid not in self._hidden:
            return False
        self._hidden.discard(uid)
        call = self.calls[uid]
        self._visible.add(call)
        self._by_number[call.bnumber or ""].add(call)
        if call.ref is not None:
            self._by_ref[call.ref] = uid
        return True

    def remove(self, uid: int) -> Call:
        """Forget a call, visible or not. Raises KeyError where there is none."""
        call = self.calls.pop(uid)
        self._special.pop(uid, None)
        if uid in self._hidden:
            self._hidden.discard(uid)
        else:
            self._visible.remove(call)
            self._by_number[call.bnumber or ""].remove(call)
            if call.ref is not None:
                self._by_ref.pop(call.ref, None)
        return call

    def replace(self, call: Call) -> None:
        """A changed call under the same uid."""
        visible = call.uid not in self._hidden
        self.remove(call.uid)
        self.add(call, visible=visible)

    def is_visible(self, uid: int) -> bool:
        return uid in self.calls and uid not in self._hidden

    def by_ref(self, ref: str) -> int | None:
        """The uid of a visible call with this ref."""
        return self._by_ref.get(ref)

    @property
    def visible_uids(self) -> Sequence[int]:
        """Ascending."""
        return self._visible.all

    def xml(self, uids: Sequence[int]) -> list[str]:
        calls, specials = self.calls, self._special
        if not specials:
            return [record(calls[uid]) for uid in uids]
        return [specials.get(uid) or record(calls[uid]) for uid in uids]

    def after(self, query: Query) -> list[int]:
        """Uids of the page after `last_id`, ascending."""
        start, uids = self._from(query)
        return uids[start + query.offset : start + query.offset + query.limit]

    def newest_after(self, query: Query) -> list[int]:
        """Like `after`, but the newest page first, descending."""
        start, uids = self._from(query)
        stop = max(start, len(uids) - query.offset)
        return uids[max(start, stop - query.limit) : stop][::-1]

    def by_days(self, query: Query, *, descending: bool) -> list[int]:
        """Uids of a page asked by date, in order of day and uid."""
        return list(islice(self._walk(query, descending=descending), query.limit))

    def _walk(self, query: Query, *, descending: bool) -> Iterator[int]:
        """Uids from `offset` on; whole days are skipped without being looked at."""
        index = self._index(query.number)
        days = index.between(query.first_day, query.last_day)
        skip = query.offset
        for day in reversed(days) if descending else days:
            uids = index.by_day[day]
            if query.last_id is not None:
                uids = uids[bisect_right(uids, query.last_id) :]
            if skip >= len(uids):
                skip -= len(uids)
                continue
            yield from uids[::-1][skip:] if descending else uids[skip:]
            skip = 0

    def _from(self, query: Query) -> tuple[int, list[int]]:
        uids = self._index(query.number).all
        return (0 if query.last_id is None else bisect_right(uids, query.last_id)), uids

    def _index(self, number: str | None) -> _Uids:
        if number is None:
            return self._visible
        return self._by_number.get(national(number), _NOTHING)

    def totals(self, first: str | None, last: str | None, number: str | None = None) -> Totals:
        """Exact sums over days, both included; None is without end."""
        index = self._index(number)
        days = [index.sums[day] for day in index.between(first, last)]
        return Totals(
            sum(day.answered for day in days),
            sum(day.missed for day in days),
            sum(day.voicemail for day in days),
            sum(day.seconds for day in days),
            sum((day.charge for day in days), Decimal(0)),
        )


_NOTHING = _Uids()
