"""Held against stated: the arithmetic of an audit, pure.

GetTotals does not say how a call is sorted into answered, missed and voicemail, what the unit of MinsTotalNoFormat is,
nor how it rounds. So an undocumented figure has several meanings, and what is held has to agree with one of them. A
meaning that once decided an agreement by itself is *established*: from then on it is the only one. Only
"answered+missed" can be taken back: missing calls of voicemail may have made it look right, so it gives way to what
agrees in every figure with voicemail counted by itself.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING

from cdrsync.model import Excess

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cdrsync.model import Cdr, Totals

PENNY = Decimal("0.01")
"""Charges agree when they differ by less: totals show two decimals, costs three, and the rounding is not documented."""

SECONDS_PER_MINUTE = 60

BY_ITSELF, AMONG_OTHERS = CALLS_MEANINGS = ("answered+missed+voicemail", "answered+missed")
"""Voicemail is counted by itself, or among the others."""

SECONDS_IN = {"seconds": 1, "minutes": SECONDS_PER_MINUTE}
"""The units that MinsTotalNoFormat may have."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Number of calls, their duration (seconds) and charge (pounds, exact)."""

    calls: int = 0
    duration: int = 0
    charge: Decimal = Decimal(0)

    @classmethod
    def of_calls(cls, cdrs: Iterable[Cdr]) -> Figures:
        return sum((cls(1, cdr.duration, cdr.user_cost) for cdr in cdrs), cls())

    @property
    def excess(self) -> Excess:
        """These as what is too much."""
        return Excess(self.calls, self.duration, self.charge)

    def __add__(self, other: Figures) -> Figures:
        return Figures(self.calls + other.calls, self.duration + other.duration, self.charge + other.charge)

    def __sub__(self, other: Figures) -> Figures:
        return Figures(self.calls - other.calls, self.duration - other.duration, self.charge - other.charge)


@dataclass(frozen=True, slots=True)
class Interpretation:
    """What the undocumented figures mean, as far as earlier agreements established it; None: not yet."""

    calls: str | None = None
    duration: str | None = None

    def __str__(self) -> str:
        """How it is stored with a verdict: `calls=answered+missed+voicemail duration=seconds`."""
        known = (("calls", self.calls), ("duration", self.duration))
        return " ".join(f"{name}={meaning}" for name, meaning in known if meaning is not None)

    @classmethod
    def parse(cls, text: str | None) -> Interpretation:
        """What `str` made. Unknown words are ignored: an older or newer program may have written them."""
        found = dict(re.findall(r"(\w+)=(\S+)", text or ""))
        calls, duration = found.get("calls"), found.get("duration")
        return cls(
            calls if calls in CALLS_MEANINGS else None,
            duration if duration in SECONDS_IN else None,
        )

    def or_else(self, other: Interpretation) -> Interpretation:
        """This one, and the other's where nothing is established here."""
        return Interpretation(self.calls or other.calls, self.duration or other.duration)


@dataclass(frozen=True, slots=True)
class Stated:
    """What the operator states of some days. None: not readable, or its meaning is not established."""

    calls: int | None
    duration: int | None  # seconds
    charge: Decimal | None  # pounds

    @classmethod
    def of(cls, totals: Totals, meant: Interpretation) -> Stated:
        """GetTotals under an interpretation. Where none of the counts is established, all three are added up."""
        parts = [totals.answered, totals.missed, *([] if meant.calls == AMONG_OTHERS else [totals.voicemail])]
        minutes, factor = totals.minutes_no_format, SECONDS_IN.get(meant.duration or "")
        return cls(
            None if None in parts else sum(part or 0 for part in parts),
            None if minutes is None or factor is None else int(minutes * factor),
            totals.charge,
        )

    def less(self, other: Stated) -> Stated:
        """These days without the other's."""
        return Stated(
            None if self.calls is None or other.calls is None else self.calls - other.calls,
            None if self.duration is None or other.duration is None else self.duration - other.duration,
            None if self.charge is None or other.charge is None else self.charge - other.charge,
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """What one GetTotals answer says of what is held.

    `unusable` says why nothing can be said; then it neither agrees nor disagrees. `differences` is empty where all
    agrees. `remarks` differ too, but rest on an undocumented meaning alone and are no reason for an alarm.
    """

    held: Figures
    differences: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    unusable: tuple[str, ...] = ()
    interpretation: Interpretation = field(default_factory=Interpretation)
    excess: Excess | None = None  # of what is held, where it differs

    @property
    def agrees(self) -> bool:
        """Whether the operator's figures were readable and are those of what is held."""
        return not self.differences and not self.unusable


def compare(held: Figures, totals: Totals, established: Interpretation) -> Comparison:
    """Compare one period. Figures that the operator did not send readably make it unusable, never an agreement."""
    if totals.answered is None or totals.missed is None or totals.voicemail is None or totals.charge is None:
        return Comparison(held, unusable=totals.unusable or ("figures are missing",))
    charge, minutes = held.charge - totals.charge, totals.minutes_no_format
    units = [unit for unit in _units(held.duration, minutes) if established.duration in (None, unit)]
    rest_agrees = bool(units) and abs(charge) < PENNY
    others = totals.answered + totals.missed
    sums = {BY_ITSELF: others + totals.voicemail, AMONG_OTHERS: others}
    counts = [meaning for meaning, number in sums.items() if number == held.calls]
    # A call of voicemail that is missing looks like one counted among the others; only its duration tells.
    believed = established.calls or (None if rest_agrees else BY_ITSELF)
    if believed is not None and not (rest_agrees and counts == [BY_ITSELF]):
        counts = [meaning for meaning in counts if meaning == believed]
    calls = 0 if counts else held.calls - sums[believed or BY_ITSELF]
    seconds = held.duration - int(minutes) if minutes is not None and established.duration == "seconds" else None
    differences: list[str] = []
    remarks: list[str] = []
    if not counts:
        number = "1 call" if abs(calls) == 1 else f"{abs(calls)} calls"
        parts = f"{totals.answered} answered, {totals.missed} missed, {totals.voicemail} voicemail"
        fewer = "more" if calls > 0 else "fewer"
        differences.append(f"{number} {fewer} than the operator counts: {held.calls} held, {parts}")
    if abs(charge) >= PENNY:
        figures = f"£{held.charge.normalize():f} held, £{totals.charge:f} stated"
        differences.append(f"£{abs(charge).normalize():f} {_more(charge)} than the operator states: {figures}")
    if not units and minutes is not None:
        text = f"{held.duration} seconds held, MinsTotalNoFormat is {minutes.normalize():f}"
        if seconds:
            number = "1 second" if abs(seconds) == 1 else f"{abs(seconds)} seconds"
            text = f"{number} {_more(seconds)} than the operator states: {text}"
        (remarks if established.duration is None else differences).append(text)
    if differences:
        excess = Excess(calls, seconds, charge)
        return Comparison(held, tuple(differences), tuple(remarks), interpretation=established, excess=excess)
    known = Interpretation(counts[0] if len(counts) == 1 else None, units[0] if len(units) == 1 else None)
    return Comparison(held, (), tuple(remarks), interpretation=known.or_else(established))


def _more(number: Decimal | int) -> str:
    return "more" if number > 0 else "less"


def _units(held: int, stated: Decimal | None) -> list[str]:
    """The units of MinsTotalNoFormat that agree with what is held. Minutes may be rounded either way."""
    if stated is None:
        return []
    units = []
    if stated == held:
        units.append("seconds")
    if abs(stated * SECONDS_PER_MINUTE - held) < SECONDS_PER_MINUTE:
        units.append("minutes")
    return units


_IN_RAW = {
    name: (re.compile(rf"<{name}>\s*([^<]*?)\s*</{name}>"), re.compile(form))
    for name, form in {
        "calldate": "[0-9]{4}-[0-9]{2}-[0-9]{2}",
        "duration": "[0-9]{1,10}",
        "user_cost": r"-?[0-9]{1,9}(?:\.[0-9]{1,6})?",
    }.items()
}
"""Where a record's figures stand, and what is one: NaN, 1E99999 or a thousand digits are none."""


def of_raw(raw: str) -> tuple[date | None, Figures]:
    """The day and the figures of a record in quarantine, as far as they can be read; None: no such day."""
    texts = {
        name: one[1] for name, (place, form) in _IN_RAW.items() if (one := place.search(raw)) and form.fullmatch(one[1])
    }
    day = None
    with contextlib.suppress(ValueError):
        day = date.fromisoformat(texts.get("calldate", ""))
    return day, Figures(1, int(texts.get("duration", 0)), Decimal(texts.get("user_cost", 0)))
