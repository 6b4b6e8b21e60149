"""Starts the real program over and over without its half second of imports: a process that forks when told to.

`python -m tests.fault.zygote` reads one JSON object a line from its standard input and answers each on its standard
output. What it forks runs `cdrsync.__main__.main()` in a process of its own, with connections of its own, and can be
killed like any other; `Zygote` is the other end of the pipe.

Only pauses are shortened (between retries, before a standby tries again), so that a campaign kills several times a
second; nothing else of the program is touched but for the kill at a named point (`points`).
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.fault import points
from tests.support.forks import PRELOADED
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


class Zygote:
    """The other end: starts programs and says how they ended."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fault.zygote"],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, start: Start) -> int:
        """Start a program; returns its process id."""
        return int(self._tell({"start": asdict(start)})["pid"])

    def wait(self, pid: int, seconds: float) -> int | None:
        """How it ended: an exit code, minus the signal that killed it, or None where it runs on after so long."""
        code: int | None = self._tell({"wait": pid, "seconds": seconds})["code"]
        return code

    def close(self) -> None:
        """End the zygote and whatever it started that still runs."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def _tell(self, what: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# ── the process itself ─────────────────────────────────────────────────────────────────────────────────────────────


def serve() -> None:
    """Fork and wait as told, until the pipe ends."""
    for module in PRELOADED:
        import_module(module)
    running: set[int] = set()
    for line in sys.stdin:
        told = json.loads(line)
        if "start" in told:
            pid = os.fork()
            if pid == 0:
                _become(Start(**told["start"]))
            running.add(pid)
            answer: dict[str, Any] = {"pid": pid}
        else:
            code = _ended(told["wait"], told["seconds"])
            if code is not None:
                running.discard(told["wait"])
            answer = {"code": code}
        print(json.dumps(answer), flush=True)
    for pid in running:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _ended(pid: int, seconds: float) -> int | None:
    """Wait for the end of a child, but not for ever."""
    descriptor = os.pidfd_open(pid)
    try:
        if not select.select([descriptor], [], [], seconds)[0]:
            return None
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(descriptor)


def _become(start: Start) -> None:
    """In the child: the program, as if it had been started by a shell."""
    code = 70
    try:
        random.seed()
        log = os.open(start.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDONLY)
        for descriptor, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(descriptor, target)
        os.environ.clear()
        os.environ.update(start.env)
        sys.argv = ["cdrsync", *start.args]
        _prepare(start)
        from cdrsync.__main__ import main

        main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _prepare(start: Start) -> None:
    if start.quick:
        from cdrsync.daemon import recovery, troubles
        from cdrsync.source.retry import RetryPolicy

        short = {"attempts": 4, "total": 30.0, "wait_initial": 0.01, "wait_max": 0.1, "wait_jitter": 0.01}
        RetryPolicy.__init__.__defaults__ = (*short.values(), 60.0)
        vars(troubles).update(FIRST_PAUSE=0.05, LONGEST_PAUSE=1.0)
        vars(recovery).update(STANDBY_PAUSE=0.1)
    if start.point:
        left = start.nth

        def reached(point: str) -> None:
            nonlocal left
            if point == start.point:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        points.watch(start.kind, reached)


def log_of(start: Start, lines: int = 12) -> str:
    """The last lines that the program wrote."""
    path = Path(start.log)
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]) if path.exists() else ""


if __name__ == "__main__":
    serve()
