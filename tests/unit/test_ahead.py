"""Reading ahead: order, bounds and errors of streams that are read in threads of their own, and what is joined."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import date, timedelta
from itertools import count
from typing import TYPE_CHECKING, cast

import pytest

from cdrsync.errors import ApiUnreachable
from cdrsync.model import RECORD_BYTES, Checkpoint, Origin, Page, Reject
from cdrsync.sync.read_ahead import TOGETHER, read_ahead

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

DEADLINE = 10.0  # seconds until a condition that must come true counts as never


def page(*names: object) -> Page:
    """A page of one record for each name."""
    return Page(Origin.BACKFILL, [], [Reject(None, str(name), "") for name in names])


def names(pages: Iterator[Page]) -> list[str]:
    """The records of pages, in their order."""
    return [reject.raw for one in pages for reject in one.rejects]


def full() -> Page:
    """A page that nothing is joined with."""
    return page(*range(TOGETHER))


def test_every_record_of_a_stream_comes_in_its_order() -> None:
    found = names(read_ahead([iter([page(n) for n in range(100)])]))
    assert found == list(map(str, range(100)))


def test_streams_keep_their_own_order_and_lose_nothing() -> None:
    streams = [iter([page(f"{stream} {n}") for n in range(50)]) for stream in "abc"]
    found = names(read_ahead(streams))
    for stream in "abc":
        assert [name for name in found if name[0] == stream] == [f"{stream} {n}" for n in range(50)]


def test_what_is_done_ahead_is_done_once_with_each_page_in_the_thread_that_has_read_it() -> None:
    worked: list[str] = []

    def ahead(one: Page) -> Page:
        worked.append(threading.current_thread().name)
        return replace(one, rejects=[*one.rejects, Reject(None, "ahead", "")])

    assert names(read_ahead([iter([page(1), page(2)])], ahead)) == ["1", "ahead", "2", "ahead"]
    assert worked == ["read-ahead"] * 2


def test_streams_and_pages_may_be_empty() -> None:
    assert names(read_ahead([iter(()), iter([page(), page(1), page()]), iter(())])) == ["1"]
    assert not list(read_ahead([iter(())]))


def test_pages_that_wait_are_joined_up_to_a_bound() -> None:
    """Of pages of a tenth of it ten wait, and are taken together."""
    read = threading.Condition()
    taken: list[int] = []

    def stream() -> Iterator[Page]:
        for n in range(50):
            with read:
                taken.append(n)
                read.notify()
            yield page(*range(TOGETHER // 10))

    pages = read_ahead([stream()])
    sizes = [len(next(pages))]
    with read:
        assert read.wait_for(lambda: len(taken) * TOGETHER // 10 >= sizes[0] + TOGETHER, DEADLINE)
    sizes.append(len(next(pages)))
    assert TOGETHER * 9 // 10 <= sizes[1] <= TOGETHER  # the tenth may just be on its way
    assert sum(sizes) + sum(map(len, pages)) == 5 * TOGETHER


def test_a_page_larger_than_the_bound_comes_by_itself() -> None:
    large = page(*range(TOGETHER + 1))
    assert TOGETHER + 1 in list(map(len, read_ahead([iter([page(1), large, page(2)])])))


def test_pages_of_many_bytes_are_not_joined() -> None:
    """A page counts by its bytes where it has more of them than its records usually have."""
    fat = replace(page(1), size=TOGETHER * RECORD_BYTES)
    light = replace(page(2), size=650)
    assert sorted(map(len, read_ahead([iter([fat, fat, fat])]))) == [1, 1, 1]
    assert fat.joined([light, light]).weight == TOGETHER + 1


def test_joined_pages_say_what_all_of_them_say() -> None:
    day = date(2026, 3, 1)
    first, last = Checkpoint("tail", high_water_uid=7), Checkpoint("tail", high_water_uid=9)
    pages = [
        Page(Origin.TAIL, [], [Reject(1, "a", "")], checkpoint=first, completes=(day,)),
        Page(Origin.TAIL, [], [Reject(2, "b", "")], checkpoint=last, completes=(day + timedelta(days=1),)),
        Page(Origin.TAIL, []),
    ]
    whole = pages[0].joined(pages[1:])
    assert (whole.origin, [reject.uid for reject in whole.rejects]) == (Origin.TAIL, [1, 2])
    assert whole.checkpoint == last
    assert whole.completes == (day, day + timedelta(days=1))


def test_the_next_pages_are_read_while_the_last_one_is_worked_on_and_not_many() -> None:
    """Memory is bounded: as much waits as is worked on."""
    taken: list[int] = []
    enough = threading.Event()

    def stream() -> Iterator[Page]:
        for n in range(20):
            taken.append(n)
            if n == 1:
                enough.set()
            yield full()

    pages = read_ahead([stream()])
    assert len(next(pages)) == TOGETHER
    assert enough.wait(DEADLINE)
    assert taken == [0, 1]
    assert len(list(pages)) == 19


def test_streams_are_read_at_the_same_time() -> None:
    """Each waits for the other, so one after the other would never end."""
    meeting = threading.Barrier(2, timeout=DEADLINE)

    def stream(name: str) -> Iterator[Page]:
        meeting.wait()
        yield page(name)

    assert sorted(names(read_ahead([stream("a"), stream("b")]))) == ["a", "b"]


def test_an_error_comes_after_the_pages_before_it() -> None:
    def stream() -> Iterator[Page]:
        yield page(1)
        yield page(2)
        raise ApiUnreachable("the third page")

    found: list[str] = []
    with pytest.raises(ApiUnreachable, match="the third page"):
        found.extend(reject.raw for one in read_ahead([stream()]) for reject in one.rejects)
    assert found == ["1", "2"]


def _gone(before: set[threading.Thread]) -> None:
    for thread in set(threading.enumerate()) - before:
        thread.join(DEADLINE)
        assert not thread.is_alive()


def _endless(taken: list[int]) -> Iterator[Page]:
    for n in count(1):
        taken.append(n)
        yield page(n)


def test_a_consumer_who_stops_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    pages = cast("Generator[Page]", read_ahead([_endless([]), _endless([])]))
    next(pages)
    pages.close()
    _gone(before)


def test_after_an_error_of_one_stream_the_others_stop_after_the_page_they_are_at() -> None:
    taken: list[int] = []

    def failing() -> Iterator[Page]:
        raise ConnectionError
        yield page()

    before = set(threading.enumerate())
    with pytest.raises(ConnectionError):
        list(read_ahead([_endless(taken), failing()]))
    _gone(before)
    read = len(taken)
    assert taken == list(range(1, read + 1))
