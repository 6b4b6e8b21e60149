"""What is there for speed alone. Delete it, and everything still works, slower."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GIVE_WAY = 0.001  # seconds after which a thread gives the interpreter to one that asks for it

OBJECTS = 20_000  # made between two searches for garbage

KEPT = 32 * 1024 * 1024  # bytes: allocations up to this size come from the heap, and so much of its end stays ours

ARENAS = 1  # threads share it: their pages would otherwise stay in an arena each

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of glibc's malloc.h


def for_pages() -> None:
    """Tell the interpreter and the allocator of a process what its pages need. Best before there are threads.

    Who saves needs the interpreter for a moment after each answer of the database, and would wait 5 ms for a thread
    that decodes. Pages make many objects and next to no garbage. The allocator keeps what pages need, as far as the C
    library has `mallopt` (musl and macOS have not).
    """
    sys.setswitchinterval(GIVE_WAY)
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
