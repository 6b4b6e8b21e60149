"""The daemon for a long time, with everything that can go wrong going wrong all the time.

    python -m tests.fault.soak --minutes 30 --rate 20 --database postgresql

More than a third of the operator's answers are at fault; beside that its database is killed, its clock steps, and the
proxy that leads to the operator dies and comes back (`storm`). Whoever reads the daemon's log leaves in mid-run; after
half of the time the daemon is killed, and the next one logs to a full disk. Prints memory and how far it is behind, at
equal intervals; at the end all is well again, arrivals stop, and the table must become equal to the operator's records,
value by value. Exit 1 where it does not, or where memory kept growing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from cdrsync.store.databases.engine import open_engine
from cdrsync.store.schema.tables import cdr
from tests.fault.campaign import KINDS
from tests.fault.road import Road
from tests.fault.stand_in import StandIn
from tests.fault.storm import Storm
from tests.fault.test_endurance import MIXTURE, SHARE
from tests.support.databases import running
from tests.support.operator import Fault
from tests.support.ports import free_port
from tests.support.processes import REPOSITORY, environment
from tests.support.rig import assert_equal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sqlalchemy.engine import Engine

SAMPLES = 10  # of each of the two daemons
SELDOM = 0.003  # the share of each fault that is not of the mixture
LEFT_OUT = (Fault.HUGE, Fault.SLOW_DRIP)
"""Minutes of one answer each at these sizes."""

LATEST = 120.0  # seconds: how late records and changes may be
CATCH_UP = 300.0  # seconds after the end in which the table must become equal
GROWTH = 1.15  # memory at the end, beside that of the first third: more is a leak
FULL = "/dev/full"  # every write fails as on a full disk


@dataclass
class Figures:
    """What a soak showed."""

    rss: list[list[float]] = field(default_factory=list)  # MiB, of each daemon, at equal intervals
    calls: int = 0
    faults: int = 0
    asked: int = 0  # documents that the operator answered, faults among them
    dropped: list[int] = field(default_factory=list)  # log lines that each daemon could not write
    troubles: dict[str, int] = field(default_factory=dict)
    equal_after: float = -1.0  # seconds after the last arrival; -1: never
    difference: str = ""
    wrong: list[str] = field(default_factory=list)

    @property
    def flat(self) -> bool:
        """Whether memory stopped growing."""
        return all(max(life[-3:]) <= max(life[: max(1, len(life) // 3)]) * GROWTH for life in self.rss)

    @property
    def good(self) -> bool:
        """Whether all that was promised held."""
        return self.equal_after >= 0 and self.flat and not self.wrong

    def line(self, kind: str) -> str:
        """The last line that a soak prints."""
        equal = f"equal {self.equal_after:.0f} s after the last" if not self.difference else self.difference
        memory = ", then ".join(f"{life[0]:.0f} MiB at first, {max(life):.0f} at most" for life in self.rss)
        troubles = ", ".join(f"{name} {times}" for name, times in sorted(self.troubles.items()))
        return (
            f"{kind}: {self.calls} calls; {self.faults} of {self.asked} answers at fault; {troubles}; log lines dropped"
            f" {self.dropped}; {equal}; RSS {memory}: {'flat' if self.flat else 'GROWING'}"
            + "".join(f"\n  {one}" for one in self.wrong)
        )


class Soak:
    """One operator, one database, and two daemons after each other."""

    def __init__(self, operator: StandIn, engine: Engine, env: Mapping[str, str], page: str) -> None:
        self.figures = Figures()
        self._operator = operator
        self._engine = engine
        self._env = env
        self._page = page

    def watch(self, run: subprocess.Popen[bytes], seconds: float, *, reader: int | None = None) -> None:
        """Look at a daemon for so long. `reader`: the end of its log, which is closed after a quarter of it."""
        begun, memory = time.monotonic(), list[float]()
        self.figures.rss.append(memory)
        for sample in range(1, SAMPLES + 1):
            time.sleep(max(0.0, begun + seconds * sample / SAMPLES - time.monotonic()))
            if reader is not None and sample >= SAMPLES // 4:
                os.close(reader)
                reader = None
            if run.poll() is not None:
                self.figures.wrong.append(f"the daemon ended with {run.returncode}")
                return
            memory.append(_rss(run.pid))
            print(f"{(time.monotonic() - begun) / 60:5.1f} min: RSS {memory[-1]:6.1f} MiB, {self._held()}", flush=True)
        self.figures.dropped.append(self._lines_dropped())

    def _held(self) -> str:
        with contextlib.suppress(DBAPIError), self._engine.connect() as connection:  # it may be down just now
            held = connection.scalar(select(func.count()).select_from(cdr)) or 0
            return f"{held} held, {self._operator.counters()['visible'] - held} behind"
        return "the database is away"

    def _lines_dropped(self) -> int:
        metrics = httpx.get(f"http://{self._page}/metrics", trust_env=False).text
        name = "cdrsync_log_lines_dropped_total "
        return int(float(next(line for line in metrics.splitlines() if line.startswith(name)).removeprefix(name)))

    def become_equal(self) -> None:
        """Wait until the table holds what the operator holds."""
        stopped = time.monotonic()
        while self.figures.equal_after < 0 and time.monotonic() - stopped < LATEST + CATCH_UP:
            time.sleep(5)
            counters = self._operator.counters()
            if counters["visible"] < counters["issued"]:
                continue
            try:
                self.figures.calls = assert_equal(self._engine, self._operator.records())
            except AssertionError as error:
                self.figures.difference = str(error)[:300]
            else:
                self.figures.equal_after, self.figures.difference = time.monotonic() - stopped, ""


def soak(kind: str, folder: Path, *, minutes: float, rate: float, seed: int) -> Figures:
    """Let the daemon run for so long."""
    late = {"late_share": 0.02, "late_delay": (5.0, LATEST), "change_share": 0.02, "change_delay": (10.0, LATEST)}
    hostile = {"hostile_share": 0.001, "untypeable_share": 0.0005, "retry_after": 1}
    seldom = {fault: SELDOM for fault in Fault if fault not in (*LEFT_OUT, *MIXTURE)}
    with (
        running(kind) as server,
        StandIn(calls=20_000, days=3, seed=seed, rate=rate, **late, **hostile) as operator,
        Road(operator.url, folder) as road,
    ):
        operator.tell("faults", rates=seldom | dict.fromkeys(MIXTURE, SHARE / len(MIXTURE)))
        url, page = server.create(), f"127.0.0.1:{free_port()}"
        engine = open_engine(url)
        storm = Storm(server, url, road, folder, seed)
        env = environment(
            road.url,
            url,
            start_date=(datetime.now(UTC) - timedelta(days=4)).date().isoformat(),
            poll_interval="2s",
            lookback="10m",
            lookback_interval="1m",
            http_listen=page,
        )
        seen = Soak(operator, engine, env | storm.environment(), page)
        half = minutes * 30
        with storm:
            reader, log = os.pipe()
            with _daemon(seen._env, log) as run:
                os.close(log)
                seen.watch(run, half, reader=reader)
            with Path(FULL).open("wb") as full, _daemon(seen._env, full.fileno()) as run:
                seen.watch(run, half)
        seen.figures.troubles = dict(storm.blown)
        counters = operator.counters()
        seen.figures.faults, seen.figures.asked = sum(counters["faults"].values()), counters["documents"]
        operator.tell("settings", rate=0, late_share=0, change_share=0)
        operator.tell("faults", rates={})
        with _daemon(seen._env, subprocess.DEVNULL):
            seen.become_equal()
        engine.dispose()
    return seen.figures


@contextlib.contextmanager
def _daemon(env: Mapping[str, str], log: int) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon that is killed at the end of the block."""
    started = subprocess.Popen([sys.executable, "-m", "cdrsync", "run"], env=dict(env), cwd=REPOSITORY, stderr=log)
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def _rss(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) / 1024


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.soak", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=20.0, help="new calls per second")
    parser.add_argument("--database", choices=KINDS, default="postgresql")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = soak(given.database, Path(folder), minutes=given.minutes, rate=given.rate, seed=given.seed)
    print(figures.line(given.database), flush=True)
    return 0 if figures.good else 1


if __name__ == "__main__":
    sys.exit(main())
