"""Ctrl-C and SIGTERM at random moments of a real `cdrsync sync`: `python -m tests.fault.interrupts --signals 300`.

Each ends within SECONDS, says that the same command goes on, and has the shell's exit code. The next one goes on in the
same database; one that is let run to its end holds what the operator holds.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cdrsync.wiring.database import engine
from tests.fault.stand_in import StandIn
from tests.support.processes import REPOSITORY, environment, until
from tests.support.rig import assert_equal

if TYPE_CHECKING:
    from collections.abc import Mapping

SECONDS = 2.0
SAID = "interrupted; the same command goes on"
CALLS = 6000
SPAN = 2.5  # seconds of a sync in which a signal may fall


@dataclass
class Figures:
    """What came of it."""

    interrupted: int = 0
    done_before: int = 0  # the sync had ended when the signal came
    longest: float = 0.0
    compared: int = 0
    wrong: list[str] = field(default_factory=list)

    def line(self) -> str:
        """One line for people."""
        return (
            f"{self.interrupted} interrupted, {self.done_before} had ended before, longest end {self.longest:.2f} s, "
            f"{self.compared} calls compared, {len(self.wrong)} wrong" + "".join(f"\n  {one}" for one in self.wrong)
        )


def campaign(folder: Path, *, signals: int, seed: int, within: float = SECONDS) -> Figures:
    """Send so many signals, the syncs going on in one SQLite database until one of them ends by itself."""
    chance, figures = random.Random(seed), Figures()
    with StandIn(calls=CALLS, days=30, seed=seed, latency=0.02) as operator:
        for n in range(signals):
            file = folder / f"{figures.done_before}.db"
            env = environment(operator.url, f"sqlite:///{file}", page_size="300")
            if _interrupted(env, chance, figures, n, within):
                continue
            figures.done_before += 1
            figures.compared += _compared(file, operator)
        file = folder / f"{figures.done_before}.db"
        subprocess.run(_command(), env=environment(operator.url, f"sqlite:///{file}"), cwd=REPOSITORY, check=True)
        figures.compared += _compared(file, operator)
    return figures


def _compared(file: Path, operator: StandIn) -> int:
    with engine(f"sqlite:///{file}") as opened:
        return assert_equal(opened, operator.records())


def _interrupted(env: Mapping[str, str], chance: random.Random, figures: Figures, n: int, within: float) -> bool:
    number = chance.choice((signal.SIGINT, signal.SIGTERM))
    delay = chance.uniform(0, SPAN)
    process = subprocess.Popen(_command(), env=dict(env), cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: _listens(process), "the handler")
        time.sleep(delay)  # the moment is random on purpose
        begun = time.monotonic()
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    took = time.monotonic() - begun
    if process.returncode == 0 and SAID not in said:
        return False
    figures.interrupted += 1
    figures.longest = max(figures.longest, took)
    if process.returncode != 128 + number or said.splitlines()[-1:] != [SAID] or took > within:
        figures.wrong.append(f"{n}: {number.name} after {delay:.3f} s: exit {process.returncode}, {took:.2f} s: {said}")
    return True


def _listens(process: subprocess.Popen[str]) -> bool:
    """Whether the program has its handlers, or has ended."""
    if process.poll() is not None:
        return True
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), "0")
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def _command() -> list[str]:
    return [sys.executable, "-m", "cdrsync", "sync"]


def main() -> int:
    """The command line; exit 1 where anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.interrupts", description=__doc__.split("\n")[0])
    parser.add_argument("--signals", type=int, default=300)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = campaign(Path(folder), signals=given.signals, seed=given.seed)
    print(f"seed {given.seed}: {figures.line()}")
    return 1 if figures.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
