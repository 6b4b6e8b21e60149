"""The things cdrsync moves, frozen and free of any library.

An ask is answered by a `Batch` (GetCDRs) or by `Totals` (GetTotals). Batches become a `Page`, saving a `PageSaved`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from decimal import Decimal

BEGINNING = date(1990, 1, 1)  # before any call that the API can have
LAST_DAY = date(2100, 12, 31)  # a call that is said to be later, or before the beginning, is a broken record
COST_PLACES = 6  # decimal places kept of a cost in pounds; the operator prints three
MAX_UID = 2**63 - 1
MAX_INT = 2**31 - 1
RECORD_BYTES = 1_000  # a record has some 650; what has more counts as several where memory is bounded


class WallClock(StrEnum):
    """How `started_at` follows from the UK wall clock where that is not plain."""

    REPEATED_FIRST = "repeated-first"  # autumn night, the first pass (summer time): `ref` said so
    REPEATED_SECOND = "repeated-second"  # autumn night, the second pass (winter time): `ref` said so
    REPEATED_UNKNOWN = "repeated-unknown"  # autumn night, `ref` does not agree with either: first pass assumed
    SKIPPED = "skipped"  # spring night, a time that no clock showed: read with the offset before the jump


class Cdr(NamedTuple):
    """One call as the API said it, typed and otherwise untouched: an empty element is "", an absent one None."""

    uid: int
    ref: str | None
    call_date: date  # UK wall clock
    call_time: time  # UK wall clock
    started_at: datetime  # aware, UTC, computed from the two above (and `ref` in the repeated autumn hour)
    wall_clock: str | None  # a WallClock, None where the wall clock is plain
    anumber: str | None
    anumber_location: str | None
    bnumber: str | None
    alias: str | None
    dialled: str | None
    dialled_location: str | None
    duration: int  # seconds
    ring_time: int | None  # seconds
    user_cost: Decimal  # pounds, at most COST_PLACES decimals
    reason: int | None
    reason_q805: int | None
    has_recorded_call: bool | None
    has_voicemail_recording: bool | None
    has_fax_document: bool | None
    extra: str | None  # canonical JSON object {element: text} of the elements we don't know, None where there are none


class Kind(StrEnum):
    """What the text of a field means."""

    TEXT = "text"
    WHOLE = "whole"  # a whole number between `low` and `high`
    POUNDS = "pounds"  # below 10^9, at most COST_PLACES decimals
    DATE = "date"  # yyyy-mm-dd
    TIME = "time"  # HH:MM:SS
    FLAG = "flag"  # 1 or 0; NULL means unknown and never overwrites a known value


class Field(NamedTuple):
    """One field of a call: our column, the operator's element, and what its text must be."""

    column: str
    element: str
    kind: Kind = Kind.TEXT
    required: bool = False
    low: int = 0
    high: int = MAX_INT


FIELDS = (
    Field("uid", "uid", Kind.WHOLE, required=True, low=1, high=MAX_UID),
    Field("ref", "ref"),
    Field("call_date", "calldate", Kind.DATE, required=True),
    Field("call_time", "calltime", Kind.TIME, required=True),
    Field("anumber", "anumber"),
    Field("anumber_location", "anumber_location"),
    Field("bnumber", "bnumber"),
    Field("alias", "alias"),
    Field("dialled", "dialled"),
    Field("dialled_location", "dialled_location"),
    Field("duration", "duration", Kind.WHOLE, required=True),
    Field("ring_time", "ring_time", Kind.WHOLE),
    Field("user_cost", "user_cost", Kind.POUNDS, required=True),
    Field("reason", "reason", Kind.WHOLE, low=-MAX_INT - 1),
    Field("reason_q805", "reason_q805", Kind.WHOLE, low=-MAX_INT - 1),
    Field("has_recorded_call", "HasRecordedCall", Kind.FLAG),
    Field("has_voicemail_recording", "HasVoicemailRecording", Kind.FLAG),
    Field("has_fax_document", "HasFaxDocument", Kind.FLAG),
)
"""Every field that the API sends, in the order of the operator's page. The other columns of a Cdr are computed."""

FLAGS = tuple(field.column for field in FIELDS if field.kind is Kind.FLAG)


class Reject(NamedTuple):
    """A record that can't be typed or held, kept as sent."""

    uid: int | None  # where it could be read
    raw: str  # the record's XML, from <CDR> to </CDR>
    problem: str  # one line: which element, what is wrong


@dataclass(frozen=True, slots=True)
class Window:
    """Records of a range of days in the account's time zone, both included (what is wanted, not what is asked)."""

    first: date
    last: date

    def days(self) -> list[date]:
        """Every day of the window, oldest first."""
        return [self.first + timedelta(days=n) for n in range((self.last - self.first).days + 1)]

    def __contains__(self, day: date) -> bool:
        return self.first <= day <= self.last


@dataclass(frozen=True, slots=True)
class CdrsAsk:
    """One GetCDRs request: either `after_uid` (LastId) or a pair of dates, with offset and limit."""

    limit: int
    offset: int = 0
    after_uid: int | None = None
    start_date: date | None = None
    end_date: date | None = None
    number: str | None = None


class Period(StrEnum):
    """GetTotals' periods, as the operator spells them."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    LAST_MONTH = "last-month"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class TotalsAsk:
    """One GetTotals request."""

    period: Period
    number: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """The answer to a CdrsAsk: every record it carried, in the operator's order."""

    cdrs: list[Cdr]
    rejects: list[Reject] = field(default_factory=list)

    def __len__(self) -> int:
        """Records in the answer, readable or not, each once: what `offset` advances by."""
        return len({cdr.uid for cdr in self.cdrs}) + len({reject.raw for reject in self.rejects})

    def records(self) -> Iterator[Cdr | Reject]:
        """Every record of the answer, readable or not."""
        return chain(self.cdrs, self.rejects)


@dataclass(frozen=True, slots=True)
class Totals:
    """The answer to a TotalsAsk (GetTotals). A figure that can't be read is None and named in `unusable`."""

    period: Period
    number: str | None
    answered: int | None = None
    missed: int | None = None
    voicemail: int | None = None
    minutes_no_format: Decimal | None = None  # MinsTotalNoFormat: unit not stated by the operator
    charge: Decimal | None = None  # pounds, two decimals
    texts: dict[str, str] = field(default_factory=dict)  # every element of <CDRTotals> as sent
    unusable: tuple[str, ...] = ()  # one line for each figure that could not be read


@dataclass(frozen=True, slots=True)
class Refusal:
    """One request of a document was answered with a Code other than 200; its siblings may be fine."""

    code: str
    message: str  # the operator's <ResponseMessage>
    passing: bool = False  # as HTTP 500 is: may be had later


@dataclass(frozen=True, slots=True)
class Document:
    """The answers to one document of requests, in the order of the asks."""

    answers: list[Batch | Totals | Refusal]
    answered_at: datetime  # the operator's clock (HTTP `Date`), ours where it sent none; aware, UTC
    size: int = 0  # bytes, decoded
    operator_clock: datetime | None = None  # HTTP `Date`, believed or not; aware, UTC


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A position in a stream that is true once the page that carries it is committed.

    The high-water mark moves backwards only where a checkpoint `lowers` it: a person, or a walk that begins anew.
    """

    stream: str
    high_water_uid: int | None = None
    high_water_ended_at: datetime | None = None  # when it was reached, operator's clock, UTC: shows a fall of uids
    window: Window | None = None
    begun_at: datetime | None = None
    done: bool = False
    lowers: bool = False  # not kept


class Origin(StrEnum):
    """Which step of the algorithm read a page."""

    BOOTSTRAP = "bootstrap"
    TAIL = "tail"
    LOOKBACK = "lookback"
    BACKFILL = "backfill"
    SWEEP = "sweep"
    DEEP_SWEEP = "deep sweep"
    HEAL = "heal"
    FETCH = "fetch"
    REJECTS = "rejects"
    PERSON = "person"


@dataclass(frozen=True, slots=True)
class Page:
    """Records, and what is true once they are committed: one transaction of `Store.save`."""

    origin: Origin
    cdrs: list[Cdr]
    rejects: list[Reject] = field(default_factory=list)
    checkpoint: Checkpoint | None = None
    completes: tuple[date, ...] = ()  # days that this page ends: every record the API had of them is now held
    size: int = 0  # bytes that carried it
    forms: Mapping[int, Any] = field(default_factory=dict)  # of calls, by id(): as the store takes them

    @property
    def weight(self) -> int:
        """Its records, or as many as usually have so many bytes."""
        return max(len(self), self.size // RECORD_BYTES)

    def __len__(self) -> int:
        """Records in the page, readable or not."""
        return len(self.cdrs) + len(self.rejects)

    def joined(self, others: Sequence[Page]) -> Page:
        """This page and later ones of the same origin as one: what the last checkpoint says is true of all of them."""
        pages = [self, *others]
        checkpoints = [page.checkpoint for page in pages if page.checkpoint is not None]
        return Page(
            self.origin,
            [cdr for page in pages for cdr in page.cdrs],
            [reject for page in pages for reject in page.rejects],
            checkpoint=checkpoints[-1] if checkpoints else None,
            completes=tuple(day for page in pages for day in page.completes),
            size=sum(page.size for page in pages),
            forms={call: form for page in pages for call, form in page.forms.items()},
        )


@dataclass(frozen=True, slots=True)
class PageSaved:
    """What one commit did."""

    origin: Origin
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0  # held already, or in quarantine
    rejected: int = 0  # new in quarantine
    high_water_uid: int | None = None  # of the page's checkpoint stream, after the commit
    completed: tuple[date, ...] = ()
    newest_started_at: datetime | None = None  # of the page's calls, UTC
    unholdable: tuple[int, ...] = ()  # uids of calls that the database can't hold: each became a Reject

    @property
    def records(self) -> int:
        """Records of the page, readable or not."""
        return self.inserted + self.updated + self.unchanged + self.rejected


@dataclass(frozen=True, slots=True)
class LedgerDay:
    """One row of the ledger (`coverage`): what save counted as it wrote, and what is known of the day."""

    day: date
    calls: int
    duration: int  # seconds
    charge: Decimal  # pounds, exact
    downloaded_at: datetime | None  # when a page last completed the day, UTC
    audited_at: datetime | None  # UTC
    verdict: Verdict
    operator_calls: int | None = None  # where the operator stated this day
    note: str | None = None  # the audit's finding in words, or a person's
    accepted: Excess | None = None  # what a person has accepted of the day


@dataclass(frozen=True, slots=True)
class Gap:
    """Days whose calls do not add up, and why, in words."""

    window: Window
    problem: str
    excess: Excess | None = None  # None: not known in figures


class Excess(NamedTuple):
    """By how much what is held is more than what is stated; less where negative. None: not stated readably."""

    calls: int
    duration: int | None  # seconds
    charge: Decimal  # pounds

    def less(self, other: Excess) -> Excess:
        """What is left of it without the other."""
        duration = None if None in (self.duration, other.duration) else (self.duration or 0) - (other.duration or 0)
        return Excess(self.calls - other.calls, duration, self.charge - other.charge)

    def none_left(self, penny: Decimal) -> bool:
        """Whether it is nothing, to the call and second, and the charge to less than a penny."""
        return not self.calls and not self.duration and abs(self.charge) < penny


class Verdict(StrEnum):
    """What the ledger says of a day."""

    UNAUDITED = "unaudited"
    COMPLETE = "complete"
    GAP = "gap"
    HEALED = "healed"
    ACCEPTED = "accepted"  # a gap that a person has answered for


def national(number: str) -> str:
    """A UK number as the CDRs carry it: national, without the leading 0."""
    digits = number.removeprefix("+")
    return digits.removeprefix("44") if digits.startswith("44") else digits.removeprefix("0")


def instant_in(ref: str | None) -> datetime | None:
    """The second that `ref` seems to begin with, UTC; None where it doesn't look like one.

    In every published sample its first eight hex digits, after an optional "!", are the Unix second of the call's
    start. That is undocumented.
    """
    found = re.match("!?([0-9A-Fa-f]{8})", ref or "")
    return datetime.fromtimestamp(int(found[1], 16), UTC) if found else None


def utc_now() -> datetime:
    """Now, aware, UTC."""
    return datetime.now(UTC)
