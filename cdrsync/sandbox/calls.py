"""Believable UK calls, the same for the same seed.

Every telephone number is one that regulators set aside for films and books (Ofcom's drama ranges and their like
abroad), so no person's number ever stands in a demo, a test or a screenshot.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from itertools import accumulate
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Sequence

LONDON = ZoneInfo("Europe/London")
SETTLING = 2  # seconds between the end of a call and its record
NO_COST = Decimal("0.000")
VOICEMAIL_RATE = 20  # thousandths of a pound per minute; the reference page's 15 s cost 0.005
MOBILE_RATE = 75  # the reference page's 21 s cost 0.026
LANDLINE_RATE = 15


class Call(NamedTuple):
    """One record, as far as `started` in the order in which the operator prints it (reference page, GetCDRs).

    A text that is None is left out, a flag that is None likewise; a number that is None is printed empty.
    """

    uid: int
    ref: str | None
    calldate: str  # yyyy-mm-dd, Europe/London
    calltime: str  # HH:MM:SS, Europe/London
    anumber: str | None
    anumber_location: str | None
    bnumber: str | None
    alias: str | None
    dialled: str | None
    dialled_location: str | None
    duration: int  # seconds
    ring_time: int | None  # seconds
    user_cost: Decimal  # pounds
    reason: int | None
    reason_q805: int | None
    has_recorded_call: bool | None
    has_voicemail_recording: bool | None
    has_fax_document: bool | None
    started: int  # the true Unix second, whatever calldate and calltime say
    extra: tuple[tuple[str, str], ...] = ()  # elements that the reference page does not know
    raw: str | None = None  # sent in place of the record: XML that can't be typed

    @property
    def kind(self) -> str:
        """How GetTotals sorts it. The operator documents no rule; this is ours: voicemail, answered or missed."""
        if self.dialled is not None and self.dialled.startswith("V:"):
            return "voicemail"
        return "answered" if self.duration > 0 else "missed"

    def as_json(self) -> dict[str, Any]:
        """All fields by name; the cost is text (exact), `extra` a list of pairs."""
        return self._asdict() | {"user_cost": str(self.user_cost), "extra": [list(pair) for pair in self.extra]}


SOMETIMES = {
    "has_recorded_call": "HasRecordedCall",
    "has_voicemail_recording": "HasVoicemailRecording",
    "has_fax_document": "HasFaxDocument",
}
"""The last fields before `started`: not every answer has them. The others are called as their elements."""


@dataclass(frozen=True, slots=True)
class Line:
    """A number of the account, where it rings and what it costs to forward it there."""

    bnumber: str
    alias: str
    target: str
    target_location: str
    mailbox: str
    rate: int  # thousandths of a pound per minute
    recorded: bool


_NETWORKS = ("UK O2 Mobile", "UK Vodafone Mobile", "UK EE Mobile", "UK Three Mobile", "UK Lycamobile")
_AREAS = (  # prefix (national, no leading 0), location, weight; three digits follow
    ("1134960", "UK Leeds", 3),
    ("1144960", "UK Sheffield", 2),
    ("1154960", "UK Nottingham", 2),
    ("1164960", "UK Leicester", 2),
    ("1174960", "UK Bristol", 3),
    ("1184960", "UK Reading", 2),
    ("1214960", "UK Birmingham", 6),
    ("1314960", "UK Edinburgh", 2),
    ("1414960", "UK Glasgow", 3),
    ("1514960", "UK Liverpool", 3),
    ("1614960", "UK Manchester", 5),
    ("1632960", "UK Landline", 1),
    ("1914980", "UK Tyneside", 2),
    ("2079460", "UK London", 12),
    ("2896496", "UK Northern Ireland", 1),
    ("2920180", "UK Cardiff", 2),
    ("3069990", "UK Wide", 1),
)
_ABROAD = (  # country code and prefix, digits that follow, location
    ("1212555010", 1, "United States"),
    ("1310555012", 1, "United States"),
    ("3319900", 4, "France"),
    ("493023125", 3, "Germany"),
    ("6125550", 4, "Australia"),
    ("3532091", 5, "Ireland"),
)
_LINES = (  # prefix, alias; three digits follow
    ("1214960", "Sales"),
    ("8081570", "Support"),
    ("2079460", "-"),
    ("1614960", "Accounts"),
    ("3069990", ""),
    ("1174960", "Bookings"),
    ("1314960", "Night desk"),
    ("1414960", "-"),
)
_WEEKDAY = (1, 1, 1, 1, 1, 2, 4, 12, 45, 95, 100, 92, 70, 78, 90, 88, 80, 60, 28, 14, 9, 6, 3, 2)
_WEEKEND = (1, 1, 1, 1, 1, 1, 2, 4, 9, 18, 24, 24, 20, 16, 14, 12, 10, 8, 7, 6, 5, 4, 2, 2)
_BUSINESS_HOURS = range(9, 18)
_FRIDAY = 4
_REGULARS = 400
_UK_DIGITS = 10
_PREFIXES = ("0", "44", "+44", "0044")
_NO_CALLER = ("anonymous", "Unavailable", "withheld", "-", "0")
_LONGEST = 3 * 3600  # seconds

# What share of calls…
_WITHHELD = 0.07
_SPELT = 0.05  # …has its caller as the caller's own equipment wrote it
_REGULAR = 0.65  # …comes from regular callers; the rest from strangers, of whom…
_MOBILE = 0.55
_LANDLINE = 0.41
_BUSINESS_OUTCOMES = (0.70, 0.12)  # …is answered, goes to voicemail…
_NIGHT_OUTCOMES = (0.25, 0.45)
_FAILED = 0.06  # …never rang
_FAX = 0.01  # …of the recordings
_LONG_REF = 0.5
_ALL_FLAGS_ABSENT = 0.8  # …of those that lack any, as in the page's older samples; else only the last is missing
_LINES_TO_MOBILES = 0.7
_LINES_RECORDED = 0.6

FIRST_UID = 106_398_335  # the reference page's first sample…
FIRST_STARTED = 0x51FD5E98  # …and the second it began
UIDS_PER_SECOND = 0.7  # over all customers; from the page's samples a month apart


def dice(*seed: object) -> Random:
    """A generator of its own for each purpose, the same for the same seed."""
    return Random("/".join(map(str, seed)))  # noqa: S311 - believable calls, not secrets


@cache
def _offset(hour: int) -> int:
    instant = datetime.fromtimestamp(hour * 3600, UTC)
    return int((instant.astimezone(LONDON).replace(tzinfo=UTC) - instant).total_seconds())


@cache
def _date_text(day: int) -> str:
    return (date(1970, 1, 1) + timedelta(days=day)).isoformat()


@cache
def _time_text(second: int) -> str:
    return f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"


def wall_clock(started: int) -> tuple[str, str]:
    """`calldate` and `calltime` of a Unix second: what a clock in London showed."""
    local = started + _offset(started // 3600)
    return _date_text(local // 86400), _time_text(local % 86400)


@cache
def cost(seconds: int, rate: int) -> Decimal:
    """Pounds with three decimals for so many seconds at `rate` thousandths of a pound per minute, half up."""
    return Decimal((seconds * rate * 2 + 60) // 120).scaleb(-3).quantize(NO_COST)


def uid_at(instant: float) -> int:
    """Where the platform's sequence stands at a Unix second, going by the reference page's samples."""
    return FIRST_UID + math.ceil((instant - FIRST_STARTED) * UIDS_PER_SECOND)


def start_times(rng: Random, count: int, first: float, last: float) -> list[int]:
    """So many sorted Unix seconds between two, spread as offices are called: weekdays, mornings, few at night."""
    hours = range(int(first) // 3600, int(last) // 3600 + 1)
    weights = list(accumulate(_hour_weight(hour) for hour in hours))
    drawn = (hour * 3600 + int(rng.random() * 3600) for hour in rng.choices(hours, cum_weights=weights, k=count))
    return sorted(min(max(second, int(first)), int(last)) for second in drawn)


@cache
def _hour_weight(hour: int) -> int:
    local = datetime.fromtimestamp(hour * 3600, LONDON)
    return (_WEEKDAY if local.weekday() <= _FRIDAY else _WEEKEND)[local.hour]


@cache
def _is_business(hour: int) -> bool:
    local = datetime.fromtimestamp(hour * 3600, LONDON)
    return local.weekday() <= _FRIDAY and local.hour in _BUSINESS_HOURS


def _zipf(size: int, exponent: float) -> list[float]:
    """Running totals of 1/rank^exponent, ending at 1."""
    totals = list(accumulate(1 / rank**exponent for rank in range(1, size + 1)))
    return [total / totals[-1] for total in totals]


class CallMaker:
    """Makes the calls of one account."""

    def __init__(self, seed: object, lines: int = len(_LINES)) -> None:
        self.rng = dice("calls", seed)
        self._spellings = dice("spellings", seed)
        self.lines = [self._line(*parts) for parts in _LINES[:lines]]
        self._line_weights = _zipf(len(self.lines), 0.8)
        self._regulars = [self._stranger() for _ in range(_REGULARS)]
        self._regular_weights = _zipf(_REGULARS, 1.1)

    def make(self, uid: int, started: int, *, flags_absent: float = 0.0) -> Call:
        """A call that began at `started` (Unix seconds); `flags_absent` is the share printed without flags."""
        rng = self.rng
        line = self.lines[bisect_left(self._line_weights, rng.random())]
        anumber, location = self._caller()
        day, time = wall_clock(started)
        dialled, dialled_location, duration, ring_time, charge, reason, q805 = self._outcome(line, started)
        recorded: bool | None = line.recorded and duration > 0 and ring_time > 0
        voicemail: bool | None = ring_time == 0 and duration > 0
        fax: bool | None = voicemail and rng.random() < _FAX
        if flags_absent and rng.random() < flags_absent:
            recorded, voicemail, fax = self._absent(recorded=recorded, voicemail=voicemail)
        return Call(
            uid, self._ref(uid, started), day, time, anumber, location, line.bnumber, line.alias, dialled,
            dialled_location, duration, ring_time, charge, reason, q805, recorded, voicemail, fax, started,
        )  # fmt: skip

    def moved(self, call: Call, started: int) -> Call:
        day, time = wall_clock(started)
        return call._replace(started=started, calldate=day, calltime=time, ref=self._ref(call.uid, started))

    def _outcome(self, line: Line, started: int) -> tuple[str, str, int, int, Decimal, int, int]:
        rng = self.rng
        chance = rng.random()
        answered, voicemail = _BUSINESS_OUTCOMES if _is_business(started // 3600) else _NIGHT_OUTCOMES
        if chance < answered:
            seconds = min(_LONGEST, 1 + int(math.exp(rng.gauss(4.4, 1.0))))
            ring = 1 + int(rng.expovariate(1 / 9))
            return line.target, line.target_location, seconds, ring, cost(seconds, line.rate), 1, 1
        if chance < answered + voicemail:
            seconds = 3 + int(rng.expovariate(1 / 25))
            return line.mailbox, "Voice to Email", seconds, 0, cost(seconds, VOICEMAIL_RATE), 1, 1
        if chance < 1 - _FAILED:
            return "0", "Unknown", 0, int(rng.expovariate(1 / 12)), NO_COST, 1015, 487
        return "0", "Unknown", 0, 0, NO_COST, 2, 0

    def _absent(self, *, recorded: bool | None, voicemail: bool | None) -> tuple[bool | None, bool | None, None]:
        return (None, None, None) if self.rng.random() < _ALL_FLAGS_ABSENT else (recorded, voicemail, None)

    def _ref(self, uid: int, started: int) -> str:
        """Both printed shapes: 16 hex digits, or `!`, the second and an unpadded fraction of it."""
        if self.rng.random() < _LONG_REF:
            return f"{started:08X}{uid * 0x9E3779B1 & 0xFFFFFFFF:08X}"
        return f"!{started:08X}{int(self.rng.random() * 1_000_000):X}"

    def _caller(self) -> tuple[str, str]:
        chance, spelling = self.rng.random(), self._spellings.random()
        if chance < _WITHHELD:
            return ("" if spelling > _SPELT else self._spellings.choice(_NO_CALLER)), "Unknown"
        number, location = self._number(chance)
        if spelling < _SPELT and len(number) == _UK_DIGITS:
            number = self._spellings.choice(_PREFIXES) + number
        return number, location

    def _number(self, chance: float) -> tuple[str, str]:
        if chance < _WITHHELD + _REGULAR:
            return self._regulars[bisect_left(self._regular_weights, self.rng.random())]
        return self._stranger()

    def _stranger(self) -> tuple[str, str]:
        rng = self.rng
        chance = rng.random()
        if chance < _MOBILE:
            last = rng.randrange(1000)
            return f"7700900{last:03}", _NETWORKS[last % len(_NETWORKS)]
        if chance < _MOBILE + _LANDLINE:
            (prefix, location, _), digits = rng.choices(_AREAS, cum_weights=_AREA_WEIGHTS)[0], 3
        else:
            prefix, digits, location = rng.choice(_ABROAD)
        return f"{prefix}{rng.randrange(10**digits):0{digits}}", location

    def _line(self, prefix: str, alias: str) -> Line:
        rng = self.rng
        mobile = rng.random() < _LINES_TO_MOBILES
        last = rng.randrange(1000)
        return Line(
            bnumber=f"{prefix}{rng.randrange(1000):03}",
            alias=alias,
            target=f"447700900{last:03}" if mobile else f"441214960{last:03}",
            target_location=_NETWORKS[last % len(_NETWORKS)] if mobile else "UK Birmingham",
            mailbox=f"V:{(alias.split() or ['desk'])[0].strip('-').lower() or 'desk'}@example.com",
            rate=MOBILE_RATE if mobile else LANDLINE_RATE,
            recorded=rng.random() < _LINES_RECORDED,
        )


_AREA_WEIGHTS: Sequence[int] = list(accumulate(weight for *_, weight in _AREAS))


def london(instant: float) -> datetime:
    """The wall clock of Europe/London at a Unix second, aware."""
    return datetime.fromtimestamp(instant, UTC).astimezone(LONDON)


class Totals(NamedTuple):
    """What GetTotals sums up, exact."""

    answered: int
    missed: int
    voicemail: int
    seconds: int
    charge: Decimal  # pounds

    @property
    def calls(self) -> int:
        return self.answered + self.missed + self.voicemail
