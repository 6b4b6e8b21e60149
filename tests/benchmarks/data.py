"""Call records for benchmarks: the same for the same arguments, believable, and in the operator's printed shape.

A `Call` holds what a correct program must have in its table afterwards; `render` gives the bytes that carried it.
Shares no code with cdrsync: the comparison would prove nothing otherwise.
"""

from __future__ import annotations

import itertools
import random
from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

LONDON = ZoneInfo("Europe/London")
FIRST_UID = 106_398_335  # the one on the operator's page
DEFAULT_SEED = 20130803
UNFLAGGED_SHARE = 0.1  # of the days: the oldest, whose records carry no recording flags, as in the operator's samples

# Share of a day's calls in each hour (UTC): an office that is rung at night, too.
_HOURS = (2, 1, 1, 1, 1, 3, 8, 30, 80, 110, 115, 105, 85, 95, 105, 100, 90, 60, 30, 20, 12, 8, 5, 3)
_WEEKDAYS = (100, 98, 97, 95, 90, 30, 15)  # Monday first

_TOWNS = (
    "UK Chelmsford", "UK London", "UK Birmingham", "UK Manchester", "UK Leeds", "UK Bristol", "UK Glasgow",
    "UK Edinburgh", "UK Cardiff", "UK Liverpool", "UK Sheffield", "UK Newcastle", "UK Nottingham", "UK Southampton",
    "UK Portsmouth", "UK Leicester", "UK Coventry", "UK Reading", "UK Oxford", "UK Cambridge", "UK Norwich",
    "UK Exeter", "UK Plymouth", "UK Swansea", "UK Aberdeen", "UK Dundee", "UK Inverness", "UK Belfast", "UK York",
    "UK Hull", "UK Derby", "UK Stoke-on-Trent", "UK Bournemouth", "UK Brighton", "UK Luton", "UK Northampton",
)  # fmt: skip
_MOBILE_NETWORKS = ("UK O2 Mobile", "UK Vodafone Mobile", "UK EE Mobile", "UK Three Mobile", "UK Orange Mobile")


class Call(NamedTuple):
    """One call: what a table must hold of it, in the operator's order, and the instant it began."""

    uid: int
    ref: str
    call_date: date  # UK wall clock
    call_time: time  # UK wall clock
    anumber: str
    anumber_location: str
    bnumber: str
    alias: str
    dialled: str
    dialled_location: str
    duration: int  # seconds
    ring_time: int  # seconds
    user_cost: Decimal  # pounds
    reason: int
    reason_q805: int
    has_recorded_call: bool | None  # None: the element is absent
    has_voicemail_recording: bool | None
    has_fax_document: bool | None
    started_at: datetime  # aware, UTC


FIELDS = Call._fields[:-1]
"""The columns that come straight from the operator's elements."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides the records: `calls` of them over the `days` before `end` (aware, UTC, a full hour).

    One record in `ampersands` carries an escaped `&` in its alias; 0: none does.
    """

    calls: int
    days: int
    end: datetime
    seed: int = DEFAULT_SEED
    ampersands: int = 0

    @property
    def first_day(self) -> date:
        """The UK day of the oldest record, or a day before it."""
        return (self.end - timedelta(days=self.days)).astimezone(LONDON).date()

    @property
    def last_day(self) -> date:
        """The UK day of `end`."""
        return self.end.astimezone(LONDON).date()


def last_full_hour() -> datetime:
    """The end of records that look as if they went on until now."""
    return datetime.now(UTC).replace(minute=0, second=0, microsecond=0)


def calls(recipe: Recipe) -> Iterator[Call]:
    """The records, ascending by uid and by start."""
    rng = random.Random(recipe.seed)
    callers = _Callers(rng, recipe.calls)
    own = [(f"1{rng.randrange(200_000_000, 299_999_999)}", rng.choice(_TOWNS)) for _ in range(40)]
    staff = [(f"447{rng.randrange(10**9):09d}", rng.choice(_MOBILE_NETWORKS)) for _ in range(30)]
    aliases = ("", "", "", "-", "-", "Sales", "Support line", "Accounts")
    costs = [Decimal(n).scaleb(-3) for n in range(20_000)]
    flagged_from = recipe.end - timedelta(days=recipe.days * (1 - UNFLAGGED_SHARE))
    uid = FIRST_UID - 1
    numbers = itertools.count()
    for hour, count in _hours(recipe):
        offset = hour.astimezone(LONDON).utcoffset() or timedelta()  # changes on full hours of UTC only
        wall_hour = hour + offset
        day = wall_hour.date()
        flagged = hour >= flagged_from
        for second in sorted([rng.randrange(3600) for _ in range(count)]):
            number = next(numbers)
            uid += rng.randrange(1, 20)  # other customers' calls lie between
            started_at = hour + timedelta(seconds=second)
            anumber, anumber_location = callers.draw()
            bnumber, town = own[int(rng.random() ** 2 * 40)]
            alias = aliases[number % 8]
            if recipe.ampersands and number % recipe.ampersands == 0:
                alias = "Sales & Service"
            kind = rng.random()
            duration = min(int(rng.expovariate(1 / 170)) + 1, 14_000)
            ring_time = int(rng.random() * 30)
            recorded = fax = voicemail = False
            if kind < 0.62:  # answered by somebody
                dialled, dialled_location = rng.choice(staff)
                thousandths, reason, reason_q805, recorded = duration * 12 // 60, 1, 1, kind < 0.4
            elif kind < 0.72:  # voicemail, sent by e-mail
                dialled, dialled_location = f"V:{town.split()[1].lower()}@example.com", "Voice to Email"
                duration = duration % 90 + 1
                thousandths, reason, reason_q805, voicemail = 5, 1, 1, True
            elif kind < 0.725:
                dialled, dialled_location = "F:fax", "Fax to Email"
                thousandths, reason, reason_q805, fax = 5, 1, 1, True
            else:  # hung up, or nobody there
                dialled, dialled_location, duration, thousandths = "0", "Unknown", 0, 0
                reason, reason_q805 = (2, 0) if kind < 0.9 else (1015, 487)
            unix = int(started_at.timestamp())
            ref = f"{unix:08X}{number & 0xFFFFFFFF:08X}" if number % 10 else f"!{unix:08X}{number & 0xFFFFF:05X}"
            yield Call(
                uid, ref, day, _TIMES[wall_hour.hour * 3600 + second], anumber, anumber_location, bnumber, alias,
                dialled, dialled_location, duration, ring_time, costs[thousandths], reason, reason_q805,
                recorded if flagged else None, voicemail if flagged else None, fax if flagged else None, started_at,
            )  # fmt: skip


def render(call: Call) -> bytes:
    """The record as the operator prints it."""
    alias = call.alias.replace("&", "&amp;") if "&" in call.alias else call.alias
    flags = (
        ""
        if call.has_recorded_call is None
        else (
            f"          <HasRecordedCall>{call.has_recorded_call:d}</HasRecordedCall>\n"
            f"          <HasVoicemailRecording>{call.has_voicemail_recording or False:d}</HasVoicemailRecording>\n"
            f"          <HasFaxDocument>{call.has_fax_document or False:d}</HasFaxDocument>\n"
        )
    )
    return (
        "        <CDR>\n"
        f"          <uid>{call.uid}</uid>\n"
        f"          <ref>{call.ref}</ref>\n"
        f"          <calldate>{call.call_date}</calldate>\n"
        f"          <calltime>{call.call_time}</calltime>\n"
        f"          <anumber>{call.anumber}</anumber>\n"
        f"          <anumber_location>{call.anumber_location}</anumber_location>\n"
        f"          <bnumber>{call.bnumber}</bnumber>\n"
        f"          <alias>{alias}</alias>\n"
        f"          <dialled>{call.dialled}</dialled>\n"
        f"          <dialled_location>{call.dialled_location}</dialled_location>\n"
        f"          <duration>{call.duration}</duration>\n"
        f"          <ring_time>{call.ring_time}</ring_time>\n"
        f"          <user_cost>{call.user_cost}</user_cost>\n"
        f"          <reason>{call.reason}</reason>\n"
        f"          <reason_q805>{call.reason_q805}</reason_q805>\n"
        f"{flags}"
        "        </CDR>\n"
    ).encode()


_TIMES = [time(second // 3600, second // 60 % 60, second % 60) for second in range(86_400)]


class _Callers:
    """Who rings: a few ring daily, most once or twice, some withhold their number."""

    def __init__(self, rng: random.Random, calls: int) -> None:
        self._rng = rng
        self._people = [self._person() for _ in range(max(20, calls // 6))]

    def _person(self) -> tuple[str, str]:
        if self._rng.random() < 0.6:
            return f"7{self._rng.randrange(10**9):09d}", self._rng.choice(_MOBILE_NETWORKS)
        return f"1{self._rng.randrange(10**9):09d}", self._rng.choice(_TOWNS)

    def draw(self) -> tuple[str, str]:
        lot = self._rng.random()
        if lot < 0.03:
            return "", "Unknown"
        return self._people[int(self._rng.random() ** 3 * len(self._people))]


def _hours(recipe: Recipe) -> Iterator[tuple[datetime, int]]:
    """Every hour and how many calls begin in it; together `recipe.calls`."""
    hours = [recipe.end - timedelta(hours=n) for n in range(recipe.days * 24, 0, -1)]
    reached = list(itertools.accumulate(_HOURS[hour.hour] * _WEEKDAYS[hour.weekday()] for hour in hours))
    done = 0
    for hour, weight in zip(hours, reached, strict=True):
        until = recipe.calls * weight // reached[-1]
        yield hour, until - done
        done = until


@dataclass(frozen=True, slots=True)
class Held:
    """All records of a recipe, ready to be compared with a table."""

    calls: list[Call]

    @classmethod
    def of(cls, recipe: Recipe) -> Held:
        """Generate them."""
        return cls(list(calls(recipe)))

    def position(self, uid: int) -> int:
        """How many of them have a lower uid."""
        return bisect_left(self.calls, uid, key=lambda call: call.uid)
