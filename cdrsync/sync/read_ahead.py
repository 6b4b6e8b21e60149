"""Reading ahead: while pages are being saved, the next ones are fetched and decoded in threads.

Pages that wait are joined: a database that is slower than the operator gets fewer and larger transactions.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from cdrsync import tuning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from cdrsync.model import Page

T = TypeVar("T")
BLOCK = 8

TOGETHER = 5_000
"""Weight of one transaction at most (one page, where that has more). Threads read on while less waits to be saved."""


def as_it_is(page: Page) -> Page:
    """Nothing is worked out ahead."""
    return page


def read_ahead(streams: Sequence[Iterator[Page]], ahead: Callable[[Page], Page] = as_it_is) -> Iterator[Page]:
    """Every record of every stream, each stream in its own order and read in a thread of its own, pages joined.

    An exception of a stream is raised here, after the pages read before it; the other streams then stop after the page
    they are at.
    """
    tuning.for_pages()
    return _Ahead(streams, ahead).pages()


class _Ahead:
    """Pages that wait to be taken, and the threads that read them: each ends with its stream."""

    def __init__(self, streams: Sequence[Iterator[Page]], ahead: Callable[[Page], Page]) -> None:
        self._streams = streams
        self._ahead = ahead
        self._waiting: deque[Page] = deque()
        self._changed = threading.Condition()
        self._reading = len(streams)
        self._failure: BaseException | None = None
        self._stopped = False

    def pages(self) -> Iterator[Page]:
        """Take what waits, joined, until every stream has ended or one has failed."""
        for stream in self._streams:
            threading.Thread(target=self._read, args=(stream,), name="read-ahead", daemon=True).start()
        try:
            while self._something():
                with self._changed:
                    page = _taken(self._waiting)
                    self._changed.notify_all()
                yield page
                del page  # it is gone while the next one is waited for
            if self._failure is not None:
                raise self._failure
        finally:
            self._stop()

    def _read(self, stream: Iterator[Page]) -> None:
        failure = None
        try:
            self._take(stream)
        except BaseException as error:  # noqa: BLE001 - raised where the pages are taken
            failure = error
        with self._changed:
            self._reading -= 1
            self._failure = self._failure or failure
            self._stopped = self._stopped or failure is not None
            self._changed.notify_all()

    def _take(self, stream: Iterator[Page]) -> None:
        for page in map(self._ahead, stream):
            with self._changed:
                self._waiting.append(page)
                del page
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._stopped or _weight(self._waiting) < TOGETHER)
                if self._stopped:
                    return

    def _something(self) -> bool:
        """Wait for a page. False where none waits and none will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._stopped or not self._reading)
            return bool(self._waiting)

    def _stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


def _taken(waiting: deque[Page]) -> Page:
    """Take the first page, joined with those behind it that weigh no more than TOGETHER with it."""
    pages = [waiting.popleft()]
    weight = pages[0].weight
    while waiting and weight + waiting[0].weight <= TOGETHER:
        pages.append(waiting.popleft())
        weight += pages[-1].weight
    return pages[0].joined(pages[1:])


def _weight(pages: Iterable[Page]) -> int:
    return sum(page.weight for page in pages)


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
