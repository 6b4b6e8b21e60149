"""The suite's own order: what waits is begun beside what works, and neither is left for the end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.order import FromBothEnds, place


class Process:
    """One that runs tests, as pytest-xdist sees it."""

    def __init__(self, name: str) -> None:
        self.gateway = SimpleNamespace(id=name)
        self.shutting_down = False
        self.given: list[int] = []

    def send_runtest_some(self, places: list[int]) -> None:
        self.given += places

    def shutdown(self) -> None:
        self.shutting_down = True


def test_every_second_process_takes_from_the_other_end() -> None:
    """And a group stays with one of them."""
    tests = ["waits[a]@own", "waits[b]@own", "waits", "short", "works", "page@browser", "look@browser"]
    config: Any = SimpleNamespace(
        getvalue=lambda _: ["popen", "popen"], option=SimpleNamespace(loadscopereorder=True, debug=False)
    )
    scheduler = FromBothEnds(config)
    processes = [Process("gw0"), Process("gw1")]
    for process in processes:
        scheduler.add_node(process)
        scheduler.add_node_collection(process, tests)
    scheduler.schedule()
    assert [process.given for process in processes] == [[0, 1, 2], [5, 6, 4]]
    for process, first in zip(processes, (0, 5), strict=True):
        scheduler.mark_test_complete(process, first)
    assert sorted(given for process in processes for given in process.given) == list(range(len(tests)))


def test_what_takes_minutes_begins_first_and_groups_stand_at_the_ends() -> None:
    marks = {
        "minutes": [pytest.mark.waits(minutes=True).mark, pytest.mark.xdist_group("a").mark],
        "waits together": [pytest.mark.waits.mark, pytest.mark.xdist_group("b").mark],
        "waits": [pytest.mark.waits.mark],
        "works": [],
        "works together": [pytest.mark.xdist_group("c").mark],
    }
    items: dict[str, Any] = {
        name: SimpleNamespace(get_closest_marker=lambda name, have=have: {one.name: one for one in have}.get(name))
        for name, have in marks.items()
    }
    assert sorted(items, key=lambda name: place(items[name])) == list(items)
