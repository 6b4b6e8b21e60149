"""The threads that work: one for each account."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cdrsync.daemon.worker import Worker


class Pool:
    """Accounts' workers, each given its turns until it is told to stop or is parked."""

    def __init__(self) -> None:
        self._threads: dict[str, _Thread] = {}

    @property
    def workers(self) -> dict[str, Worker]:
        """The workers by account."""
        return {name: thread.worker for name, thread in list(self._threads.items())}

    def employ(self, worker: Worker) -> None:
        """Begin an account's work, after the worker before it has ended."""
        name = worker.account.name
        before = self._threads.get(name)
        if before is not None:
            before.worker.stop()
        self._threads[name] = _Thread(worker, before)
        self._threads[name].start()

    def dismiss(self, name: str) -> None:
        """End an account's work after the page in hand."""
        self._threads.pop(name).worker.stop()

    def at_work(self, name: str) -> bool:
        """Whether an account has a worker that is neither parked nor stopped."""
        return name in self._threads and self._threads[name].is_alive()

    def stop(self) -> None:
        """Have every worker end after the page in hand."""
        for thread in self._threads.values():
            thread.worker.stop()

    @property
    def ended(self) -> bool:
        """Whether every worker has ended."""
        return not any(thread.is_alive() for thread in self._threads.values())


class _Thread(threading.Thread):
    def __init__(self, worker: Worker, before: _Thread | None) -> None:
        super().__init__(name=f"account-{worker.account.name}", daemon=True)
        self.worker = worker
        self._before = before

    def run(self) -> None:
        if self._before is not None:
            self._before.join()
            self._before = None
        worker = self.worker
        while not worker.stop_asked.is_set() and worker.parked is None:
            worker.due.wait(worker.turn())
        worker.end()
