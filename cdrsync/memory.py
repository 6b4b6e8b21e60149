"""Memory for pages: kept while pages come one after the other, given back when they have ended.

Each page needs some megabytes for a moment. As glibc does by default, each would be asked of the kernel anew and given
back at once, which costs a tenth of a catch-up; kept for ever, it would stay with a daemon that then idles for years.
"""

from __future__ import annotations

import gc
from typing import Any

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
