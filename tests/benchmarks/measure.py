"""Runs one program as a whole process and says what it took: wall clock, CPU, peak memory.

The program is started by a small process of its own (this file, without site-packages): Linux counts the memory of
whoever starts a program into that program's peak.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TIMEOUT = 3600  # seconds: a program that hangs must not hold up the machine for ever


class ProgramFailed(Exception):
    """The program ended with another exit code than 0. Carries the end of what it wrote."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process took from start to exit."""

    seconds: float  # wall clock
    cpu: float  # seconds, its own; the database's are not in it
    peak_mb: float  # resident memory at its highest, MB of 1024 × 1024 bytes


def run(command: Sequence[str], environment: Mapping[str, str], *, directory: str | None = None) -> Cost:
    """Run a command to its end. Raises ProgramFailed."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", __file__, *command],
        env=dict(environment),
        cwd=directory,
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    *_, last = done.stdout.decode().splitlines() or [""]
    if done.returncode:
        raise ProgramFailed(
            f"{' '.join(command)} ended with {done.returncode}\n"
            f"{done.stdout.decode()[-2000:]}{done.stderr.decode()[-4000:]}"
        )
    return Cost(**json.loads(last))


def _launch(command: list[str]) -> int:
    begun = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - begun
    cost = {"seconds": seconds, "cpu": usage.ru_utime + usage.ru_stime, "peak_mb": usage.ru_maxrss / 1024}
    sys.stdout.write(f"\n{json.dumps(cost)}\n")
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(_launch(sys.argv[1:]))
