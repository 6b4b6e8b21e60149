"""A run of the real program that ends at a named point, or that hardly pauses: for campaigns of kills.

Only pauses are shortened (between retries, before a standby tries again), so that a campaign kills several times a
second; nothing else of the program is touched but for the kill at a named point (`points`).
"""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.fault import points
from tests.support.forks import Program
from tests.support.processes import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Start:
    """One run of the program, its output in the file `log`; killed at the nth passing of a named point, if any."""

    args: tuple[str, ...]
    env: Mapping[str, str]
    log: str
    kind: str = "sqlite"
    point: str = ""
    nth: int = 1
    quick: bool = True  # shorten the pauses

    def begin(self) -> Program:
        """Start it."""
        told = {"kind": self.kind, "point": self.point, "nth": self.nth, "quick": self.quick}
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            return Program(
                self.args, self.env, REPOSITORY, stdout=log, stderr=log, prepared=(f"{__name__}:prepare", told)
            )
        finally:
            os.close(log)

    def run(self, seconds: float) -> int:
        """Run it to its end; how it ended, as `Program.wait` says it. Raises AssertionError where it runs on."""
        program = self.begin()
        try:
            return program.wait(seconds)
        except subprocess.TimeoutExpired:
            program.kill()
            raise AssertionError(f"{self.args} did not end in {seconds:.0f} s: {self.said()}") from None

    def said(self, lines: int = 12) -> str:
        """The last lines that the program wrote."""
        path = Path(self.log)
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        return "\n".join(text.splitlines()[-lines:])


def prepare(kind: str, point: str, nth: int, *, quick: bool) -> None:
    """In the forked process, before the program begins."""
    if quick:
        from cdrsync.daemon import backoff, recovery
        from cdrsync.source.retry import RetryPolicy

        short = {"attempts": 4, "total": 30.0, "wait_initial": 0.01, "wait_max": 0.1, "wait_jitter": 0.01}
        RetryPolicy.__init__.__defaults__ = (*short.values(), 60.0)
        vars(backoff).update(FIRST_PAUSE=0.05, LONGEST_PAUSE=1.0)
        vars(recovery).update(STANDBY_PAUSE=0.1)
    if point:
        left = nth

        def reached(passed: str) -> None:
            nonlocal left
            if passed == point:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        points.watch(kind, reached)
