"""Two accounts and everything that can happen to their calls; and what the views ought to say of them."""

from __future__ import annotations

import random
from collections import defaultdict
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import select

from cdrsync.store import numbering, summaries
from cdrsync.store.numbering import RULES_VERSION, classify
from cdrsync.store.privacy.eraser import Eraser
from cdrsync.store.privacy.rules import Key
from cdrsync.store.schema import tables
from tests.support.examples import FIRST, page
from tests.support.eyes import seen
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy.engine import Engine

    from cdrsync.model import Cdr
    from cdrsync.store.save import SqlStore
    from cdrsync.store.spelling import NumberFacts

SECRET = "a long random text"
DAYS = 120
CALLERS = ("7921255043", "7700900123", "33142685300", "", None)
NUMBERS = ("1245830144", "8001111111", "1245830145", None, "")
DESTINATIONS = ("0", "V:user@domain.com", "447512345678", "14155552671", "441214960116", None, "")
COSTS = ("0.001", "0.0075", "123.456789", "0", "-0.000003")
ALIASES = ("Sales", "Support", "-", "", None)


class Figures(NamedTuple):
    """What a view says of several calls."""

    calls: int
    answered: int
    voicemail: int
    missed: int
    unknown: int
    withheld: int
    duration: int
    answered_duration: int
    answered_timed: int
    answered_ring_time: int
    answered_in_20_s: int
    cost_micros: int


def figures(calls: list[dict[str, Any]]) -> Figures:
    """The figures of calls as the view `calls` shows them, worked out here."""
    outcomes = [call["outcome"] for call in calls]
    answered = [call for call in calls if call["outcome"] == "answered"]
    rings = [call["ring_time"] for call in answered if call["ring_time"] is not None]
    return Figures(
        len(calls),
        outcomes.count("answered"),
        outcomes.count("voicemail"),
        outcomes.count("missed"),
        outcomes.count("unknown"),
        sum(call["caller_kind"] == "withheld" for call in calls),
        sum(call["duration"] for call in calls),
        sum(call["duration"] for call in answered),
        len(rings),
        sum(rings),
        sum(ring <= 20 for ring in rings),
        sum(call["cost_micros"] for call in calls),
    )


def grouped(calls: list[dict[str, Any]], *keys: str) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    """By account and keys."""
    groups = defaultdict(list)
    for call in calls:
        groups[call["account"], *(call[key] for key in keys)].append(call)
    return groups


COMPARED = (
    *("account", "account_id", "uid", "alias", "started_at", "call_date", "call_hour", "called_number"),
    *("destination_kind", "caller_kind", "outcome", "duration", "ring_time", "cost_micros"),
)


def disagreements(engine: Engine) -> list[str]:
    """The views whose figures are not those of `calls`, and `calls` where it is not `cdr`."""
    calls = seen(engine, f"SELECT {', '.join(COMPARED)} FROM calls")
    found = []
    with engine.connect() as connection:
        rows = connection.execute(select(tables.cdr)).all()
        days = select(tables.coverage.c.call_date).where(
            tables.coverage.c.account_id == tables.call_day.c.account_id,
            tables.coverage.c.call_date == tables.call_day.c.call_date,
            tables.coverage.c.summed,
        )
        of_days = tables.call_day.c.split != summaries.BY_MONTH
        if connection.execute(select(tables.call_day).where(of_days, ~days.exists())).all():
            found.append("rows of days that are not summed")
    truth = sorted((row.account_id, row.uid, row.duration, int(row.user_cost * 10**6)) for row in rows)
    if truth != sorted((c["account_id"], c["uid"], c["duration"], c["cost_micros"]) for c in calls):
        found.append("calls")
    for view, keys in (
        ("calls_daily", ("call_date",)),
        ("calls_hourly", ("call_date", "call_hour")),
        ("numbers_daily", ("call_date", "called_number")),
        ("destinations_daily", ("call_date", "destination_kind")),
        ("numbers", ("called_number",)),
    ):
        wanted = {key: figures(some) for key, some in grouped(calls, *keys).items()}
        said = seen(engine, f"SELECT * FROM {view}")
        shown = {
            (row["account"], *(row[key] for key in keys)): Figures(*(int(row[name]) for name in Figures._fields))
            for row in said
        }
        if shown != wanted or len(said) != len(wanted):
            found.append(view)
        for row in said:
            mean = Decimal(row["answered_duration"]) / row["answered"] if row["answered"] else None
            shown_mean = row["mean_answered_duration"]
            if (mean is None) != (shown_mean is None) or abs(Decimal(shown_mean or 0) - (mean or 0)) > Decimal("0.05"):
                found.append(f"{view}: the mean")
    by_number = grouped(calls, "called_number")
    for row in seen(engine, "SELECT * FROM numbers"):
        of_it = by_number[row["account"], row["called_number"]]
        named = max((c for c in of_it if c["alias"]), key=lambda call: call["uid"], default={"alias": None})
        times = sorted(c["started_at"] for c in of_it)
        if (row["alias"], row["first_call_at"], row["last_call_at"]) != (named["alias"], times[0], times[-1]):
            found.append("numbers: name or times")
    return found


class TwoAccounts:
    """Two accounts, and everything that can happen to their calls."""

    def __init__(self, url: str, engine: Engine, seed: int) -> None:
        self.random = random.Random(seed)
        self.engine = engine
        self.stores = [OwnStore(url, name, classify=classify, pseudonym_key=SECRET) for name in ("main", "other")]
        for store in self.stores:
            store.open()
        self.held: dict[str, dict[int, Cdr]] = {store.account: {} for store in self.stores}
        self.rules = 0

    def call(self, uid: int) -> Cdr:
        draw = self.random
        day, hour = draw.randrange(DAYS), draw.randrange(24)
        return FIRST._replace(
            uid=uid,
            ref=f"{uid:016X}",
            call_date=FIRST.call_date + timedelta(days=day),
            call_time=FIRST.call_time.replace(hour=hour),
            started_at=FIRST.started_at + timedelta(days=day, hours=hour - FIRST.call_time.hour),
            anumber=draw.choice(CALLERS),
            bnumber=draw.choice(NUMBERS),
            dialled=draw.choice(DESTINATIONS),
            alias=draw.choice(ALIASES),
            duration=draw.randrange(4000),
            ring_time=draw.choice((None, 0, 20, 21, 35)),
            user_cost=Decimal(draw.choice(COSTS)),
            reason=draw.choice((None, 1, 1, 2, 1015)),
        )

    def save(self, store: SqlStore, calls: Iterable[Cdr]) -> None:
        some = list(calls)
        self.held[store.account] |= {call.uid: call for call in some}
        store.save(page(*some, completes=tuple({call.call_date for call in some})))

    def step(self, store: SqlStore) -> str:
        held = self.held[store.account]
        what = self.random.choice(("new", "new", "change", "again", "sum", "sum", "sum", "erase", "prune", "classify"))
        match what:
            case "new":
                self.save(store, (self.call(len(held) + n + 1) for n in range(self.random.randrange(1, 60))))
            case "change":  # a day may change, too
                some = self.random.sample(sorted(held), min(len(held), 5))
                self.save(store, (self.call(uid)._replace(ref=held[uid].ref) for uid in some))
            case "again":  # a heal, a sweep: nothing changes
                self.save(store, list(held.values()))
            case "sum":
                for _ in range(self.random.randrange(1, 6)):
                    store.sum_days(look=True)
            case "erase":
                self.eraser(store).erase_number(self.random.choice(CALLERS[:3]) or "")
            case "prune":
                before = FIRST.call_date + timedelta(days=self.random.randrange(DAYS // 4))
                for _ in self.eraser(store).prune(before, self.random.choice(("delete", "pseudonymise"))):
                    pass
            case "classify":
                self.rules += 1
                version = f"{self.rules}/{RULES_VERSION}"
                numbering.refresh(self.engine, lambda number: self.facts(number, version), version)
        return what

    def eraser(self, store: SqlStore) -> Eraser:
        return Eraser(self.engine, store.account, Key(SECRET))

    def facts(self, number: str, version: str) -> NumberFacts:
        """Other rules say other things of what is not withheld."""
        facts = classify(number)
        kind = facts.kind if facts.kind == "withheld" else f"kind {self.rules % 3}"
        return facts._replace(kind=kind, rules_version=version)

    def close(self) -> None:
        for store in self.stores:
            store.close()
