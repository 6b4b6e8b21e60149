"""What is new about a call that is held already, and what a page means for the ledger of days. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain, groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from cdrsync.errors import SequenceReset
from cdrsync.model import FLAGS, Cdr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import date

_UID = itemgetter(Cdr._fields.index("uid"))
_DAY, _DURATION, _COST = (itemgetter(Cdr._fields.index(name)) for name in ("call_date", "duration", "user_cost"))
_FLAGS = tuple((name, Cdr._fields.index(name)) for name in FLAGS)


class Change(NamedTuple):
    """A known value of a call that became another: one row of cdr_change."""

    uid: int
    column_name: str
    old_value: str | None
    new_value: str | None


@dataclass(slots=True)
class DayDelta:
    """What a page adds to a day of the ledger, or takes from it."""

    calls: int = 0
    duration: int = 0  # seconds
    charge: Decimal = Decimal(0)  # pounds

    def add(self, calls: int, duration: int, charge: Decimal) -> None:
        """Add calls, or take negative ones away."""
        self.calls += calls
        self.duration += duration
        self.charge += charge


def apply(stored: Mapping[int, Cdr], calls: Mapping[int, Cdr]) -> tuple[list[Cdr], list[Change]]:
    """Merge the page's calls with the stored ones that differ: the calls to write, and the history of their changes.

    A flag that is absent never overwrites a known one; a value that becomes known is no change of a known value.
    """
    merged: list[Cdr] = []
    history: list[Change] = []
    for uid, old in stored.items():
        new = with_known_flags(calls[uid], old)
        if new == old:
            continue
        merged.append(new)
        history.extend(_between(old, new))
    return merged, history


REPLACED_HINT = (
    "Ask the operator. If it put the one in the place of the other: cdrsync fetch --account NAME --uid N --replace, "
    "its daemon stopped, takes that over, keeps the values of before in cdr_change, and the account goes on. Else: "
    f"{SequenceReset.default_hint}"
)
TWO_CALLS_HINT = (
    "Ask the operator which of the two it is, and to give the other one a uid of its own. Nothing of the answer was "
    "stored; once it has one call of each uid, cdrsync account retry NAME goes on at once"
)


def refuse_others(stored: Mapping[int, Cdr], changed: Iterable[Cdr]) -> None:
    """Raise SequenceReset where a changed call is another one than that which is stored by its uid."""
    for new in changed:
        _refuse_another(stored[new.uid], new, REPLACED_HINT)


def _refuse_another(old: Cdr, new: Cdr, hint: str) -> None:
    """Raise SequenceReset where the uid of a call is now another call's."""
    if None not in (new.ref, old.ref) and new.ref != old.ref and new.started_at != old.started_at:
        raise SequenceReset(
            f"uid {new.uid} was the call {old.ref} of {old.started_at:%Y-%m-%d %H:%M:%S} UTC and now is {new.ref} of "
            f"{new.started_at:%Y-%m-%d %H:%M:%S} UTC: the operator's uids have fallen, or two calls have one",
            hint=hint,
        )


def last_words(calls: Sequence[Cdr]) -> dict[int, Cdr]:
    """Each call once, by uid, as the last of those of its uid says it. A flag that this one leaves out is kept.

    Raises SequenceReset where a uid is that of two calls.
    """
    last = dict(zip(map(_UID, calls), calls, strict=True))
    if len(last) == len(calls):  # as nearly always
        return last
    last.clear()
    for call in calls:
        before = last.get(call.uid)
        if before:
            _refuse_another(before, call, TWO_CALLS_HINT)
        last[call.uid] = with_known_flags(call, before) if before else call
    return last


def said_again(calls: Sequence[Cdr], held: Callable[[int], Cdr | None]) -> dict[int, list[Change]]:
    """The history of the calls of which a page says several things, by uid: as if each had come by itself.

    `held` gives the stored call of a uid.
    """
    last: dict[int, Cdr] = {}
    history: dict[int, list[Change]] = {}
    counts = Counter(map(_UID, calls))
    for call in calls:
        if counts[call.uid] > 1:
            before = last.get(call.uid) or held(call.uid)
            last[call.uid] = now = with_known_flags(call, before) if before else call
            history.setdefault(call.uid, []).extend(_between(before, now) if before else ())
    return history


def _between(old: Cdr, new: Cdr) -> Iterator[Change]:
    for name, before, after in zip(Cdr._fields, old, new, strict=True):
        if before is not None and before != after:
            yield Change(new.uid, name, as_text(before), as_text(after))


def with_known_flags(new: Cdr, old: Cdr) -> Cdr:
    """Give a call the flags that are known where it says nothing."""
    known: dict[str, Any] = {name: old[index] for name, index in _FLAGS if new[index] is None}
    return new._replace(**known) if known else new


def deltas(new: Iterable[Cdr], changed: Sequence[Cdr], stored: Mapping[int, Cdr]) -> dict[date, DayDelta]:
    """What the ledger of each day gains and loses. A changed call leaves its old day and enters its new one."""
    days: defaultdict[date, DayDelta] = defaultdict(DayDelta)
    for day, calls, duration, charge in _by_day(chain(new, changed)):
        days[day].add(calls, duration, charge)
    for day, calls, duration, charge in _by_day(stored[call.uid] for call in changed):
        days[day].add(-calls, -duration, -charge)
    return days


def _by_day(calls: Iterable[Cdr]) -> Iterator[tuple[date, int, int, Decimal]]:
    """Count and sum the calls of one day that follow each other, as most of a page do."""
    for day, some in groupby(calls, _DAY):
        of_day = list(some)
        yield day, len(of_day), sum(map(_DURATION, of_day)), sum(map(_COST, of_day), Decimal(0))


def as_text(value: object) -> str | None:
    """A value for the history: true and false, plain decimals, ISO dates, everything else as it is."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        text = f"{value:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return str(value)
