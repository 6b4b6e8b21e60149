"""In which order a run's processes take the tests: what mostly waits goes on beside what works, from the first minute.

A test marked `waits` hardly needs a processor. Such tests stand at the front of the queue, and every second process
takes from there; the others take from its end. They meet amid tests that are short, so that no long one is left alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdist.scheduler import LoadGroupScheduling

if TYPE_CHECKING:
    import pytest
    from xdist.remote import Producer
    from xdist.workermanage import WorkerController


def place(item: pytest.Item) -> int:
    """A test's place in the queue: tests that one process runs together are long, and so stand at the two ends.

    Those that take minutes (`waits(minutes=True)`) come first of all, lest one process have two of them, one behind
    the other.
    """
    together = item.get_closest_marker("xdist_group") is not None
    waits = item.get_closest_marker("waits")
    if waits is None:
        return 4 if together else 3
    if waits.kwargs.get("minutes"):
        return 0
    return 1 if together else 2


class FromBothEnds(LoadGroupScheduling):  # type: ignore[misc]  # xdist has no types
    """pytest-xdist's way of keeping groups together, with a queue that has two ends."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        config.option.loadscopereorder = False  # it would put the largest groups in front of what takes longest
        super().__init__(config, log)

    def _assign_work_unit(self, node: WorkerController) -> None:
        number = int(node.gateway.id.removeprefix("gw"))
        if number % 2:
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)
