"""Reading ahead: order, bounds and errors of streams that are read in threads of their own."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from cdrsync.ahead import read_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEADLINE = 10.0  # seconds until a condition that must come true counts as never


def test_every_item_of_a_stream_comes_in_its_order() -> None:
    assert list(read_ahead([iter(range(100))])) == list(range(100))


def test_streams_keep_their_own_order_and_lose_nothing() -> None:
    found = list(read_ahead([iter([(name, n) for n in range(50)]) for name in "abc"]))
    assert [[n for name, n in found if name == stream] for stream in "abc"] == [list(range(50))] * 3


def test_none_is_an_item_like_any_other() -> None:
    assert list(read_ahead([iter([None, 1, None])])) == [None, 1, None]


def test_streams_may_be_empty() -> None:
    assert list(read_ahead([iter(()), iter([1]), iter(())])) == [1]


def test_the_next_item_is_read_while_the_last_one_is_worked_on_and_no_further() -> None:
    """Memory is bounded: at most one item of a stream waits."""
    taken: list[int] = []
    two = threading.Event()

    def stream() -> Iterator[int]:
        for n in range(10):
            taken.append(n)
            if n == 1:
                two.set()
            yield n

    pages = read_ahead([stream()])
    assert next(pages) == 0
    assert two.wait(DEADLINE)
    assert taken == [0, 1]
    assert list(pages) == list(range(1, 10))


def test_streams_are_read_at_the_same_time() -> None:
    """Each waits for the other, so one after the other would never end."""
    meeting = threading.Barrier(2, timeout=DEADLINE)

    def stream(name: str) -> Iterator[str]:
        meeting.wait()
        yield name

    assert sorted(read_ahead([stream("a"), stream("b")])) == ["a", "b"]


def test_an_error_comes_after_the_items_before_it() -> None:
    def stream() -> Iterator[int]:
        yield 1
        yield 2
        raise ConnectionError("the third page")

    pages = read_ahead([stream()])
    assert [next(pages), next(pages)] == [1, 2]
    with pytest.raises(ConnectionError, match="the third page"):
        next(pages)


def _closed(pages: Iterator[int]) -> None:
    close: Callable[[], None] = pages.close  # type: ignore[attr-defined] # read_ahead is a generator
    close()


def test_a_consumer_who_stops_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    pages = read_ahead([iter(range(1000)), iter(range(1000))])
    next(pages)
    _closed(pages)
    for thread in set(threading.enumerate()) - before:
        thread.join(DEADLINE)
        assert not thread.is_alive()


def test_after_an_error_of_one_stream_the_others_stop_after_the_item_they_are_at() -> None:
    taken: list[int] = []

    def endless() -> Iterator[int]:
        n = 0
        while True:
            n += 1
            taken.append(n)
            yield n

    def failing() -> Iterator[int]:
        raise ConnectionError
        yield 0

    before = set(threading.enumerate())
    with pytest.raises(ConnectionError):
        for _ in read_ahead([endless(), failing()]):
            pass
    for thread in set(threading.enumerate()) - before:
        thread.join(DEADLINE)
        assert not thread.is_alive()
    read = len(taken)
    assert taken == list(range(1, read + 1))
