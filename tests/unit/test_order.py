"""The suite's own order: what waits is begun beside what works, and neither is left for the end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.support.order import FromBothEnds


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
        getvalue=lambda _: ["popen", "popen"], option=SimpleNamespace(loadscopereorder=False, debug=False)
    )
    scheduler = FromBothEnds(config)
    processes = [Process("gw0"), Process("gw1")]
    for process in processes:
        scheduler.add_node(process)
        scheduler.add_node_collection(process, tests)
    scheduler.schedule()
    assert [process.given for process in processes] == [[0, 1, 2], [5, 6, 4]]
    for process, place in zip(processes, (0, 5), strict=True):
        scheduler.mark_test_complete(process, place)
    assert sorted(place for process in processes for place in process.given) == list(range(len(tests)))
