"""What ends a source's waits: the program's stop, and the source's own end."""

from __future__ import annotations

import threading
import time

from cdrsync.errors import ApiUnreachable

SLICE = 0.25  # seconds: how late a wait may notice that it should end


class StopEvent:
    """The program's stop event and an own one, waited for together."""

    def __init__(self, program: threading.Event | None = None) -> None:
        self._program = program or threading.Event()
        self._own = threading.Event()

    def set(self) -> None:
        """End the waits of this source; the program's event is left alone."""
        self._own.set()

    def is_set(self) -> bool:
        """Whether either event is set."""
        return self._own.is_set() or self._program.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait, at most `seconds`; say whether either event is set."""
        end = time.monotonic() + seconds
        while not self.is_set():
            left = end - time.monotonic()
            if left <= 0:
                return False
            self._own.wait(min(left, SLICE))
        return True


def stopping() -> ApiUnreachable:
    """What is raised once either event is set."""
    return ApiUnreachable("cdrsync is stopping; the question to the operator was given up", hint="")
