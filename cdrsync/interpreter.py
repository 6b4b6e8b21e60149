"""Turns at Python's interpreter, which only one thread has at a time.

A thread that saves needs it for a moment after each answer of the database. As Python does by default it would then
wait 5 ms for one that decodes, 150 times within a second: a database is idle meanwhile, and a catch-up takes a fifth
longer. So threads that read work one at a time, are asked to give way sooner, and stop between two pieces of their work
while one that saves asks the database short questions.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

GIVE_WAY = 0.001  # seconds after which a thread gives the interpreter to one that asks for it
PATIENCE = 1.0  # seconds that a reader waits for a database that does not answer

READING = threading.Lock()
"""Held by the thread that decodes or prepares a page: two at once would only take the interpreter from each other."""

_quiet = threading.Event()
_quiet.set()


def give_way_soon() -> None:
    """Have threads give way to each other sooner than by default."""
    sys.setswitchinterval(GIVE_WAY)


@contextlib.contextmanager
def saving_first() -> Iterator[None]:
    """A few short statements whose answers should find the interpreter free. What reads or prepares is done outside."""
    _quiet.clear()
    try:
        yield
    finally:
        _quiet.set()


def pause() -> None:
    """Between two pieces of reading: wait while somebody saves first."""
    _quiet.wait(PATIENCE)
