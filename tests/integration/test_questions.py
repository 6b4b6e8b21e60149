"""README's ten questions, as they stand there, with one account and with three: the answers are those of the calls."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from cdrsync.store.databases.engine import open_engine
from cdrsync.store.numbering import classify
from tests.conftest import KINDS
from tests.support.analyst import questions
from tests.support.examples import FIRST, page
from tests.support.eyes import seen
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from sqlalchemy.engine import Engine

    from cdrsync.model import Cdr
    from tests.support.servers import Servers

CALLERS = (
    *(f"79212550{n:02}" for n in range(8)), *("+447921255001", "07921255001", "00447921255003", "447700900770"),
    *("7700900770", "", "anonymous"),
)  # fmt: skip
DESTINATIONS = ("0", "V:user@domain.com", "447512345678", "14155552671", "441214960116")


def random_call(draw: random.Random, uid: int, today: date) -> Cdr:
    day = today - timedelta(days=min(int(draw.expovariate(0.06)), 300))
    moment = datetime(day.year, day.month, day.day, draw.randrange(24), draw.randrange(60), uid % 60, tzinfo=UTC)
    answered = draw.random() < 0.6
    return FIRST._replace(
        uid=uid,
        ref=f"{uid:016X}",
        call_date=day,
        call_time=moment.time(),
        started_at=moment,
        anumber=CALLERS[min(int(draw.expovariate(0.3)), len(CALLERS) - 1)],
        bnumber=draw.choice(("1245830144", "8001111111", "1245830145")),
        alias=draw.choice(("Sales", "Support", "-")),
        dialled=draw.choice(DESTINATIONS[1:]) if answered else "0",
        duration=draw.randrange(1, 900) if answered else 0,
        ring_time=draw.choice((None, 3, 20, 21, 40)),
        user_cost=Decimal(draw.randrange(100_000)) / 10**6 if answered else Decimal(0),
        reason=1 if answered else draw.choice((2, 1015)),
    )


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=[1, 3], ids=["one account", "three accounts"])
def questioned(
    request: pytest.FixtureRequest, servers: Servers, kind: str
) -> Iterator[tuple[Engine, list[dict[str, Any]]]]:
    """The database, and its calls with the account of each; some days are summed, others not."""
    draw, today = random.Random(request.param), datetime.now(UTC).date()
    server = servers.get(kind)
    url = servers.migrated(server)
    for number in range(request.param):
        store = OwnStore(url, f"account {number}", classify=classify)
        store.open()
        some = [random_call(draw, uid, today) for uid in range(1, 700)]
        store.save(page(*some, completes=tuple({call.call_date for call in some})))
        store.sum_days()
        store.save(page(*(random_call(draw, uid, today) for uid in range(700, 800))))
        store.close()
    engine = open_engine(url)
    yield engine, seen(engine, "SELECT * FROM calls")
    engine.dispose()
    server.drop(url)


def answer(engine: Engine, question: int) -> list[tuple[Any, ...]]:
    query = questions(engine.dialect.name)[question]
    with engine.connect() as connection:
        connection.execute(text(query)).all()  # what `seen` makes alike is what a person gets
    return [tuple(row.values()) for row in seen(engine, query)]


def since(calls: list[dict[str, Any]], days: int) -> list[dict[str, Any]]:
    first = str(datetime.now(UTC).date() - timedelta(days=days))
    return [call for call in calls if call["call_date"] >= first]


def pounds(calls: list[dict[str, Any]]) -> Decimal:
    return Decimal(sum(call["cost_micros"] for call in calls)) / 10**6


def near(shown: Any, wanted: Decimal, digits: int) -> bool:
    """Whether a rounded figure is the exact one, whichever way the database rounds a half."""
    return abs(Decimal(str(shown)) - wanted) <= Decimal(5).scaleb(-digits - 1) + Decimal("1e-9")


def test_no_question_walks_over_all_calls_on_sqlite(questioned: tuple[Engine, list[dict[str, Any]]]) -> None:
    """SQLite takes an index for each, although nobody ever ran ANALYZE."""
    engine = questioned[0]
    if engine.dialect.name != "sqlite":
        pytest.skip("servers count their rows by themselves")
    with engine.connect() as connection:
        for number, query in questions("sqlite").items():
            plan = [row.detail for row in connection.execute(text(f"EXPLAIN QUERY PLAN {query}"))]
            assert not [step for step in plan if step.startswith("SCAN cdr")], (number, plan)
            assert not [step for step in plan if step.startswith("SCAN call_day")], (number, plan)


def test_1_days(questioned: tuple[Engine, list[dict[str, Any]]]) -> None:
    """One row a day, 31 of them, also for days without a call, whatever the number of accounts."""
    rows = answer(questioned[0], 1)
    assert len(rows) == len({row[0] for row in rows}) == 31
    for day, count, answered, cost in rows:
        of_day = [call for call in questioned[1] if call["call_date"] == day]
        wanted = (len(of_day), sum(call["outcome"] == "answered" for call in of_day), pounds(of_day))
        assert (int(count), int(answered), round(Decimal(cost), 6)) == wanted


def test_2_hours(questioned: tuple[Engine, list[dict[str, Any]]]) -> None:
    counts = Counter((call["call_hour"], call["outcome"] == "missed") for call in since(questioned[1], 30))
    for hour, count, percent in answer(questioned[0], 2):
        total = counts[hour, True] + counts[hour, False]
        assert int(count) == total
        assert near(percent, Decimal(100 * counts[hour, True]) / total, 1)


def test_3_numbers(questioned: tuple[Engine, list[dict[str, Any]]]) -> None:
    groups = defaultdict(list)
    for call in questioned[1]:
        groups[call["account"], call["called_number"]].append(call)
    rows = answer(questioned[0], 3)
    assert [int(row[3]) for row in rows] == sorted(map(len, groups.values()), reverse=True)[:5]
    for account, number, alias, count, answered, cost, last in rows:
        some = groups[account, number]
        newest = max((call for call in some if call["alias"]), key=lambda call: call["uid"])
        wanted = (newest["alias"], len(some), sum(call["outcome"] == "answered" for call in some), pounds(some))
        assert (alias, int(count), int(answered), round(Decimal(cost), 6)) == wanted
        assert last == max(call["started_at"] for call in some)


def test_4_callers(questioned: tuple[Engine, list[dict[str, Any]]]) -> None:
    """However they are spelled; with the same minutes, also where a database divides whole numbers to whole ones."""
    recent = [call for call in since(questioned[1], 7) if call["caller_kind"] != "withheld"]
    counts = Counter(call["caller"] for call in recent)
    rows = answer(questioned[0], 4)
    for caller, *_, minutes in rows:
        seconds = sum(call["duration"] for call in recent if call["caller"] == caller)
        assert near(minutes, Decimal(seconds) / 60, 0)
    assert [row[2] for row in rows] == [count for _, count in counts.most_common(5)]
    assert [counts[row[0]] for row in rows] == [row[2] for row in rows]


def test_5_one_caller(questioned: tuple[Engine, list[dict[str, Any]]]) -> None:
    of_caller = sorted((c for c in questioned[1] if c["caller_number"] == "7700900770"), key=lambda c: c["started_at"])
    assert [row[0] for row in answer(questioned[0], 5)] == [call["started_local"] for call in of_caller[::-1][:5]]


def test_6_callers_that_never_got_through(questioned: tuple[Engine, list[dict[str, Any]]]) -> None:
    got_through: defaultdict[tuple[str, str], str] = defaultdict(str)
    for call in questioned[1]:
        if call["outcome"] == "answered":
            who = call["account"], call["caller"]
            got_through[who] = max(got_through[who], call["started_at"])
    tries = Counter(
        who
        for call in since(questioned[1], 7)
        if call["outcome"] == "missed" and call["caller_kind"] != "withheld"
        and call["started_at"] >= got_through[who := (call["account"], call["caller"])]
    )  # fmt: skip
    rows = answer(questioned[0], 6)
    assert [row[3] for row in rows] == [count for _, count in tries.most_common(5)]
    assert [tries[row[0], row[1]] for row in rows] == [row[3] for row in rows]


def test_7_kinds_of_destination(questioned: tuple[Engine, list[dict[str, Any]]]) -> None:
    recent = since(questioned[1], 30)
    rows = answer(questioned[0], 7)
    assert {row[0] for row in rows} == {call["destination_kind"] for call in recent}
    for kind, count, cost, per_minute in rows:
        some = [call for call in recent if call["destination_kind"] == kind]
        assert (int(count), round(Decimal(cost), 6)) == (len(some), pounds(some))
        seconds = sum(call["duration"] for call in some)
        assert (per_minute is None) == (seconds == 0)
        assert not seconds or near(per_minute, pounds(some) * 60 / seconds, 4)


def test_8_waits(questioned: tuple[Engine, list[dict[str, Any]]]) -> None:
    """By the name that a number has on the day: the newest call's that has one."""
    names: dict[tuple[str, str, str], str | None] = {}
    for call in sorted(questioned[1], key=lambda call: call["uid"]):
        key = call["account"], call["call_date"], call["called_number"]
        names[key] = call["alias"] or names.get(key)
    groups = defaultdict(list)
    for call in since(questioned[1], 30):
        if call["outcome"] == "answered":
            groups[names[call["account"], call["call_date"], call["called_number"]]].append(call["ring_time"])
    rows = answer(questioned[0], 8)
    assert {row[0] for row in rows} == set(groups)
    for alias, answered, mean, within in rows:
        rings = [ring for ring in groups[alias] if ring is not None]
        assert int(answered) == len(groups[alias])
        assert near(mean, Decimal(sum(rings)) / len(rings), 1)
        assert near(within, Decimal(100 * sum(ring <= 20 for ring in rings)) / len(rings), 1)


def test_9_weekdays(questioned: tuple[Engine, list[dict[str, Any]]]) -> None:
    """Averages of whole days, all accounts together, silent days too."""
    counts = Counter(call["call_date"] for call in questioned[1])
    first, last = (datetime.fromisoformat(edge(counts)).date() for edge in (min, max))
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    wanted = {}
    for name in {f"{day:%A}" for day in days}:
        some = [counts[str(day)] for day in days if f"{day:%A}" == name]
        wanted[name] = (Decimal(sum(some)) / len(some)).quantize(Decimal(1), ROUND_HALF_UP)
    assert {name: Decimal(shown) for name, shown in answer(questioned[0], 9)} == wanted


def test_10_what_is_proven(questioned: tuple[Engine, list[dict[str, Any]]]) -> None:
    """A day is proven where every account's is; it has a gap where any has one."""
    with questioned[0].begin() as connection:
        connection.execute(text("UPDATE coverage SET verdict = 'complete' WHERE call_date > '2000-01-01'"))
        account = connection.scalar(text("SELECT MAX(id) FROM account"))
        newest = connection.scalar(text("SELECT MAX(call_date) FROM coverage"))
        where = f"account_id = {account} AND call_date = '{newest}'"
        connection.execute(text(f"UPDATE coverage SET verdict = 'gap' WHERE {where}"))
    months = defaultdict(list)
    for call in questioned[1]:
        months[call["call_date"][:7]].append(call)
    rows = answer(questioned[0], 10)
    assert [row[0] for row in rows] == [f"{month}-01" for month in sorted(months)]
    for month, count, cost, proven, gaps in rows:
        some = months[month[:7]]
        days = {call["call_date"] for call in some}
        gap = 1 if str(newest)[:7] == month[:7] else 0
        wanted = (len(some), pounds(some), len(days) - gap, gap)
        assert (int(count), round(Decimal(cost), 6), int(proven), int(gaps)) == wanted
