"""What is there for speed alone. Delete it, and everything still works, slower."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GIVE_WAY = 0.001  # seconds after which a thread gives the interpreter to one that asks for it

OBJECTS = 20_000  # made between two searches for garbage


def for_pages() -> None:
    """Tell the interpreter of a process what its pages need.

    Who saves needs the interpreter for a moment after each answer of the database, and would wait 5 ms for a thread
    that decodes. Pages make many objects and next to no garbage.
    """
    sys.setswitchinterval(GIVE_WAY)
    gc.set_threshold(OBJECTS)


def give_back() -> None:
    """Return to the system what is free, after long work. Nothing happens where there is no `malloc_trim`."""
    import ctypes

    trim: Any = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


S = TypeVar("S")
T = TypeVar("T")


def each(of: Callable[[S], T], column: Sequence[S]) -> list[T]:
    """What `of` makes of each value, asked once for those that are equal. Raises what it raises."""
    values = {value: of(value) for value in set(column)}
    return list(map(values.__getitem__, column))
