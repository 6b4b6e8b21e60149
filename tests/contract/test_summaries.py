"""Whatever is saved, changed, erased, healed or summed, in whatever order: every view says what the calls say."""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from sqlalchemy import select, update

from cdrsync.store import forgetting, numbering, summaries
from cdrsync.store.numbering import RULES_VERSION, classify
from cdrsync.store.privacy.eraser import Eraser
from cdrsync.store.privacy.rules import Key
from cdrsync.store.schema import tables
from tests.support.examples import FIRST, page
from tests.support.eyes import Eyes, seen
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy.engine import Engine

    from cdrsync.model import Cdr
    from cdrsync.store.save import SqlStore
    from cdrsync.store.spelling import NumberFacts
    from tests.conftest import Database

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


def disagreements(engine: Engine) -> list[str]:
    """The views whose figures are not those of `calls`, and `calls` where it is not `cdr`."""
    calls = seen(engine, "SELECT * FROM calls")
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
        groups = defaultdict(list)
        for call in calls:
            groups[call["account"], *(call[key] for key in keys)].append(call)
        wanted = {key: figures(some) for key, some in groups.items()}
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
    for row in seen(engine, "SELECT * FROM numbers"):
        of_it = [c for c in calls if (c["account"], c["called_number"]) == (row["account"], row["called_number"])]
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


@pytest.fixture(params=range(2))
def accounts(request: pytest.FixtureRequest, migrated: Database, eyes: Eyes) -> Iterator[TwoAccounts]:
    made = TwoAccounts(migrated.url, eyes.engine, request.param)
    yield made
    made.close()


def test_views_agree_with_the_calls_at_every_moment(accounts: TwoAccounts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saves, changes, erasures, retention, heals, new numbering rules and summing, at random, in two accounts.

    Summing comes seldom to its end: some days and some months are summed, others not.
    """
    monkeypatch.setattr(summaries, "DAYS_AT_ONCE", 40)
    monkeypatch.setattr(summaries, "MONTHS_AT_ONCE", 2)
    done: list[str] = []
    for store in accounts.stores:
        accounts.save(store, map(accounts.call, range(1, 100)))
    for _ in range(20):
        done.append(accounts.step(accounts.random.choice(accounts.stores)))
        assert disagreements(accounts.engine) == [], done
    for store in accounts.stores:
        while store.sum_days(look=True):
            pass
    assert disagreements(accounts.engine) == [], done
    with accounts.engine.connect() as connection:
        assert connection.scalar(select(tables.coverage.c.calls).where(~tables.coverage.c.summed).limit(1)) is None
        left = connection.execute(select(tables.coverage.c.call_date).where(~tables.coverage.c.in_month)).scalars()
        assert len(summaries.months_of(left)) == 1  # the newest


def test_views_agree_while_an_account_is_forgotten(
    migrated: Database, eyes: Eyes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its calls go piece by piece; with each its days and months leave the summary."""
    monkeypatch.setattr(forgetting, "PIECE", 80)
    accounts = TwoAccounts(migrated.url, eyes.engine, 4)
    for store in accounts.stores:
        accounts.save(store, map(accounts.call, range(1, 200)))
        while store.sum_days():
            pass
    found: list[str] = []
    accounts.stores[0].forget(lambda _: found.extend(disagreements(eyes.engine)))
    assert found + disagreements(eyes.engine) == []
    accounts.close()


def test_a_month_is_read_as_a_month(migrated: Database, eyes: Eyes) -> None:
    """Totals of all years come from months, but for the newest; who changes a day takes its month away."""
    store = OwnStore(migrated.url, "main")
    store.open()
    later = FIRST._replace(
        uid=FIRST.uid + 1,
        ref="",
        call_date=FIRST.call_date + timedelta(days=40),
        started_at=FIRST.started_at + timedelta(days=40),
    )
    store.save(page(FIRST, later))
    while store.sum_days():
        pass
    with eyes.engine.begin() as connection:
        of_months = tables.call_day.c.split == summaries.BY_MONTH
        connection.execute(update(tables.call_day).where(of_months).values(calls=70))
    calls = "SELECT calls FROM numbers"
    assert [row["calls"] for row in seen(eyes.engine, calls)] == [71]
    store.save(page(later._replace(duration=1)))  # of the newest month: the older one is as it was
    assert [row["calls"] for row in seen(eyes.engine, calls)] == [71]
    store.save(page(FIRST._replace(duration=1)))
    assert [row["calls"] for row in seen(eyes.engine, calls)] == [2]
    while store.sum_days():
        pass
    store.close()
    assert [row["calls"] for row in seen(eyes.engine, calls)] == [2]
    with eyes.engine.connect() as connection:
        assert connection.execute(select(tables.call_day.c.calls).where(of_months)).scalars().all() == [1]


def test_days_that_are_summed_are_not_counted_again(migrated: Database, eyes: Eyes) -> None:
    """The views read the summary: a figure changed behind its back shows."""
    store = OwnStore(migrated.url, "main")
    store.open()
    store.save(page(FIRST))
    store.sum_days()
    store.close()
    with eyes.engine.begin() as connection:
        connection.execute(update(tables.call_day).values(calls=77))
    for view in ("calls_daily", "calls_hourly", "numbers_daily", "destinations_daily", "numbers"):
        assert [row["calls"] for row in seen(eyes.engine, f"SELECT calls FROM {view}")] == [77], view


def test_rules_that_say_the_same_leave_the_summary(migrated: Database, eyes: Eyes) -> None:
    """Another edition of the numbering rules: only one that says otherwise has the days counted anew."""
    store = OwnStore(migrated.url, "main", classify=classify)
    store.open()
    store.save(page(FIRST))
    store.sum_days()
    store.close()
    days = select(tables.coverage.c.summed)
    for version, kind, left in (("same", None, True), ("others", "a new kind", False)):

        def edition(number: str, version: str = version, kind: str | None = kind) -> NumberFacts:
            facts = classify(number)
            return facts._replace(rules_version=version, kind=kind or facts.kind)

        assert numbering.refresh(eyes.engine, edition, version) > 0
        with eyes.engine.connect() as connection:
            assert set(connection.execute(days).scalars()) == {left}
            assert bool(connection.execute(select(tables.call_day)).all()) == left
        assert disagreements(eyes.engine) == []


def test_nothing_is_summed_twice_or_lost_beside_who_erases(migrated: Database, eyes: Eyes) -> None:
    """The daemon sums while another process erases: whatever they interleave, the views are right afterwards."""
    accounts = TwoAccounts(migrated.url, eyes.engine, 1)
    store = accounts.stores[0]
    accounts.save(store, map(accounts.call, range(1, 600)))
    failures: list[BaseException] = []
    every_day = [FIRST.call_date + timedelta(days=n) for n in range(DAYS)]

    def erase() -> None:
        try:
            for caller in CALLERS[:3]:
                accounts.eraser(store).erase_number(caller or "")
            for _ in accounts.eraser(store).prune(FIRST.call_date + timedelta(days=20), "delete"):
                pass
        except BaseException as error:  # noqa: BLE001 - handed to the test's thread
            failures.append(error)

    erasing = threading.Thread(target=erase)
    erasing.start()
    while erasing.is_alive():
        with store._session.transaction() as connection:  # as if a page had come: there is always something to sum
            summaries.mark(connection, store._session.account_id, every_day)
        store._summed = False
        store.sum_days()
        erasing.join(0.02)  # as long as a page takes to come: SQLite gives who waits no turn by itself
    erasing.join()
    assert failures == []
    store._summed = False
    while store.sum_days():
        pass
    assert disagreements(eyes.engine) == []
    accounts.close()
