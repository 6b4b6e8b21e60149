"""Gives memory back: what a catch-up took must not stay with a daemon that then idles for years."""

from __future__ import annotations

ARENAS = 2
TRIM_THRESHOLD = 128 * 1024  # bytes

_M_TRIM_THRESHOLD, _M_ARENA_MAX = -1, -8  # of glibc's malloc.h


def spare() -> None:
    """Make glibc's allocator keep little: a few threads' pages otherwise stay in an arena each, never to be returned.

    Nothing happens where the C library has no `mallopt` (musl, macOS).
    """
    import ctypes

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, ARENAS)
        mallopt(_M_TRIM_THRESHOLD, TRIM_THRESHOLD)
