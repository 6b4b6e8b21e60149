"""Signals as items to wait for: no code of ours runs inside a signal handler, and nothing is raised by one."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
LISTENED = (*STOP_SIGNALS, signal.SIGHUP, signal.SIGUSR1)
PATIENCE = 1.2  # seconds for the page in hand; what is not committed by then is rolled back by the database


class Signals:
    """The signals that arrived, read from a pipe that the interpreter's own C handler writes to."""

    def __init__(self, read_end: int) -> None:
        self._read_end = read_end

    def wait(self, seconds: float | None) -> list[signal.Signals]:
        """Signals that arrived, in their order; after `seconds` at the latest (None: never), then perhaps none."""
        ready, _, _ = select.select([self._read_end], [], [], seconds and max(0.0, seconds))
        if not ready:
            return []
        numbers = os.read(self._read_end, 4096)
        return [signal.Signals(number) for number in numbers if number]


@contextlib.contextmanager
def listening() -> Iterator[Signals]:
    """Listen for SIGTERM, SIGINT, SIGHUP and SIGUSR1. Only in the main thread."""
    read_end, write_end = _pipe()
    old_wakeup = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    old = {number: signal.signal(number, _noted) for number in LISTENED}
    try:
        yield Signals(read_end)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(old_wakeup)
        os.close(read_end)
        os.close(write_end)


class Interrupted(Exception):
    """A person or the system wants the command to end; what is committed stays."""


class Interrupt:
    """The first SIGINT or SIGTERM of a one-shot command, as a flag: `event`.

    A command that has not ended PATIENCE seconds later is ended, and so it is by a second signal.
    """

    def __init__(self) -> None:
        self.event = threading.Event()
        self.code = 0  # the exit code, as shells say it: 128 and the signal's number
        self.words = "interrupted"
        self.patience = PATIENCE
        self._temporary: list[Path] = []

    def watch(self) -> None:
        """Listen from now on to the end of the process. Only in the main thread."""
        read_end, write_end = _pipe()
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        for number in STOP_SIGNALS:
            signal.signal(number, _noted)
        threading.Thread(target=self._wait, args=(Signals(read_end),), name="signals", daemon=True).start()

    def check(self) -> None:
        """Raise Interrupted where a signal came."""
        if self.event.is_set():
            raise Interrupted

    @contextlib.contextmanager
    def removing(self, path: Path) -> Iterator[None]:
        """Have a temporary file, or a folder of such, removed also where the command is ended meanwhile."""
        self._temporary.append(path)
        try:
            yield
        finally:
            self._temporary.remove(path)

    def _wait(self, signals: Signals) -> None:
        self.code = 128 + signals.wait(None)[0]
        self.event.set()
        signals.wait(self.patience)
        for path in self._temporary:
            with contextlib.suppress(OSError):
                _remove(path)
        with contextlib.suppress(OSError):
            os.write(2, f"{self.words}\n".encode())
        os._exit(self.code)


INTERRUPT = Interrupt()
"""Of this process."""


def _remove(path: Path) -> None:
    if not path.is_dir():
        return path.unlink()
    for file in path.iterdir():
        file.unlink()
    return path.rmdir()


def _pipe() -> tuple[int, int]:
    read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
    os.set_blocking(write_end, False)
    return read_end, write_end


def _noted(number: int, frame: object) -> None:
    """Nothing to do here: the pipe has the signal's number."""
