"""Two daemons on one database, the leader paused again and again: no second writer may ever commit.

    python -m tests.fault.leaders --minutes 10 --engine postgresql --engine galera

The database itself is the witness (`tests.support.witness`) of each page's writes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cdrsync.errors import EXIT_LEASE_HELD, EXIT_OK
from cdrsync.store.databases.engine import open_engine
from tests.fault.fresh import upgraded
from tests.fault.stand_in import StandIn
from tests.fault.start import Start
from tests.support import witness
from tests.support.engines import ENGINES
from tests.support.processes import environment, stop_between_writes
from tests.support.rig import assert_equal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.engine import Engine

PATIENCE = 60.0
RATE = 6.0  # calls a second: each look-back reads all of the last two hours again


@dataclass
class Figures:
    """What a contest showed."""

    pauses: int = 0
    takeovers: list[float] = field(default_factory=list)  # seconds from the pause to "lease taken" by the other
    refused: int = 0
    writes: int = 0
    leases: int = 0
    double: list[str] = field(default_factory=list)
    compared: int = 0
    seconds: float = 0.0

    def line(self, kind: str, seed: int) -> str:
        """The one line that a contest prints."""
        longest, mean = max(self.takeovers), sum(self.takeovers) / len(self.takeovers)
        return (
            f"{kind}: {self.pauses} pauses of the leader in {self.seconds:.0f} s: {len(self.double)} double writers"
            f" in {self.writes} transactions by {self.leases} leases; takeover after {mean:.1f} s ({longest:.1f} s at"
            " most);"
            f" {self.refused} syncs refused with 75; {self.compared} records equal; seed {seed}"
        )


class _Daemon:
    """One of the two."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.process = start.begin()
        self._seen = 0

    def took_the_lease(self) -> bool:
        """Whether it has said so since it was last asked."""
        lines = Path(self.start.log).read_text(encoding="utf-8").splitlines() if Path(self.start.log).exists() else []
        before = self._seen
        self._seen = [json.loads(line)["event"] for line in lines if line.startswith("{")].count("lease taken")
        return self._seen > before


def contest(
    url: str, ways: Sequence[str], folder: Path, *,
    pauses: int, seconds: float, lease_seconds: int, seed: int,
) -> Figures:  # fmt: skip
    """Pause the leader `pauses` times or for `seconds`, whichever is longer.

    `url` has today's tables and nothing in them; each daemon has a way of its own there.
    """
    figures, rng, begun = Figures(), random.Random(seed), time.monotonic()
    with _engine(url) as engine, StandIn(calls=300, days=2, seed=seed, rate=RATE) as operator:
        witness.call(engine)
        stop = stop_between_writes if engine.dialect.name == "sqlite" else _stop
        told = {
            "start_date": (datetime.now(UTC) - timedelta(days=3)).date().isoformat(),
            "page_size": "5",
            "poll_interval": "1s",
            "lookback_interval": "2s",
            "lease_seconds": str(lease_seconds),
        }

        def program(name: str, way: str, *args: str) -> Start:
            return Start(args, environment(operator.url, way, **told), str(folder / name))

        first, second = ways
        leader, other = _Daemon(program("first", first, "run")), _Daemon(program("second", second, "run"))
        while not (leader.took_the_lease() or other.took_the_lease()):
            time.sleep(0.05)
        if other._seen:
            leader, other = other, leader
        while figures.pauses < pauses or time.monotonic() - begun < seconds:
            time.sleep(rng.uniform(0.0, 1.5))
            stop(leader.process.pid)
            paused = time.monotonic()
            figures.pauses += 1
            while not other.took_the_lease():
                assert time.monotonic() - paused < PATIENCE, f"no takeover: {other.start.said()}"
                time.sleep(0.02)
            figures.takeovers.append(time.monotonic() - paused)
            sync = program("sync", first, "sync")
            assert sync.run(PATIENCE) == EXIT_LEASE_HELD, sync.said()
            assert f"process {other.process.pid} on " in sync.said()
            figures.refused += 1
            time.sleep(rng.uniform(0.0, 1.0))
            leader.process.send_signal(signal.SIGCONT)  # it believes that it still leads
            leader, other = other, leader
        operator.tell("settings", rate=0)
        for daemon in (leader, other):
            daemon.process.send_signal(signal.SIGTERM)
        for daemon in (leader, other):
            assert daemon.process.poll(PATIENCE) == EXIT_OK, daemon.start.said()
        time.sleep(2.1)  # until a look-back is due
        last = program("last", first, "sync")
        assert last.run(5 * PATIENCE) == EXIT_OK, last.said()  # all that is left of the history
        figures.compared = assert_equal(engine, operator.records())
        heard = witness.hear(engine)
        figures.writes, figures.leases, figures.double = heard.writes, heard.leases, heard.double
    figures.seconds = time.monotonic() - begun
    return figures


def _stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


@contextlib.contextmanager
def _engine(url: str) -> Iterator[Engine]:
    engine = open_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


def main() -> int:
    """The command line; exit 1 where there was a double writer."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.leaders", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--engine", choices=ENGINES, action="append")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    double = False
    for name in given.engine or ENGINES:
        with contextlib.ExitStack() as stack:
            url, ways = stack.enter_context(ENGINES[name]())(stack)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cdrsync-leaders-")))
            figures = contest(
                upgraded(url), [way.url for way in ways[:2]], folder,
                pauses=1, seconds=given.minutes * 60, lease_seconds=15, seed=given.seed,
            )  # fmt: skip
        print(figures.line(name, given.seed), *figures.double, sep="\n", flush=True)
        double |= bool(figures.double)
    return 1 if double else 0


if __name__ == "__main__":
    sys.exit(main())
