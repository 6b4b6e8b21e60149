"""The daemon under load for a long time, with everything that can go wrong going wrong now and then.

    python -m tests.fault.soak --minutes 30 --rate 200 --database postgresql

Prints the daemon's memory and how far it is behind, at equal intervals; at the end arrivals stop, and the table must
become equal to the operator's records, value by value. Exit 1 where it does not, or where memory kept growing.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import func, select

from cdrsync.store.databases.engine import open_engine
from cdrsync.store.schema.tables import cdr
from tests.fault.campaign import KINDS
from tests.fault.stand_in import StandIn
from tests.support.databases import running
from tests.support.operator import Fault
from tests.support.processes import daemon, environment
from tests.support.rig import assert_equal

SAMPLES = 20
FAULT_RATE = 0.003
LEFT_OUT = (Fault.HUGE, Fault.SLOW_DRIP)
"""Minutes of one answer each at these sizes."""

LATEST = 120.0  # seconds: how late records and changes may be
CATCH_UP = 300.0  # seconds after the end in which the table must become equal
GROWTH = 1.15  # memory at the end, beside that of the first third: more is a leak


@dataclass
class Figures:
    """What a soak showed."""

    rss: list[float] = field(default_factory=list)  # MiB, at equal intervals
    calls: int = 0
    faults: int = 0
    equal_after: float = -1.0  # seconds after the last arrival; -1: never
    difference: str = ""

    @property
    def flat(self) -> bool:
        """Whether memory stopped growing."""
        third = max(self.rss[: max(1, len(self.rss) // 3)])
        return max(self.rss[-3:]) <= third * GROWTH

    def line(self, kind: str) -> str:
        """The last line that a soak prints."""
        equal = f"equal {self.equal_after:.0f} s after the last" if not self.difference else self.difference
        return (
            f"{kind}: {self.calls} calls, {self.faults} faults; {equal}; RSS {self.rss[0]:.0f} MiB at first,"
            f" {max(self.rss):.0f} at most, {self.rss[-1]:.0f} at the end: {'flat' if self.flat else 'GROWING'}"
        )


def soak(kind: str, *, minutes: float, rate: float, seed: int) -> Figures:
    """Let the daemon run for so long."""
    figures = Figures()
    with (
        running(kind) as server,
        StandIn(
            calls=20_000,
            days=3,
            seed=seed,
            rate=rate,
            late_share=0.02,
            late_delay=(5.0, LATEST),
            change_share=0.02,
            change_delay=(10.0, LATEST),
            hostile_share=0.001,
            untypeable_share=0.0005,
            retry_after=1,
        ) as operator,
    ):
        operator.tell("faults", rates={fault.value: FAULT_RATE for fault in Fault if fault not in LEFT_OUT})
        url = server.create()
        env = environment(
            operator.url,
            url,
            start_date=(datetime.now(UTC) - timedelta(days=4)).date().isoformat(),
            poll_interval="2s",
            lookback="10m",
            lookback_interval="1m",
        )
        engine = open_engine(url)
        with daemon(env) as program:
            program.event("poll done")
            begun = time.monotonic()
            for sample in range(1, SAMPLES + 1):
                time.sleep(max(0.0, begun + minutes * 60 * sample / SAMPLES - time.monotonic()))
                figures.rss.append(_rss(program.pid))
                with engine.connect() as connection:
                    held = connection.scalar(select(func.count()).select_from(cdr)) or 0
                behind = operator.counters()["visible"] - held
                minute = (time.monotonic() - begun) / 60
                print(f"{minute:5.1f} min: RSS {figures.rss[-1]:6.1f} MiB, {held} held, {behind} behind", flush=True)
            operator.tell("settings", rate=0, late_share=0, change_share=0)
            operator.tell("faults", rates={})
            stopped = time.monotonic()
            while figures.equal_after < 0 and time.monotonic() - stopped < LATEST + CATCH_UP:
                time.sleep(5)
                counters = operator.counters()
                if counters["visible"] < counters["issued"]:
                    continue
                try:
                    figures.calls = assert_equal(engine, operator.records())
                except AssertionError as error:
                    figures.difference = str(error)[:300]
                else:
                    figures.equal_after, figures.difference = time.monotonic() - stopped, ""
            figures.faults = sum(operator.counters()["faults"].values())
            program.stop()
        engine.dispose()
    return figures


def _rss(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) / 1024


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.soak", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=200.0, help="new calls per second")
    parser.add_argument("--database", choices=KINDS, default="postgresql")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    figures = soak(given.database, minutes=given.minutes, rate=given.rate, seed=given.seed)
    print(figures.line(given.database), flush=True)
    return 0 if figures.equal_after >= 0 and figures.flat else 1


if __name__ == "__main__":
    sys.exit(main())
