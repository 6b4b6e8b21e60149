"""`make bench`: cdrsync beside its peers, in turn, on the same records, server, database, indexes and durability.

    python -m tests.benchmarks.bench                  the whole table, at least five pairs: half an hour
    python -m tests.benchmarks.bench --quick          does it all work: a minute
    python -m tests.benchmarks.bench --memory 1000000 --growth 10000000

Every program runs as a whole process, set-up included, one after the other (A B C, A B C, …), so that whatever else the
machine does meets all of them alike. What was stored is compared value by value with the source before a time counts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks import growth, limits, report
from tests.benchmarks.bed import NEW_CALLS, Bed, made
from tests.benchmarks.check import WrongRows, rewritten
from tests.benchmarks.data import Recipe, last_full_hour
from tests.benchmarks.idle import daemon_at_rest
from tests.benchmarks.programs import CDRSYNC, PEERS_PYTHON, PROGRAMS, Program, Task

KINDS = ("postgresql", "mariadb", "sqlite")
IDLE_RUNS = 3  # of each program in each pair: they are short


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of one program."""

    program: str
    database: str
    scenario: str
    pair: int
    seconds: float
    cpu: float  # seconds, the program's
    database_cpu: float  # seconds, the database server's
    peak_mb: float
    records: int  # that the API handed out
    documents: int  # HTTP requests
    load: float  # of the machine, one minute, afterwards


class Bench:
    """Runs pairs and keeps their samples."""

    def __init__(self, bed: Bed, programs: list[Program], latencies: list[float]) -> None:
        self.samples: list[Sample] = []
        self._bed = bed
        self._programs = programs
        self._latencies = latencies

    def pair(self, number: int, kind: str) -> None:
        """Every program once on one database, in an order that turns from pair to pair."""
        able = [program for program in self._programs if kind in program.databases]
        turn = number % len(able)
        for program in able[turn:] + able[:turn]:
            for latency in self._latencies:
                self._round(number, kind, program, latency)

    def _round(self, pair: int, kind: str, program: Program, latency: float) -> None:
        """Catch-up into an empty table; without latency also what comes after it."""
        with self._bed.target(kind, program) as target:
            visible = self._bed.visible
            self._bed.api.control(latency=latency)

            def take(scenario: str, task: Task, visible: int) -> None:
                timed = self._bed.timed(program, target, task, visible=visible)
                cost = timed.cost
                sample = Sample(
                    program.name, kind, scenario, pair, cost.seconds, cost.cpu, timed.database_cpu, cost.peak_mb,
                    timed.records, timed.documents, os.getloadavg()[0],
                )  # fmt: skip
                self.samples.append(sample)
                report.line(sample)

            if latency:
                take(f"catch-up, {latency * 1000:.0f} ms", "new", visible)
                return
            take("catch-up", "new", visible)
            if program.name == "merge":
                return
            for _ in range(IDLE_RUNS):
                take("idle", "new", visible)
            take("five new", "new", visible + NEW_CALLS)
            self._bed.settle(kind)
            take("second pass", "again", visible + NEW_CALLS)
            if program is CDRSYNC and (changed := rewritten(target.database_url)):
                raise WrongRows(f"cdrsync: the second pass over unchanged rows rewrote {changed}")


def main() -> int:
    """Measure, print, write JSON."""
    options = _options()
    programs = [PROGRAMS[name] for name in options.programs]
    if not PEERS_PYTHON.exists() and any(program is not CDRSYNC for program in programs):
        sys.stderr.write("The peers need their own environment: make bench\n")
        return 2
    recipe = Recipe(options.records, options.days, last_full_hour(), ampersands=options.ampersands)
    result: dict[str, object] = {"machine": _machine(), "options": vars(options), "begun_at": str(datetime.now(UTC))}
    with made(recipe, tuple(options.databases), end_included=options.end_included) as bed:
        if options.limits:
            result["limits"] = bare = limits.measured(bed)
            report.limits(bare)
        bench = Bench(bed, programs, options.latencies)
        for kind in options.databases:
            for number in range(options.pairs):
                bench.pair(number, kind)
        result["samples"] = [asdict(sample) for sample in bench.samples]
        if options.daemon:
            result["daemon"] = resting = [daemon_at_rest(bed, kind) for kind in options.databases]
            report.daemon(resting)
    if options.memory:
        result["memory"] = memory = growth.memory(options.memory, options.databases[0])
        report.memory(memory)
    if options.growth:
        result["growth"] = grown = growth.growth(options.growth, options.records, options.pairs)
        report.growth(grown)
    report.table(bench.samples)
    Path(options.json).write_text(json.dumps(result, indent=1, default=str) + "\n")
    sys.stdout.write(f"\nevery figure: {options.json}\n")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.bench", description="cdrsync beside its peers, and the limits."
    )
    parser.add_argument("--quick", action="store_true", help="20,000 records, one pair: only whether it all works")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--days", type=int, default=365, help="over which the records are spread")
    parser.add_argument("--databases", type=_list, default=list(KINDS), help="comma-separated")
    parser.add_argument(
        "--programs", type=_list, default=["cdrsync", "good_script", "dlt", "dlt_arrow"], help="also: merge"
    )
    parser.add_argument("--latencies", type=_seconds, default=[0.0, 0.04], help="per document, seconds: 0,0.04")
    parser.add_argument("--ampersands", type=int, default=0, help="one record in so many carries an escaped &")
    parser.add_argument("--end-included", action="store_true", help="the API takes EndDate as included")
    parser.add_argument("--no-limits", dest="limits", action="store_false", help="leave out the bare stages")
    parser.add_argument("--no-daemon", dest="daemon", action="store_false", help="leave out the daemon at rest")
    parser.add_argument("--memory", type=int, default=0, help="peak memory of a catch-up of so many beside 10,000")
    parser.add_argument("--growth", type=int, default=0, help="rate into a table of so many rows beside an empty one")
    parser.add_argument("--json", default=f"bench-{datetime.now(UTC):%Y%m%d-%H%M%S}.json")
    options = parser.parse_args()
    if options.quick:
        options.records, options.pairs, options.days = 20_000, 1, min(options.days, 60)
    return options


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _seconds(text: str) -> list[float]:
    return [float(part) for part in _list(text)]


def _machine() -> dict[str, object]:
    return {
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "load_before": os.getloadavg(),
        **{name: version(name) for name in ("sqlalchemy", "lxml", "httpx", "psycopg", "pymysql")},
    }


if __name__ == "__main__":
    sys.exit(main())
