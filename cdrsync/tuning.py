"""Turns at Python's interpreter, which only one thread has at a time.

A thread that saves needs it for a moment after each answer of the database. As Python does by default it would then
wait 5 ms for one that decodes, 150 times within a second: a database is idle meanwhile, and a catch-up takes a fifth
longer. So threads that read work one at a time, are asked to give way sooner, and stop between two pieces of their work
while one that saves asks the database short questions.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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


OBJECTS = 20_000  # made between two searches for garbage

KEPT = 32 * 1024 * 1024  # bytes: allocations up to this size come from the heap, and so much of its end stays ours

ARENAS = 1  # threads share it: their pages would otherwise stay in an arena each

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of glibc's malloc.h


def keep() -> None:
    """Have the allocator keep what pages need, as far as the C library has `mallopt` (musl and macOS have not).

    Pages make many objects and next to no garbage, which is looked for less often than by default, but so often that
    the objects looked at are still in the processor's cache.
    """
    gc.set_threshold(OBJECTS)
    mallopt = getattr(_c_library(), "mallopt", None)
    if mallopt is not None:
        for option, value in ((_M_ARENA_MAX, ARENAS), (_M_TRIM_THRESHOLD, KEPT), (_M_MMAP_THRESHOLD, KEPT)):
            mallopt(option, value)


def give_back() -> None:
    """Return to the system what is free, after long work. Nothing happens where there is no `malloc_trim`."""
    trim = getattr(_c_library(), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _c_library() -> Any:
    import ctypes

    return ctypes.CDLL(None)


S = TypeVar("S")

T = TypeVar("T")


def each(of: Callable[[S], T], column: Sequence[S]) -> list[T]:
    """What `of` makes of each value, asked once for those that are equal. Raises what it raises."""
    values = {value: of(value) for value in set(column)}
    return list(map(values.__getitem__, column))
