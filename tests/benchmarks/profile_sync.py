"""`make profile`: where a catch-up of cdrsync spends its time, thread by thread.

    python -m tests.benchmarks.profile_sync --database postgresql --records 200000

A sampler inside the process looks at every thread's stack some 500 times a second; a sample weighs as long as it took
to come about, so that C code that holds the interpreter is not lost. Threads that wait count as waiting. Times are wall
clock: with several threads they add up to more than the run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

INTERVAL = 0.002  # seconds
SHOWN = 25
ROOT = Path(__file__).parent.parent.parent


class Sampler:
    """Collects stacks until `stop`. Seconds by thread and place."""

    def __init__(self) -> None:
        self.own: dict[tuple[str, str], float] = defaultdict(float)
        self.total: dict[tuple[str, str], float] = defaultdict(float)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        last = time.perf_counter()
        while not self._over.wait(INTERVAL):
            now = time.perf_counter()
            weight, last = now - last, now
            names = {thread.ident: thread.name for thread in threading.enumerate()}
            for ident, frame in sys._current_frames().items():
                if ident != self._thread.ident:
                    self._see(names.get(ident, "?"), frame, weight)

    def _see(self, thread: str, frame: FrameType, weight: float) -> None:
        self.own[thread, _place(frame)] += weight
        seen = set()
        walker: FrameType | None = frame
        while walker is not None:
            place = _place(walker, line=False)
            if place not in seen and place.startswith(("cdrsync/", "psycopg/", "pymysql/", "sqlalchemy/", "httpx/")):
                seen.add(place)
                self.total[thread, place] += weight
            walker = walker.f_back


def _place(frame: FrameType, *, line: bool = True) -> str:
    code = frame.f_code
    path = code.co_filename
    for prefix in (str(ROOT) + "/", sys.prefix + "/lib/", sys.base_prefix + "/lib/"):
        path = path.removeprefix(prefix)
    path = path.split("site-packages/")[-1]
    return f"{path}:{frame.f_lineno if line else code.co_firstlineno} {code.co_name}"


def _inside(arguments: list[str], out: str) -> None:
    """Within the process that is looked at: run cdrsync with a sampler beside it."""
    from cdrsync import cli

    sampler = Sampler()
    begun, cpu = time.perf_counter(), time.process_time()
    sampler.start()
    sys.argv = ["cdrsync", *arguments]
    try:
        cli.main(arguments)  # as __main__ does, which ends the process at once
    finally:
        sampler.stop()
        figures = {
            "seconds": time.perf_counter() - begun,
            "cpu": time.process_time() - cpu,
            "own": [[*key, spent] for key, spent in sampler.own.items()],
            "total": [[*key, spent] for key, spent in sampler.total.items()],
        }
        Path(out).write_text(json.dumps(figures))


def _print(figures: dict[str, list[tuple[str, str, float]]], whole: tuple[float, float]) -> None:
    seconds, cpu = whole
    sys.stdout.write(f"\n{seconds:.2f} s wall clock, {cpu:.2f} s CPU\n")
    for title, unit, shown in (("total", "function", 2 * SHOWN), ("own", "line", SHOWN)):
        sys.stdout.write(f"\n{title} time by thread and {unit}\n")
        for thread, place, spent in sorted(figures[title], key=lambda one: -one[2])[:shown]:
            sys.stdout.write(f"{spent:7.2f} s {spent / seconds:6.1%}  {thread:<24} {place}\n")


def main() -> None:
    """Make a bed, run cdrsync in it under the sampler, print."""
    from tests.benchmarks.bed import made
    from tests.benchmarks.check import compare
    from tests.benchmarks.data import Recipe, last_full_hour
    from tests.benchmarks.measure import run
    from tests.benchmarks.programs import CDRSYNC

    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.profile_sync", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--database", choices=CDRSYNC.databases, default="postgresql")
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds per document")
    parser.add_argument("--again", action="store_true", help="look at the second pass instead")
    options = parser.parse_args()
    recipe, kind = Recipe(options.records, options.days, last_full_hour()), options.database
    with made(recipe, (kind,)) as bed, bed.target(kind, CDRSYNC) as target:
        variables = CDRSYNC.variables(target)
        if options.again:
            run(CDRSYNC.command(target, "new"), variables)
        command = CDRSYNC.command(target, "again" if options.again else "new")
        bed.api.control(latency=options.latency)
        out = str(Path(target.directory, "samples.json"))
        inside = [command[0], "-m", "tests.benchmarks.profile_sync", "--inside", out, *command[3:]]
        run(inside, variables | {"PYTHONPATH": str(ROOT)}, directory=str(ROOT))
        compare(CDRSYNC, target.database_url, bed.calls[: bed.visible])
        figures = json.loads(Path(out).read_text())
    _print(figures, (figures["seconds"], figures["cpu"]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        _inside(sys.argv[3:], sys.argv[2])
        os._exit(0)
    main()
