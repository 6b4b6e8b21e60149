"""What each index of `cdr`, and the summary, costs who writes: catch-ups with it and without it, in pairs, in turn.

    python -m tests.benchmarks.write_costs --url sqlite:////tmp/pair.db
    python -m tests.benchmarks.write_costs --url postgresql+psycopg://postgres@/pair?host=/run/postgresql --pid 4711

Each run empties the database and saves CALLS calls, newest day first, through the store. CPU seconds are those of this
process and, with `--pid`, of the server's processes (PostgreSQL: the postmaster and all of its children). The median of
the pairs' differences is printed in microseconds of CPU and of the clock for each call.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import MetaData, text

from cdrsync.model import Origin, Page
from cdrsync.store.admin import migrate
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.numbering import classify
from tests.benchmarks.questions import calls
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdrsync.model import Cdr

INDEXES = ("ix_cdr_day", "ix_cdr_anumber", "ix_cdr_bnumber", "ix_cdr_started_at", "ix_cdr_uid")
SUMMING = "the summary"
CALLS, PAIRS, PAGE = 20_000, 5, 1000
TEN_YEARS = 1_000_000  # as many calls a day as that makes


class Cost(NamedTuple):
    """Of one catch-up, in seconds."""

    cpu: float
    wall: float


def main() -> None:
    """Measure what is asked for, or everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True, help="a database of its own: it is emptied")
    parser.add_argument("--pid", type=int, help="the server's process")
    parser.add_argument("--of", action="append", choices=[*INDEXES, SUMMING], help="all of them by default")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--calls", type=int, default=CALLS)
    told = parser.parse_args()
    pages = list(newest_first(list(itertools.islice(calls(TEN_YEARS), told.calls))))
    for part in told.of or (*INDEXES, SUMMING):
        pairs = []
        for number in range(told.pairs):
            order = (True, False) if number % 2 else (False, True)
            found = {wanted: catch_up(told.url, told.pid, pages, part, wanted=wanted) for wanted in order}
            pairs.append((found[True], found[False]))
        cpu, wall = (
            1e6 * statistics.median(getattr(with_, name) - getattr(without, name) for with_, without in pairs)
            for name in Cost._fields
        )
        whole = 1e6 * statistics.median(with_.cpu for with_, _ in pairs)
        sys.stdout.write(
            f"{part:20} {cpu / told.calls:7.1f} µs of CPU a call, {wall / told.calls:7.1f} µs of the clock;"
            f" a catch-up with it {whole / told.calls:7.1f}\n"
        )
        sys.stdout.flush()


def newest_first(every: list[Cdr]) -> Iterator[list[Cdr]]:
    """Pages as history brings them: the newest day first, a day's calls in their order."""
    days = [list(some) for _, some in itertools.groupby(every, key=lambda call: call.call_date)]
    ordered = itertools.chain.from_iterable(reversed(days))
    while page := list(itertools.islice(ordered, PAGE)):
        yield page


def catch_up(url: str, pid: int | None, pages: list[list[Cdr]], part: str, *, wanted: bool) -> Cost:
    """Save all pages into an empty database, with the part or without it."""
    engine = open_engine(url)
    empty(url)
    migrate.upgrade(engine)
    if part in INDEXES and not wanted:
        with engine.begin() as connection:
            of_table = " ON cdr" if engine.dialect.name in ("mysql", "mariadb") else ""
            connection.execute(text(f"DROP INDEX {part}{of_table}"))
    engine.dispose()
    store = OwnStore(url, "default", classify=classify)
    store.open()
    begun, before = time.perf_counter(), cpu(pid)
    for page in pages:
        store.save(Page(Origin.BACKFILL, page))
    while part == SUMMING and wanted and store.sum_days():
        pass
    cost = Cost(cpu(pid) - before, time.perf_counter() - begun)
    store.close()
    return cost


def empty(url: str) -> None:
    """Take away all that is in the database."""
    engine = open_engine(url)
    with engine.begin() as connection:
        kind = engine.dialect.name
        if kind == "postgresql":
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
        else:
            held = MetaData()
            held.reflect(connection, views=False)
            views = connection.dialect.get_view_names(connection)
            for view in views:
                connection.execute(text(f"DROP VIEW {view}"))
            held.drop_all(connection)
    engine.dispose()


def cpu(pid: int | None) -> float:
    """Seconds that this process and the server's have used so far."""
    return time.process_time() + sum(map(_used, () if pid is None else (pid, *_children(pid))))


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _used(pid: int) -> float:
    """All threads'. A child that ends between two readings takes its seconds along: the writer's stays."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


if __name__ == "__main__":
    main()
