"""Everything that a seed decides: the settings, the operator's habits, every call and its life, every mishap."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Final, Literal

from cdrsync.model import Reject
from cdrsync.sync.ports import SyncSettings
from tests.property.operator import LONDON, NUMBERS, Call, Habits, Order
from tests.support.examples import FIRST

if TYPE_CHECKING:
    from collections.abc import Sequence

DAY: Final = 86_400
MINUTE: Final = 60
SPRING, AUTUMN = date(2026, 3, 29), date(2026, 10, 25)  # the nights in which UK clocks change
RESET_MARGIN = 2 * 3600 + 60  # as documented: how much younger a call must be to prove a new sequence


@dataclass(slots=True)
class Plan:
    """One seed's world. Times are virtual, in seconds since the epoch."""

    seed: int
    days: int
    begins: float
    ends: float
    settings: SyncSettings
    habits: Habits
    calls: list[Call]
    uid_at: Literal["start", "end", "visible"]
    cron: bool  # one-shot `sync` runs instead of the daemon
    poll_every: float
    look_back_every: float
    deep_sweep_every: float  # seconds; infinity: never in so short a time
    crash: float  # rate of crashes at each yield
    database: float  # rate of database errors at each save
    skew: float  # how far the host's clock is ahead of the operator's
    downtimes: list[tuple[float, float]] = field(default_factory=list)
    outages: list[tuple[float, float]] = field(default_factory=list)
    reset_at: float = float("inf")
    vanishing: bool = False

    def facts(self) -> str:
        """One line for a person who replays the seed."""
        begins = datetime.fromtimestamp(self.begins, LONDON)
        rest = replace(self, calls=[])
        return f"seed {self.seed}: begins {begins}, {len(self.calls)} calls, {rest}"


def plan(seed: int, days: int = 7) -> Plan:
    """Build the world of a seed. The same seed gives the same world on every machine."""
    rng, deep = Random(seed), Random(f"deep {seed}")  # the latter leaves the worlds of older seeds as they were
    midnight = datetime.combine(_first_day(rng), time(0), LONDON).timestamp()
    begins = midnight + (DAY - rng.uniform(0.2, 5) if rng.random() < 0.15 else rng.uniform(0, DAY))
    ends = midnight + days * DAY
    history = rng.choice((0, 1, 3, 10, 40))
    settings = _settings(rng, datetime.fromtimestamp(midnight + DAY / 2, LONDON).date(), history)
    made = Plan(
        seed=seed,
        days=days,
        begins=begins,
        ends=ends,
        settings=settings,
        habits=_habits(rng),
        calls=[],
        uid_at=rng.choice(("start", "end", "visible")),
        cron=rng.random() < 0.2,
        poll_every=rng.choice((20, 60, 90, 120, 240)) * MINUTE,
        look_back_every=settings.lookback_interval.total_seconds(),
        deep_sweep_every=deep.choice((float("inf"), float("inf"), 0.4 * DAY, DAY, 2.5 * DAY)),
        crash=rng.choice((0.0, 0.0, 0.005, 0.03)),
        database=rng.choice((0.0, 0.0, 0.01, 0.05)),
        skew=rng.choice((0.0, 0.0, 0.0, rng.uniform(-90, 90))),
        vanishing=rng.random() < 0.1,
    )
    for spans, longest in ((made.downtimes, 2 * DAY), (made.outages, DAY)):
        for _ in range(rng.choice((0, 0, 1, 2, 4))):
            at = rng.uniform(begins, ends)
            spans.append((at, at + rng.uniform(MINUTE, longest) ** rng.choice((1.0, 0.8))))
    if rng.random() < 0.1:
        made.reset_at = rng.uniform(begins, ends)
    made.calls = _calls(rng, made, midnight - history * DAY)
    made.habits = replace(made.habits, repeated=rng.choice((0.0, 0.0, 0.0, 0.01)))
    hidden = deep.choice((0.0, 0.02, 0.2)) if made.deep_sweep_every < made.ends else 0.0
    for call in made.calls:
        call.dateless = deep.random() < hidden
    return made


def _first_day(rng: Random) -> date:
    """A day of 2026; for every third seed one before a night in which clocks change."""
    if rng.random() < 0.34:
        return rng.choice((SPRING, AUTUMN)) - timedelta(days=rng.randrange(3))
    return date(2026, 1, 1) + timedelta(days=rng.randrange(360))


def _settings(rng: Random, today: date, history: int) -> SyncSettings:
    starts: Sequence[date | Literal["today", "all"]] = (
        "today",
        "all",
        today - timedelta(days=rng.randrange(max(history, 1))),
    )
    return SyncSettings(
        timezone=LONDON,
        start=rng.choice(starts),
        numbers=rng.choice(((), (), (), NUMBERS[:1], NUMBERS[:2])),
        page_size=rng.choice((1, 2, 3, 7, 10, 50, 1000)),
        lookback=timedelta(hours=rng.choice((1, 2, 4))),
        lookback_interval=timedelta(minutes=rng.choice((30, 60, 120, 240))),
        sweep_days=rng.choice((2, 3, 7)),
        workers=rng.choice((1, 2, 3)),
    )


def _habits(rng: Random) -> Habits:
    orders: tuple[Order, ...] = ("uid", "uid", "uid", "uid-desc", "start", "start-desc", "visible")
    trouble = rng.choice((0.0, 0.0, 0.01, 0.05))
    return Habits(
        tail_order=rng.choice((*orders, "start", "visible")),
        window_order=rng.choice(orders),
        end_date=rng.choice(("exclusive", "exclusive", "inclusive", "midnight")),
        clamp=rng.choice((10_000, 10_000, 1, 2, 5, 20)),
        totals=rng.choice(("exact", "double", "refused", "unusable", "some")),
        slow=rng.choice((0.2, 2.0, 30.0)),
        unreachable=trouble * rng.random(),
        bad=trouble * rng.random(),
        refused=trouble * rng.random(),
        duplicate=rng.choice((0.0, 0.0, 0.0, 0.1, 0.5)),
    )


def _calls(rng: Random, made: Plan, first: float) -> list[Call]:
    """Calls from `first` on, some days without any; then their uids in the order in which they are handed out."""
    calls: list[Call] = []
    volume = rng.choice((0, 3, 10, 25, 50))
    late = rng.choice((0.0, 0.05, 0.3))
    day = first
    while day < made.ends:
        quiet = rng.random() < 0.25
        number = 0 if quiet or not volume else rng.randint(1, 2 * volume)
        calls.extend(_call(rng, made, int(day + _moment(rng)), late) for _ in range(number))
        day += DAY
    calls.sort(key=lambda call: (call.assigned, call.start))
    uid, fallen = rng.randint(100, 10_000), False
    for call in calls:
        if call.assigned >= made.reset_at and not fallen:
            uid, fallen = _fall(rng, uid, calls, made), True
        uid += rng.choice((1, 1, 2, 7, 30))
        call.uid = uid
    for call in calls:
        _records(rng, call, made)
    return calls


def _moment(rng: Random) -> float:
    """When in its day a call begins: some in the seconds around midnight and in the hour that clocks change."""
    where = rng.random()
    if where < 0.04:
        return rng.choice((0, 0, 1, DAY - 1, DAY - 2))
    if where < 0.1:
        return rng.uniform(0, 3 * 3600)
    return rng.uniform(0, DAY)


def _call(rng: Random, made: Plan, start: int, late: float) -> Call:
    end = start + rng.choice((0, rng.randint(1, 300), rng.randint(1, 3600), rng.randint(1, 4 * 3600)))
    at_connect = made.uid_at == "start" and rng.random() < 0.3  # shown while it goes on
    visible = start if at_connect else end
    if rng.random() < late:
        visible += rng.choice((rng.randint(1, 90), rng.randint(60, 4 * 3600), rng.randint(3600, 8 * DAY)))
    else:
        visible += rng.choice((0, 0, 1, 5))
    changed = [end] if at_connect and end > start else []
    while rng.random() < 0.15:
        changed.append(max([visible, *changed]) + rng.choice((rng.randint(1, 7200), rng.randint(1, 6 * DAY))))
    vanish = float("inf")
    if made.vanishing and rng.random() < 0.03:
        vanish = visible + rng.uniform(1, 3 * DAY)
    assigned = {"start": start, "end": end, "visible": visible}[made.uid_at]
    day = datetime.fromtimestamp(start, LONDON).date()
    return Call(0, rng.choice(NUMBERS), assigned, start, end, visible, day, vanish, changed)


def _fall(rng: Random, uid: int, calls: list[Call], made: Plan) -> int:
    """A new sequence of uids: from the very beginning, or as after a restored back-up, which forgot its last calls."""
    if rng.random() < 0.5:
        return rng.randint(0, 20)
    base = max(0, uid - rng.randint(5, 500))
    for call in calls:
        if call.uid > base and call.assigned < made.reset_at:
            call.vanish = min(call.vanish, made.reset_at)
    return base


def _records(rng: Random, call: Call, made: Plan) -> None:
    """Every version of the record; a few can't be typed, and stay so."""
    clock = datetime.fromtimestamp(call.start, LONDON)
    ref = f"{call.start:08X}{rng.getrandbits(32):08X}"
    if rng.random() < 0.01:
        reject = Reject(
            rng.choice((call.uid, call.uid, None)), f"<CDR><ref>{ref}</ref></CDR>", "duration: not a number"
        )
        call.changed.clear()
        call.records = call.tail_records = [reject]
        return
    in_progress = bool(call.changed) and call.changed[0] == call.end
    flags_absent = made.seed % 3  # 0: never, 1: on LastId pages, 2: everywhere
    recorded: bool | None = rng.random() < 0.2
    for version in range(len(call.changed) + 1):
        duration = 0 if in_progress and version == 0 else call.end - call.start
        record = FIRST._replace(
            uid=call.uid,
            ref=ref,
            call_date=call.day,
            call_time=clock.time(),
            started_at=datetime.fromtimestamp(call.start, UTC),
            bnumber=call.number,
            duration=duration,
            ring_time=rng.randrange(30),
            user_cost=Decimal(duration * (version + 1)) / 1000,
            has_recorded_call=bool(recorded) or version > 0,
        )
        bare = record._replace(has_recorded_call=None, has_voicemail_recording=None)
        call.records.append(bare if flags_absent == 2 else record)
        call.tail_records.append(record if flags_absent == 0 else bare)
