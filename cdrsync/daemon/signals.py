"""Signals as items to wait for: no code of ours ever runs inside a signal handler."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT})
LISTENED = (*STOP_SIGNALS, signal.SIGHUP, signal.SIGUSR1)


class Signals:
    """The signals that arrived, read from a pipe that the interpreter's own C handler writes to."""

    def __init__(self, read_end: int) -> None:
        self._read_end = read_end

    def wait(self, seconds: float) -> list[signal.Signals]:
        """Signals that arrived, in their order; after `seconds` at the latest, then perhaps none."""
        ready, _, _ = select.select([self._read_end], [], [], max(0.0, seconds))
        if not ready:
            return []
        numbers = os.read(self._read_end, 4096)
        return [signal.Signals(number) for number in numbers if number]


@contextlib.contextmanager
def listening() -> Iterator[Signals]:
    """Listen for SIGTERM, SIGINT, SIGHUP and SIGUSR1. Only in the main thread."""
    read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if hasattr(os, "pipe2") else os.pipe()
    os.set_blocking(write_end, False)
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


def _noted(number: int, frame: object) -> None:
    """Nothing to do here: the pipe has the signal's number."""
