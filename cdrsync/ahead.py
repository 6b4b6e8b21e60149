"""Reading ahead: while one page is being saved, the next ones are fetched and decoded in threads."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

T = TypeVar("T")
BLOCK = 8


class _End:
    """A stream has no more items. A type of its own, because None may be an item."""


_END: Final = _End()


def read_ahead(streams: Sequence[Iterator[T]]) -> Iterator[T]:
    """Every item of every stream, each stream in its own order, each read one item ahead in a thread of its own.

    At most one item a stream waits unread, so memory is bounded by the streams. An exception of a stream is raised
    here, after the items read before it; the other streams then stop after the item they are at.
    """
    pool = ThreadPoolExecutor(max_workers=len(streams), thread_name_prefix="read-ahead")
    ahead: dict[Future[T | _End], Iterator[T]] = {pool.submit(_next, stream): stream for stream in streams}
    try:
        while ahead:
            done, _ = wait(ahead, return_when=FIRST_COMPLETED)
            while done:
                future = done.pop()
                stream = ahead.pop(future)
                item = future.result()
                del future
                if isinstance(item, _End):
                    continue
                ahead[pool.submit(_next, stream)] = stream
                yield item
                del item  # it is gone while the next one is waited for
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def in_turn(streams: Sequence[Iterator[T]]) -> Iterator[T]:
    """The same without threads, one stream after the other.

    For SQLite: its driver hands the interpreter over and takes it back for every row, so that a page takes twice as
    long to write while another is being decoded.
    """
    return itertools.chain.from_iterable(streams)


def _next(stream: Iterator[T]) -> T | _End:
    return next(stream, _END)


class Shared(Generic[T]):
    """An iterator that several threads may take from."""

    def __init__(self, items: Iterator[T]) -> None:
        self._items = items
        self._lock = threading.Lock()

    def __iter__(self) -> Shared[T]:
        return self

    def __next__(self) -> T:
        with self._lock:
            return next(self._items)


def blocks(items: Iterator[T]) -> Iterator[list[T]]:
    """The items in lists of up to BLOCK, for threads that should each have neighbours.

    Pages of neighbouring days have uids of their own: the store need not look through another thread's calls.
    """
    while block := list(itertools.islice(items, BLOCK)):
        yield block
