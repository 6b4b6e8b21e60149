"""Turns at Python's interpreter, which only one thread has at a time.

A thread that saves needs it for a moment after each answer of the database. As Python does by default it would then
wait 5 ms for one that decodes, 150 times within a second: a database is idle meanwhile, and a catch-up takes a fifth
longer. So threads that read work one at a time, and are asked to give way sooner.
"""

from __future__ import annotations

import sys
import threading

GIVE_WAY = 0.0003  # seconds after which a thread gives the interpreter to one that asks for it

READING = threading.Lock()
"""Held by the thread that decodes or prepares a page: two at once would only take the interpreter from each other."""


def give_way_soon() -> None:
    """Have threads give way to each other sooner than by default."""
    sys.setswitchinterval(GIVE_WAY)
