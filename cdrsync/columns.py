"""A page column by column: few values occur in it, many times each."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

S = TypeVar("S")
T = TypeVar("T")


def each(of: Callable[[S], T], column: Sequence[S]) -> list[T]:
    """What `of` makes of each value, asked once for those that are equal. Raises what it raises."""
    values = {value: of(value) for value in set(column)}
    return list(map(values.__getitem__, column))
