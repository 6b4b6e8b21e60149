"""How long an analyst waits: README's questions, Grafana's panels and what people try first, on a database of any size.

    python -m tests.benchmarks.questions --url postgresql+psycopg://postgres@db/calls --fill 30000000
    python -m tests.benchmarks.questions --url postgresql+psycopg://postgres@db/calls --url sqlite:///calls.db

`--fill` saves ten years of calls, up to yesterday, through the store into an empty database, and has them summed. Every
query is asked RUNS times, rows fetched; the table gives the best and the median in milliseconds for each URL.
`--explain` adds PostgreSQL's plan of the slowest.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from sqlalchemy import create_engine, text

from cdrsync.model import Cdr, Origin, Page
from cdrsync.store.admin import migrate
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.numbering import classify
from tests.support.analyst import panel_query, questions
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Engine

DASHBOARD = Path(__file__).parents[2] / "deploy/grafana/dashboards/cdrsync-calls.json"
TRIED_FIRST = {
    "newest 100 calls, by uid": "SELECT * FROM calls ORDER BY uid DESC LIMIT 100",
    "newest 100 calls, by time": "SELECT * FROM calls ORDER BY started_at DESC LIMIT 100",
    "all numbers": "SELECT * FROM numbers",
    "months, all years": """
        SELECT c.month_start, SUM(d.calls), SUM(d.cost)
        FROM calls_daily AS d JOIN calendar AS c ON c.call_date = d.call_date GROUP BY c.month_start""",
    "weekday and hour, all years": """
        SELECT c.weekday, h.call_hour, SUM(h.calls)
        FROM calls_hourly AS h JOIN calendar AS c ON c.call_date = h.call_date GROUP BY c.weekday, h.call_hour""",
    "kinds of destination, all years": """
        SELECT destination_kind, SUM(calls), SUM(cost) FROM destinations_daily GROUP BY destination_kind""",
    "numbers called most, all years": """
        SELECT called_number, SUM(calls) AS calls FROM numbers_daily GROUP BY called_number ORDER BY calls DESC""",
    "one day's calls": "SELECT * FROM calls WHERE call_date = (SELECT MAX(call_date) FROM coverage_daily)",
}
YEARS = 10
PAGE = 10_000
RUNS = 5


def main() -> None:
    """Fill what is to be filled, then ask every database everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", action="append", required=True, help="a database; several stand side by side")
    parser.add_argument("--fill", type=int, metavar="CALLS", help="ten years of calls into each of them first")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--explain", action="store_true", help="PostgreSQL's plan of each one's slowest")
    told = parser.parse_args()
    if told.fill:
        for url in told.url:
            fill(url, told.fill)
    columns = {url: timed(url, told.runs) for url in told.url}
    sys.stdout.write(table(columns))
    for url, found in columns.items():
        if told.explain and url.startswith("postgresql"):
            name = max(found, key=lambda name: min(found[name]))
            sys.stdout.write(f"\n{name}\n{plan(url, name)}\n")


def timed(url: str, runs: int) -> dict[str, list[float]]:
    """Milliseconds of every query, asked in turn so that a busy moment meets all alike."""
    engine = open_engine(url)
    queries = everything(engine)
    found: dict[str, list[float]] = {name: [] for name in queries}
    for _ in range(runs):
        for name, query in queries.items():
            with engine.connect() as connection:
                connection.execute(text("SELECT 1"))
                begun = time.perf_counter()
                connection.execute(text(query)).all()
                found[name].append(1000 * (time.perf_counter() - begun))
    engine.dispose()
    return found


def everything(engine: Engine) -> dict[str, str]:
    """Name and SQL of each query. Grafana's panels are written for PostgreSQL."""
    dialect = engine.dialect.name
    queries = {f"question {number}": query for number, query in questions(dialect).items()} | TRIED_FIRST
    if dialect == "postgresql":
        end = datetime.now(UTC)
        for panel in json.loads(DASHBOARD.read_text())["panels"]:
            for target in panel["targets"]:
                since = end - timedelta(days=366 * YEARS)
                query = panel_query(target["rawSql"], since, end, "SELECT name FROM account")
                queries[f"{panel['type']} {panel['title']}"] = query.replace(":", "\\:")
    return queries


def table(columns: dict[str, dict[str, list[float]]]) -> str:
    """One line a query, best and median for each database."""
    names = dict.fromkeys(name for found in columns.values() for name in found)
    lines = [f"{number}: {held(url):,} calls, {url}" for number, url in enumerate(columns, 1)]
    lines.append(f"{'ms, best / median':42}" + "".join(f"{number:>18}" for number, _ in enumerate(columns, 1)))
    for name in names:
        cells = [
            f"{min(found[name]):9.1f} /{statistics.median(found[name]):7.1f}" if name in found else ""
            for found in columns.values()
        ]
        lines.append(f"{name:42}" + "".join(f"{cell:>18}" for cell in cells))
    return "\n".join(lines) + "\n"


def held(url: str) -> int:
    """Calls of the ledger."""
    engine = open_engine(url)
    with engine.connect() as connection:
        calls = int(connection.scalar(text("SELECT SUM(calls) FROM coverage_daily")) or 0)
    engine.dispose()
    return calls


def plan(url: str, name: str) -> str:
    """What PostgreSQL does for a query."""
    engine = open_engine(url)
    with engine.connect() as connection:
        lines = connection.execute(text(f"EXPLAIN (ANALYZE, BUFFERS) {everything(engine)[name]}")).scalars().all()
    engine.dispose()
    return "\n".join(lines)


# ── ten years of calls ───────────────────────────────────────────────────────────────────────────────────────────────


def fill(url: str, count: int) -> None:
    """Save `count` calls through the store, as a catch-up does."""
    engine = open_engine(url)
    migrate.upgrade(engine)
    store = OwnStore(url, "default", classify=classify)
    store.open()
    begun = time.monotonic()
    made = calls(count)
    number = 0
    while some := list(islice(made, PAGE)):
        number += 1
        days = {call.call_date for call in some}
        store.save(Page(Origin.BACKFILL, some, completes=tuple(days - {some[-1].call_date})))
        if number % 100 == 0:
            sys.stdout.write(f"{number * PAGE:,} calls, {time.monotonic() - begun:.0f} s\n")
            sys.stdout.flush()
    while store.sum_days():
        pass
    store.close()
    plain = create_engine(engine.url, isolation_level="AUTOCOMMIT")  # ours begins every transaction by itself
    with plain.connect() as connection:
        for statement in ANALYSE[engine.dialect.name]:
            connection.execute(text(statement))
    for opened in (engine, plain):
        opened.dispose()
    sys.stdout.write(f"{count:,} calls saved and summed, {time.monotonic() - begun:.0f} s\n")


ANALYSE = {
    "sqlite": ["ANALYZE"],
    "postgresql": ["VACUUM (ANALYZE)"],
    "mysql": ["ANALYZE TABLE cdr, number, coverage, call_day"],
    "mariadb": ["ANALYZE TABLE cdr, number, coverage, call_day"],
}
"""What a server does by itself within minutes."""

PLACES = ("UK O2 Mobile", "UK Vodafone Mobile", "UK EE Mobile", "UK Birmingham", "UK London", "UK Leeds")
NAMES = ("Sales", "Support", "-", "Night desk", "", "Accounts", "Returns", "Front desk")


def calls(count: int) -> Iterator[Cdr]:
    """Calls of ten years in the order of time, in office hours, some callers and numbers far busier than others."""
    draw = random.Random(count)
    london = ZoneInfo("Europe/London")
    days = 365 * YEARS
    first = datetime.now(london).date() - timedelta(days=days)
    callers = max(1_000, count // 100)
    for n in range(count):
        day, share = divmod(n * days / count, 1)
        date = first + timedelta(days=day)
        wall = datetime(date.year, date.month, date.day, 7, tzinfo=london) + timedelta(seconds=int(share * 43_000))
        answered, line = draw.random() < 0.7, int(draw.random() ** 2 * 40)
        voicemail = answered and draw.random() < 0.15
        caller = int(draw.random() ** 3 * callers)
        seconds = int(draw.expovariate(1 / 150)) + 1 if answered else 0
        destination = f"V:desk{line}@example.com" if voicemail else f"447700900{int(draw.random() ** 2 * 60):03}"
        yield Cdr(
            uid=1_000_000 + 7 * n,
            ref=f"{n:07x}E00000012",
            call_date=date,
            call_time=wall.time(),
            started_at=wall.astimezone(UTC),
            wall_clock=None,
            anumber="" if draw.random() < 0.07 else "7700900770" if not caller else f"7{caller * 2713 % 10**9:09}",
            anumber_location=PLACES[caller % len(PLACES)],
            bnumber=f"1214960{line:03}",
            alias=NAMES[line % len(NAMES)],
            dialled=destination if answered else "0",
            dialled_location="UK O2 Mobile" if answered else "Unknown",
            duration=seconds,
            ring_time=int(draw.expovariate(1 / 12)) + 1,
            user_cost=Decimal(draw.randrange(4, 300)) / 1000 if answered else Decimal(0),
            reason=1 if answered else 2,
            reason_q805=1 if answered else 487,
            has_recorded_call=answered,
            has_voicemail_recording=voicemail,
            has_fax_document=False,
            extra=None,
        )


if __name__ == "__main__":
    main()
