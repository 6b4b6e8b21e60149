"""The real program in processes of its own, as an operator's customer runs it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdrsync.model import utc_now
from tests.support.canary import LOGIN, WATCH
from tests.support.forks import Program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

REPOSITORY = Path(__file__).parents[2]
DEADLINE = 60.0  # seconds: long enough for a busy machine; nothing waits so long when all is well


def environment(api_url: str, database_url: str, **settings: str) -> dict[str, str]:
    """The environment of a process with the suite's login, and nothing of ours that the suite's own shell had set.

    History is "all" where a test doesn't say: with the default, today, there are no calls yet just after midnight.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CDRSYNC_", "NOTIFY_"))}
    return {
        **kept,
        "PYTHONPATH": str(REPOSITORY),
        "CDRSYNC_API_URL": api_url,
        "CDRSYNC_USERNAME": LOGIN.username,
        "CDRSYNC_PASSWORD": LOGIN.password,
        "CDRSYNC_VKEY": LOGIN.vkey,
        "CDRSYNC_DATABASE_URL": database_url,
        "CDRSYNC_HTTP_LISTEN": "",
        "CDRSYNC_START_DATE": "all",
        **{f"CDRSYNC_{name.upper()}": value for name, value in settings.items()},
    }


def since_yesterday() -> str:
    """A start date for tests without history: of the calls that end just after midnight some began before it."""
    return str(utc_now().date() - timedelta(days=1))


def cdrsync(
    *args: str, env: Mapping[str, str], cwd: Path | None = None, deadline: float = DEADLINE
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out, tempfile.TemporaryFile("w+", encoding="utf-8") as err:
        program = Program(args, env, cwd or REPOSITORY, stdout=out.fileno(), stderr=err.fileno())
        try:
            code = program.wait(deadline)
        finally:
            program.kill()
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read())
            WATCH.look("a process's output", texts[-1])
    return subprocess.CompletedProcess(["cdrsync", *args], code, *texts)


def answer(*args: str, env: dict[str, str], code: int = 0) -> dict[str, Any]:
    """Run a command with --json; check its code and the frame of its answer."""
    run = cdrsync(*args, "--json", env=env)
    assert run.returncode == code, (args, run.returncode, run.stderr)
    document: dict[str, Any] = json.loads(run.stdout)
    assert document["version"] == 1
    return document


def until(condition: Callable[[], Any], what: object, deadline: float = DEADLINE, pause: float = 0.02) -> Any:
    """Wait for a condition and return what it gave; fail with `what` was waited for: a text, or who tells it then.

    It looks again after a `pause` at least: one that is long spares what is dear to look at.
    """
    begun = time.monotonic()
    while (waited := time.monotonic() - begun) < deadline:
        found = condition()
        if found:
            return found
        time.sleep(max(pause, min(0.02 + waited / 20, 0.2)))  # who has waited for long need not look so often
    raise AssertionError(f"waited {deadline:.0f} s for {what() if callable(what) else what}")


def stop_between_writes(pid: int) -> int:
    """Stop a process while it has not locked SQLite's file: it would keep everybody out until it goes on.

    How often that was put off is answered.
    """
    for attempt in range(100):
        os.kill(pid, signal.SIGSTOP)
        until(lambda: "State:\tT" in Path(f"/proc/{pid}/status").read_text(encoding="ascii"), "it has stopped")
        locks = Path("/proc/locks").read_text(encoding="ascii").replace("-> ", "").splitlines()
        if not any(line.split()[4] == str(pid) and "WRITE" in line for line in locks):
            return attempt
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.05)
    raise AssertionError("it writes all the time")


class Daemon:
    """A running `cdrsync run`, its log read as it comes. `fresh`: from the interpreter's start on, not forked."""

    def __init__(self, env: Mapping[str, str], *args: str, fresh: bool = False) -> None:
        self.process: Program | subprocess.Popen[bytes]
        log, written = os.pipe()
        with open(os.devnull, "wb") as null:  # noqa: PTH123 - the plainest way to a descriptor
            if fresh:
                command = [sys.executable, "-m", "cdrsync", "run", *args]
                self.process = subprocess.Popen(command, env=dict(env), cwd=REPOSITORY, stdout=null, stderr=written)
            else:
                self.process = Program(("run", *args), env, REPOSITORY, stdout=null.fileno(), stderr=written)
        os.close(written)
        self.lines: list[str] = []
        self._log = open(log, encoding="utf-8")  # noqa: PTH123, SIM115 - closed by the reader
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self.process.pid

    def events(self, name: str) -> list[dict[str, Any]]:
        """The events of that name so far."""
        parsed = [json.loads(line) for line in list(self.lines) if line.startswith("{")]
        return [event for event in parsed if event["event"] == name]

    def event(self, name: str, count: int = 1) -> dict[str, Any]:
        """Wait for an event (for the `count`th of that name) and return it."""

        def there() -> list[dict[str, Any]]:
            found = self.events(name)
            if len(found) < count and self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode} before {name!r}: {self.lines}")
            return found if len(found) >= count else []

        found: list[dict[str, Any]] = until(there, (name, self.lines))
        return found[count - 1]

    def listens_to_signals(self) -> bool:
        """Whether Python's own handler for SIGTERM is set: before that, the kernel ends the process."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
        return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def ended(self, deadline: float = DEADLINE) -> int:
        """Wait for the end and return the exit code."""
        code = self.process.wait(deadline)
        self._reader.join(deadline)
        return code

    def stop(self) -> int:
        """Tell it to end, and return the exit code."""
        self.signal(signal.SIGTERM)
        return self.ended()

    def _read(self) -> None:
        with self._log:
            for line in self._log:
                WATCH.look("a process's error output", line)
                self.lines.append(line.rstrip("\n"))


@contextlib.contextmanager
def daemon(env: Mapping[str, str], *args: str, fresh: bool = False) -> Iterator[Daemon]:
    """A daemon that is killed at the end of the block where it still runs."""
    running = Daemon(env, *args, fresh=fresh)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.process.wait(DEADLINE)
        running._reader.join(DEADLINE)
