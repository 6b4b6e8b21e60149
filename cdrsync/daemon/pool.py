"""The threads that work: a few for any number of accounts.

Urgent turns (polls) go before long ones, the earliest due first. Long work gives way after each page, and only some
accounts have any under way; where others wait, it goes back to the queue after a while.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cdrsync.daemon.tasks import NEVER
from cdrsync.monitor import logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdrsync.daemon.worker import Worker

SLICE = 30.0  # seconds of long work while others wait to begin theirs
LONGEST_WAIT = 60.0  # seconds: a thread with nothing to do looks again

URGENT, NEW, GOING = range(3)  # the queues, the first before the others


@dataclass(eq=False, slots=True)
class _Seat:
    """An account's place in the pool."""

    worker: Worker
    successor: Worker | None = None
    running: bool = False
    edition: int = 0  # of its times: entries of an earlier one count no more
    long_since: float | None = None  # long work is under way


@dataclass(slots=True)
class _Queue:
    """Seats by the time of their turn."""

    heap: list[tuple[float, int, _Seat, int]] = field(default_factory=list)

    def first(self) -> tuple[float, _Seat] | None:
        while self.heap:
            at, _, seat, edition = self.heap[0]
            if edition == seat.edition and not seat.running:
                return at, seat
            heapq.heappop(self.heap)
        return None


class Pool:
    """Gives workers their turns, each by one thread at a time, until `stop`."""

    def __init__(self, threads: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._seats: dict[str, _Seat] = {}
        self._queues = (_Queue(), _Queue(), _Queue())
        self._numbers = itertools.count()
        self._longest = max(1, threads // 2)  # accounts with long work under way
        self._long = 0
        self._stopping = False
        for number in range(threads):
            threading.Thread(target=self._work, name=f"worker-{number}", daemon=True).start()

    # ── from the service ───────────────────────────────────────────────────────────────────────────────────────────

    @property
    def workers(self) -> dict[str, Worker]:
        """The workers by account."""
        with self._changed:
            workers = {name: seat.successor or seat.worker for name, seat in self._seats.items()}
        return {name: worker for name, worker in workers.items() if not worker.stop_asked.is_set()}

    def employ(self, worker: Worker) -> None:
        """Begin an account's work, after the worker before it has ended."""
        with self._changed:
            seat = self._seats.get(worker.account.name)
            if seat is None:
                seat = self._seats[worker.account.name] = _Seat(worker)
            else:
                seat.worker.stop_asked.set()
                seat.successor = worker
            self._queue(seat)

    def dismiss(self, name: str) -> None:
        """End an account's work after the page in hand."""
        with self._changed:
            self._end(self._seats[name])

    def wake(self, name: str) -> None:
        """Look at an account's times again."""
        with self._changed:
            if name in self._seats:
                self._queue(self._seats[name])

    def stop(self) -> None:
        """Have every worker end after the page in hand."""
        with self._changed:
            self._stopping = True
            for seat in self._seats.values():
                self._end(seat)
            self._changed.notify_all()

    @property
    def ended(self) -> bool:
        with self._changed:
            return not self._seats

    def silent(self) -> dict[str, float]:
        """The accounts at whose page a thread is, and the seconds since its last sign of life."""
        with self._changed:
            return {name: seat.worker.silent_for() for name, seat in self._seats.items() if seat.running}

    # ── the threads ────────────────────────────────────────────────────────────────────────────────────────────────

    def _work(self) -> None:
        while (turn := self._next()) is not None:
            seat, long = turn
            worker = seat.worker
            try:
                if worker.stop_asked.is_set():
                    worker.end()
                else:
                    worker.turn(long=long)
                    if seat.long_since is not None and self._should_give_way(seat):
                        worker.give_way()
            except BaseException as error:  # noqa: BLE001 - nothing but a person's stop ends the work
                worker.stumbled()
                logs.get(worker.account.name).error("internal error", message=logs.one_line(error))
            self._done(seat)

    def _next(self) -> tuple[_Seat, bool] | None:
        """Wait for a turn that is due and take it; None where all work has ended."""
        with self._changed:
            while not (self._stopping and not self._seats):
                now, soonest = self._clock(), NEVER
                for kind, queue in enumerate(self._queues):
                    if kind == NEW and self._long >= self._longest:
                        continue
                    found = queue.first()
                    if found is None:
                        continue
                    at, seat = found
                    if at <= now:
                        return self._taken(seat, kind, now)
                    soonest = min(soonest, at)
                self._changed.wait(min(soonest - now, LONGEST_WAIT))
            self._changed.notify_all()
            return None

    def _taken(self, seat: _Seat, kind: int, now: float) -> tuple[_Seat, bool]:
        seat.running = True
        seat.edition += 1
        if kind == NEW:
            self._long += 1
            seat.long_since = now
        self._changed.notify()  # more may be due
        return seat, kind != URGENT

    def _should_give_way(self, seat: _Seat) -> bool:
        with self._changed:
            waiting = self._queues[NEW].first()
            now = self._clock()
            began = seat.long_since
            return began is not None and now - began > SLICE and waiting is not None and waiting[0] <= now

    def _done(self, seat: _Seat) -> None:
        """Give the seat back: to the queue, to a successor, or to nobody."""
        with self._changed:
            seat.running = False
            if seat.worker.ended:
                self._no_long_work(seat)
                if seat.successor is None:
                    del self._seats[seat.worker.account.name]
                    self._changed.notify_all()
                    return
                seat.worker, seat.successor = seat.successor, None
            self._queue(seat)

    def _end(self, seat: _Seat) -> None:
        seat.successor = None
        seat.worker.stop_asked.set()
        self._queue(seat)

    def _queue(self, seat: _Seat) -> None:
        if seat.running:
            return  # its times are looked at when it comes back
        seat.edition += 1
        urgent, long, begun = seat.worker.times()
        if not begun:
            self._no_long_work(seat)
        for kind, at in ((URGENT, urgent), (GOING if begun else NEW, long)):
            if at != NEVER:
                heapq.heappush(self._queues[kind].heap, (at, next(self._numbers), seat, seat.edition))
        self._changed.notify()

    def _no_long_work(self, seat: _Seat) -> None:
        if seat.long_since is not None:
            seat.long_since = None
            self._long -= 1
