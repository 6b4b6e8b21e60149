"""A server process of the tests, in a directory of its own that is gone with it."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

START_SECONDS = 60.0
MEMORY = Path("/dev/shm")  # where there is room, servers write here: to wait for a disk proves nothing
MEMORY_BYTES = 4 << 30
UNPRIVILEGED = "nobody"  # who runs the servers where the tests run as root: PostgreSQL refuses to


def roomy() -> Path:
    """Where tests write: in memory, if there is room. A short path: a Unix socket's may not exceed 100 characters."""
    return MEMORY if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_BYTES else Path("/tmp")


def new_directory(prefix: str) -> Path:
    """A directory of its own there."""
    return Path(tempfile.mkdtemp(prefix=prefix, dir=roomy()))


class ServerProcess:
    """A server process in a directory of its own, run by an unprivileged user where the tests are root."""

    def __init__(self, prefix: str) -> None:
        self.directory = new_directory(prefix)
        self.shared = False  # by tests that would miss it if it were stopped
        self.template = ""
        self.user = UNPRIVILEGED if os.geteuid() == 0 else None
        self.port = free_port()
        self.environment: dict[str, str] = {}  # beside the suite's own
        self._child: subprocess.Popen[bytes] | None = None
        atexit.register(self.close)  # a run that fails before `close` leaves no server behind

    def __getstate__(self) -> dict[str, Any]:
        """What another process needs to use the server: all but the right to wait for its end."""
        return vars(self) | {"_child": None}

    def own(self) -> None:
        """Hand the directory to the user that runs the server."""
        if self.user:
            for path in [self.directory, *self.directory.rglob("*")]:
                shutil.chown(path, user=self.user)

    def run(self, *command: str) -> None:
        """Run a set-up program to its end."""
        done = subprocess.run(command, user=self.user, capture_output=True, check=False, cwd=self.directory)
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed: {done.stdout.decode()} {done.stderr.decode()}")

    def spawn(self, *command: str) -> None:
        """Start the server, its output going to a log in the directory."""
        with (self.directory / "log").open("ab") as log:
            self._child = subprocess.Popen(
                command,
                user=self.user,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env={**os.environ, **self.environment},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The server's process id."""
        if self._child is None:
            raise RuntimeError("the server is not running")
        return self._child.pid

    def children(self) -> list[int]:
        """The processes that the server has started."""
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii")
        return [int(pid) for pid in listed.split()]

    def freeze(self) -> None:
        """SIGSTOP: first the server, so that it starts no other process and one that ends keeps its number."""
        os.kill(self.pid, signal.SIGSTOP)
        for child in self.children():
            os.kill(child, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: the server last, which then sees who has ended."""
        for process in (*self.children(), self.pid):
            os.kill(process, signal.SIGCONT)

    def wait_for(self, answer: Callable[[], object], failure: type[Exception]) -> None:
        """Return when `answer()` no longer raises `failure`; the server's log is in the error if it never does."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                answer()
            except failure:
                if time.monotonic() > deadline or (self._child is not None and self._child.poll() is not None):
                    raise RuntimeError((self.directory / "log").read_text(errors="replace")[-3000:]) from None
                time.sleep(0.05)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.shared:
            raise RuntimeError("other tests use this server: mark this one with own_server")
        if self._child is not None:
            self._child.send_signal(how)
            self._child.wait(timeout=START_SECONDS)
            self._child = None

    def close(self) -> None:
        atexit.unregister(self.close)
        self.shared = False
        self.stop(signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)
