"""What is there for speed alone. Delete it, and everything still works, slower."""

from __future__ import annotations

import contextlib
import gc
import sys
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import time

GIVE_WAY = 0.001  # seconds after which a thread gives the interpreter to one that asks for it

OBJECTS = 20_000  # made between two searches for garbage

ARENAS = 2  # heaps that threads share
KEPT = 32 * 1024 * 1024  # bytes: pieces up to this size come from the heap, and so much of its free end stays ours
_ARENA_MAX, _MMAP_THRESHOLD, _TRIM_THRESHOLD = -8, -3, -1  # of glibc's malloc.h


def for_pages() -> None:
    """Tell the interpreter of a process what its pages need.

    Who saves needs the interpreter for a moment after each answer of the database, and would wait 5 ms for a thread
    that decodes. Pages make many objects and next to no garbage. Each thread would keep what it once needed in a heap
    of its own, and a daemon grow for hours. What a page needs for a moment would be asked of the kernel anew, page by
    page; kept, it goes with `give_back`.
    """
    sys.setswitchinterval(GIVE_WAY)
    gc.set_threshold(OBJECTS)
    for option, value in ((_ARENA_MAX, ARENAS), (_MMAP_THRESHOLD, KEPT), (_TRIM_THRESHOLD, KEPT)):
        _tell_glibc("mallopt", option, value)


def give_back() -> None:
    """Return to the system what is free, after long work."""
    _tell_glibc("malloc_trim", 0)


def _tell_glibc(function: str, *arguments: int) -> None:
    """Call a function of C's library. Nothing happens where there is none of that name."""
    import ctypes

    found: Any = getattr(ctypes.CDLL(None), function, None)
    if found is not None:
        found(*arguments)


@contextlib.contextmanager
def without(module: str) -> Iterator[None]:
    """Have a library that can do without a module be imported without it, unless somebody has imported it already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # how the language says: there is no such module
    try:
        yield
    finally:
        del sys.modules[module]


S = TypeVar("S")
T = TypeVar("T")


def each(of: Callable[[S], T], column: Sequence[S]) -> list[T]:
    """What `of` makes of each value, asked once for those that are equal. Raises what it raises."""
    values = {value: of(value) for value in set(column)}
    return list(map(values.__getitem__, column))


def instants(column: Sequence[datetime]) -> list[str]:
    """`YYYY-MM-DD HH:MM:SS[.ffffff]` in UTC of aware instants, in a third of the time that `str` takes."""
    in_utc = [one if one.tzinfo is UTC else one.astimezone(UTC) for one in column]
    days = each(str, list(map(datetime.date, in_utc)))
    return [f"{day} {clock}" for day, clock in zip(days, clocks(in_utc), strict=True)]


def clocks(column: Sequence[datetime] | Sequence[time]) -> list[str]:
    """`HH:MM:SS[.ffffff]` of times of day."""
    minutes, seconds = _minutes(), _seconds()
    return [
        f"{one:%H:%M:%S.%f}" if one.microsecond else minutes[one.hour * 60 + one.minute] + seconds[one.second]
        for one in column
    ]


@cache
def _minutes() -> list[str]:
    return [f"{hour:02}:{minute:02}" for hour in range(24) for minute in range(60)]


@cache
def _seconds() -> list[str]:
    return [f":{second:02}" for second in range(60)]
