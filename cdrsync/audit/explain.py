"""Which calls of a day are held, and which the operator lists: the names behind a gap."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from cdrsync.audit.figures import Figures
from cdrsync.model import Cdr, Gap, Origin, Reject, Window
from cdrsync.sync.windows import EndDates, window_pages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cdrsync.audit.ports import Ledger
    from cdrsync.sync.ports import Source

NAMED = 5  # uids that a problem names


@dataclass(frozen=True, slots=True)
class Explanation:
    """A day's calls, compared one by one. Suspects are held, and the operator does not list them."""

    day: date
    held: int
    listed: int  # readable calls
    suspects: list[Cdr]
    missing: list[Cdr]  # listed, not held
    different: list[tuple[Cdr, Cdr]]  # held and listed with another duration or cost
    unreadable: list[Reject]

    @property
    def agrees(self) -> bool:
        """Whether every readable call of the day is held as it is listed, and no other."""
        return not (self.suspects or self.missing or self.different)


def explain(source: Source, ledger: Ledger, numbers: Sequence[str | None], day: date, page_size: int) -> Explanation:
    """Read a day without storing anything, and compare it with what is held."""
    pages = window_pages(
        source,
        iter([Window(day, day)]),
        origin=Origin.HEAL,
        limit=page_size,
        numbers=numbers,
        completes_before=date.min,
        end_dates=EndDates(),
    )
    listed: dict[int, Cdr] = {}
    unreadable: dict[str, Reject] = {}
    for page in pages:
        listed |= {cdr.uid: cdr for cdr in page.cdrs if cdr.call_date == day}
        unreadable |= {reject.raw: reject for reject in page.rejects}
    held = {cdr.uid: cdr for cdr in ledger.calls_of(day)}
    both = [(held[uid], listed[uid]) for uid in sorted(held.keys() & listed.keys())]
    return Explanation(
        day,
        len(held),
        len(listed),
        [held[uid] for uid in sorted(held.keys() - listed.keys())],
        [listed[uid] for uid in sorted(listed.keys() - held.keys())],
        [(a, b) for a, b in both if (a.duration, a.user_cost) != (b.duration, b.user_cost)],
        list(unreadable.values()),
    )


def suspects(gap: Gap, listed: Mapping[date, Mapping[int, Cdr]], ledger: Ledger) -> list[Gap]:
    """The gap, or the days of it whose suspects explain all of it: a few calls should not paint a week red.

    `listed`: the calls by uid that the operator listed of the days that were read again.
    """
    if gap.excess is None or gap.excess.calls <= 0:
        return [gap]
    parts: list[Gap] = []
    left = gap.excess
    for day in sorted(day for day in listed if day in gap.window):
        found = [cdr for cdr in ledger.calls_of(day) if cdr.uid not in listed[day]]
        if found:
            excess = Figures.of_calls(found).excess
            left = left.less(excess)
            uids = ", ".join(str(cdr.uid) for cdr in found[:NAMED]) + (", …" if len(found) > NAMED else "")
            many = "1 call is" if len(found) == 1 else f"{len(found)} calls are"
            parts.append(Gap(Window(day, day), f"{many} held that the operator does not list: uid {uids}", excess))
    return parts if parts and not left.calls else [gap]
