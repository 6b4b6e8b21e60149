"""A model of the operator for the simulation: pure, fast, seeded. It answers the `Source` port in virtual time.

It shares nothing with cdrsync's own reading of the reference page but the types of the port. What the page leaves open
is a `Habits`: every combination of them has to come out right.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal
from zoneinfo import ZoneInfo

from cdrsync.errors import ApiUnreachable, BadAnswer
from cdrsync.model import Batch, Cdr, CdrsAsk, Document, Refusal, Reject, Totals, TotalsAsk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from random import Random

LONDON: Final = ZoneInfo("Europe/London")
NUMBERS: Final = ("1213691057", "1245830144", "2079460000")

Order = Literal["uid", "uid-desc", "start", "start-desc", "visible"]
_KEYS: Final[dict[str, Callable[[Call], tuple[int, int]]]] = {
    "uid": lambda call: (call.uid, 0),
    "uid-desc": lambda call: (-call.uid, 0),
    "start": lambda call: (call.start, call.uid),
    "start-desc": lambda call: (-call.start, -call.uid),
    "visible": lambda call: (call.visible, call.uid),
}

Record = Cdr | Reject


@dataclass(slots=True)
class Call:
    """One call and its life at the operator: times are virtual, in seconds since the epoch."""

    uid: int
    number: str
    assigned: int  # when its uid was handed out
    start: int
    end: int
    visible: int
    day: date  # of its start, on a UK wall clock
    vanish: float = float("inf")
    changed: list[int] = field(default_factory=list)  # when each version but the first became true
    records: list[Record] = field(default_factory=list)  # what date pages show, a version each
    tail_records: list[Record] = field(default_factory=list)  # what LastId pages show: flags may be missing there
    dateless: bool = False  # no window shows it

    def version(self, at: float) -> int:
        """Which version of the record is true at a moment."""
        return bisect_right(self.changed, at)

    def shown(self, at: float) -> bool:
        """Whether the operator shows the call at a moment."""
        return self.visible <= at < self.vanish


@dataclass(frozen=True, slots=True)
class Habits:
    """What the reference page leaves open, and what goes wrong."""

    tail_order: Order = "uid"
    window_order: Order = "uid"
    end_date: Literal["exclusive", "inclusive", "midnight"] = "exclusive"  # midnight: that one second is included
    clamp: int = 10_000  # more records than this are never sent at once, whatever the limit
    totals: Literal["exact", "double", "refused", "unusable", "some"] = "exact"
    slow: float = 2.0  # seconds an answer takes at most
    unreachable: float = 0.0  # rates of what goes wrong, per document
    bad: float = 0.0
    refused: float = 0.0
    duplicate: float = 0.0  # a record stands twice in an answer
    repeated: float = 0.0  # a page is answered with the one before it


class Operator:
    """The `Source` port over a list of calls. `spend` passes virtual time; `now` tells it."""

    def __init__(
        self,
        calls: Sequence[Call],
        habits: Habits,
        rng: Random,
        *,
        now: Callable[[], float],
        spend: Callable[[float], None],
    ) -> None:
        self.calls = calls
        self.requests = 0
        self.documents = 0
        self.fired: defaultdict[str, int] = defaultdict(int)
        self.outages: list[tuple[float, float]] = []
        self.calm = False  # nothing fails any more
        self._habits = habits
        self._rng = rng
        self._now = now
        self._spend = spend
        self._days: defaultdict[date, list[Call]] = defaultdict(list)
        for call in calls:
            self._days[call.day].append(call)
        self._epochs = _epochs(calls)
        self._moments = sorted(at for call in calls for at in (call.assigned, call.visible, call.vanish))
        self._last_question: tuple[object, ...] = ()
        self._last_found: list[Call] = []
        self._last_page: list[Call] = []
        self._last_ask: CdrsAsk | None = None

    def ask(self, asks: Sequence[CdrsAsk | TotalsAsk]) -> Document:
        """Answer a document: its requests one after the other, time passing between them."""
        self.documents += 1
        self.requests += len(asks)
        self._spend(self._rng.random() * self._habits.slow)
        self._fail()
        answers: list[Batch | Totals | Refusal] = []
        for ask in asks:
            if answers:
                self._spend(self._rng.random())
            answers.append(self._cdrs(ask) if isinstance(ask, CdrsAsk) else self._totals())
        if not self.calm and self._rng.random() < self._habits.refused:
            self.fired["refused"] += 1
            answers[self._rng.randrange(len(answers))] = Refusal("500", "Unable to process")
        answered_at = datetime.fromtimestamp(int(self._now()), UTC)
        self._spend(self._rng.random() * self._habits.slow)
        return Document(answers, answered_at)

    def fetch(self, *, uid: int | None = None, ref: str | None = None) -> Batch:
        """One record by uid or ref."""
        now = self._now()
        found = [call for call in self.calls if call.shown(now)]
        records = [call.records[call.version(now)] for call in found if call.uid == uid or _ref(call) == ref]
        return _batch(records)

    def close(self) -> None:
        """Nothing is open."""

    def shown(self) -> list[Call]:
        """Every call that the operator shows now."""
        now = self._now()
        return [call for call in self.calls if call.shown(now)]

    def _fail(self) -> None:
        now = self._now()
        if self.calm:
            return
        if any(begin <= now < end for begin, end in self.outages):
            self.fired["outage"] += 1
            raise ApiUnreachable("outage")
        chance = self._rng.random()
        if chance < self._habits.unreachable:
            self.fired["unreachable"] += 1
            raise ApiUnreachable("connection reset")
        if chance < self._habits.unreachable + self._habits.bad:
            self.fired["bad answer"] += 1
            raise BadAnswer("truncated")

    def _cdrs(self, ask: CdrsAsk) -> Batch:
        now, habits = self._now(), self._habits
        tail = ask.after_uid is not None
        page = self._found(ask, now)[ask.offset : ask.offset + min(ask.limit, habits.clamp)]
        if page and habits.duplicate and not self.calm and self._rng.random() < habits.duplicate:
            self.fired["duplicate"] += 1
            page.insert(self._rng.randrange(len(page) + 1), page[0])
        if habits.repeated and not self.calm and self._rng.random() < habits.repeated:
            again = [call for call in self._last_page if call.shown(now)]
            if again and again != page and self._before(ask):
                self.fired["repeated"] += 1
                page = again
        if page:
            self._last_page, self._last_ask = page, ask
        if tail:
            return _batch(call.tail_records[call.version(now)] for call in page)
        return _batch(call.records[call.version(now)] for call in page)

    def _found(self, ask: CdrsAsk, now: float) -> list[Call]:
        """What is asked for as it is shown now, in the order of the habits: the same until a call comes or goes."""
        question = (ask.after_uid, ask.start_date, ask.end_date, ask.number, bisect_right(self._moments, now))
        if question != self._last_question:
            found = self._after(ask.after_uid, now) if ask.after_uid is not None else self._between(ask, now)
            if ask.number is not None:
                found = [call for call in found if call.number == ask.number]
            found.sort(key=_KEYS[self._habits.window_order if ask.after_uid is None else self._habits.tail_order])
            self._last_question, self._last_found = question, found
        return self._last_found

    def _before(self, ask: CdrsAsk) -> bool:
        """Whether the last page was the one before: of the same question, at a lower offset or LastId."""
        last = self._last_ask
        if last is None or last.number != ask.number:
            return False
        if ask.after_uid is not None and all(call.uid <= ask.after_uid for call in self._last_page):
            return True
        return last.offset < ask.offset and replace(last, offset=ask.offset) == ask

    def _after(self, uid: int, now: float) -> list[Call]:
        found = []
        for uids, calls in self._epochs:
            for call in calls[bisect_right(uids, uid) :]:
                if call.assigned > now:
                    break
                if call.visible <= now < call.vanish:
                    found.append(call)
        return found

    def _between(self, ask: CdrsAsk, now: float) -> list[Call]:
        if ask.start_date is None or ask.end_date is None:
            raise BadAnswer("a window needs both dates")
        found: list[Call] = []
        day = ask.start_date
        while day <= ask.end_date:
            if day < ask.end_date or self._habits.end_date == "inclusive":
                found += [call for call in self._days.get(day, ()) if call.shown(now)]
            elif self._habits.end_date == "midnight":
                found += [
                    call for call in self._days.get(day, ()) if call.shown(now) and _wall_clock(call).time() == time(0)
                ]
            day += timedelta(days=1)
        return [call for call in found if not call.dateless]

    def _totals(self) -> Totals | Refusal:
        from cdrsync.model import Period

        kind = self._habits.totals
        if kind == "refused":
            return Refusal("403", "GetTotals is not available")
        count = len(self.shown())
        answered: int | None = count - count // 3
        if kind == "some":  # calls out of the account, say, are neither answered nor missed
            answered = count // 2
        voicemail = count // 3 if kind == "double" else 0
        if kind == "unusable":
            answered = None
        return Totals(Period.ALL, None, answered, count // 3, voicemail, Decimal(0), Decimal(0), {})


def _epochs(calls: Iterable[Call]) -> list[tuple[list[int], list[Call]]]:
    """The calls by uid, a list for each sequence of uids: within one, uids grow with the moment they are handed out."""
    found: list[list[Call]] = [[]]
    for call in sorted(calls, key=lambda call: call.assigned):
        if found[-1] and call.uid < found[-1][-1].uid:
            found.append([])
        found[-1].append(call)
    return [([call.uid for call in epoch], epoch) for epoch in found]


def _wall_clock(call: Call) -> datetime:
    return datetime.fromtimestamp(call.start, LONDON)


def _ref(call: Call) -> str | None:
    record = call.records[0]
    return record.ref if isinstance(record, Cdr) else None


def _batch(records: Iterable[Record]) -> Batch:
    cdrs: list[Cdr] = []
    rejects: list[Reject] = []
    for record in records:
        if isinstance(record, Cdr):
            cdrs.append(record)
        else:
            rejects.append(record)
    return Batch(cdrs, rejects)
