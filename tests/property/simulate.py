"""Deterministic simulation: the real sync core against a modelled operator, store and clock, seed by seed.

python -m tests.property.simulate --seed 4711 --verbose          one seed again, step by step
python -m tests.property.simulate --seeds 10000 --days 7         a campaign on every core, one line of figures
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Final

from cdrsync.errors import DatabaseUnavailable, LeaseLost, Retry, SequenceReset, Skip
from cdrsync.sync.position import SWEEP_INTERVAL
from cdrsync.sync.steps import Sync
from cdrsync.sync.streams import Stream
from tests.property.invariants import Invariants, Violation
from tests.property.operator import Operator
from tests.property.world import plan
from tests.support.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cdrsync.model import Page, PageSaved

POLL, LOOKBACK, BACKFILL, SWEEP, CATCH_UP = "poll", "look-back", "backfill", "sweep", "catch-up"
DEEP_SWEEP = "deep sweep"
TASKS: Final = (POLL, LOOKBACK, BACKFILL, SWEEP)  # the most urgent first
UPKEEP = 6 * 3600.0
SAVED_AT_ONCE = 0.6  # chance that a page is not joined with the next one
MOST_REQUESTS = 30_000
"""No step of these small worlds needs more: one that does is taken for endless."""


class Crash(Exception):
    """The process is gone, kill -9. What was committed stays."""


@dataclass
class Outcome:
    """What became of a seed."""

    seed: int
    problem: str = ""
    figures: Counter[str] = field(default_factory=Counter)


class Simulation:
    """One seed. `run` raises Violation."""

    def __init__(self, seed: int, days: int, *, verbose: bool = False) -> None:
        self.plan = plan(seed, days)
        self.now = self.plan.begins
        self.figures: Counter[str] = Counter()
        self._rng = Random(seed + 1)
        self._verbose = verbose
        self._calm = False
        self._requests_allowed = MOST_REQUESTS
        self.operator = Operator(self.plan.calls, self.plan.habits, self._rng, now=lambda: self.now, spend=self._spend)
        self.operator.outages = self.plan.outages
        self.store = MemoryStore(self._clock, before=self._before_commit, after=self._after_commit)
        self.invariants = Invariants(self.plan, self.store)
        self._sync = self._started()
        self._next = dict.fromkeys((CATCH_UP,) if self.plan.cron else TASKS, self.plan.begins)
        self._next[DEEP_SWEEP] = self.plan.begins + self.plan.deep_sweep_every
        self._failures = 0
        self._parked = False

    def run(self) -> None:
        """Live through the plan's days, then prove the whole table."""
        self._say(self.plan.facts())
        while self.now < self.plan.ends and not self._parked:
            self.now = max(self.now, min(self._next.values()))
            for begin, end in self.plan.downtimes:
                if begin <= self.now < end:
                    self.now = end
                    self._restart()
            due = next(task for task in self._next if self._next[task] <= self.now)
            self._do(due)
        if not self._parked:
            self._prove()
        elif self.now < self.plan.reset_at:
            raise Violation("a new sequence was noticed where there is none")
        self.figures["parked"] += self._parked
        self.figures["requests"] += self.operator.requests
        self.figures["calls"] += len(self.store.rows)
        self.figures.update(self.operator.fired)

    # ── the daemon ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _do(self, task: str) -> None:
        """One step, the urgent ones between its pages; what goes wrong passes, or parks the account."""
        self._next[task] = self.now + self._interval(task)
        outer, begun, before = self.invariants.begun, self.now, self.invariants.marks()
        self.invariants.begun = begun
        requests, pages = self.operator.requests, 0
        try:
            for _ in self._pages(task):
                pages += 1
                self._may_crash(self.plan.crash)
                if task in (BACKFILL, SWEEP, DEEP_SWEEP):
                    self._do_urgent()
        except Crash:
            self._say(f"{task}: crash after {pages} pages")
            self.figures["crashes"] += 1
            self._spend(self._rng.uniform(1, 600))
            self._restart()
        except Retry as error:
            self._say(f"{task}: {error}")
            self.figures[type(error).__name__] += 1
            self._failures += 1
            self._spend(min(60.0, 2.0**self._failures) if self._failures < 8 else 1800.0)
            self._next[task] = self.now
        except Skip as error:
            self._say(f"{task}: {error}")
            self.figures[type(error).__name__] += 1
        except SequenceReset as error:
            self._say(f"{task}: parked: {error}")
            self.figures[type(error).__name__] += 1
            self._parked = True
        else:
            self._failures = 0
            self._done(task, begun, before, requests, pages)
        finally:
            self.invariants.begun = outer

    def _done(self, task: str, begun: float, before: dict[str, int], requests: int, pages: int) -> None:
        self._say(f"{task}: {pages} pages, {self.operator.requests - requests} requests")
        if task != POLL:
            return
        self.invariants.polled(begun, before, self.now)
        asked, needed = self.operator.requests - requests, len(self.plan.settings.numbers or ("",))
        if not pages and asked != needed:
            raise Violation(f"an idle poll took {asked} requests, not {needed}")
        self.figures["idle polls"] += not pages

    def _do_urgent(self) -> None:
        for task in (POLL, LOOKBACK):
            if self._next.get(task, self.plan.ends) <= self.now and not self._parked:
                self._do(task)
                self._spend(self._rng.random())

    def _pages(self, task: str) -> Iterator[PageSaved]:
        self._requests_allowed = self.operator.requests + MOST_REQUESTS
        if task == POLL:
            yield from self._sync.poll()
        elif task == LOOKBACK:
            yield from self._sync.look_back()
        elif task == BACKFILL:
            yield from self._sync.backfill()
        elif task == DEEP_SWEEP:
            yield from self._sync.deep_sweep()
        elif task == CATCH_UP:
            self.invariants.skipped_first = self.store.checkpoint(Stream.SWEEP) is None
            yield from self._sync.catch_up()
        elif self._overdue():
            yield from self._sync.sweep()

    def _overdue(self) -> bool:
        checkpoint = self.store.checkpoint(Stream.SWEEP)
        return (
            checkpoint is None
            or checkpoint.begun_at is None
            or (self._clock() - checkpoint.begun_at >= SWEEP_INTERVAL * 0.95)
        )

    def _interval(self, task: str) -> float:
        if task == CATCH_UP:
            return self._rng.uniform(600, 86_400)
        every = {
            POLL: self.plan.poll_every,
            LOOKBACK: self.plan.look_back_every,
            DEEP_SWEEP: self.plan.deep_sweep_every,
        }
        return every.get(task, UPKEEP)

    def _prove(self) -> None:
        """A last round in which nothing fails, then the whole table."""
        self._calm = self.operator.calm = True
        self.invariants.skipped_first = False
        self._spend(self._rng.uniform(0, 86_400))
        begun = self.now
        self._sync = self._started()
        for task, step in (
            (POLL, self._sync.poll),
            (LOOKBACK, self._sync.look_back),
            (BACKFILL, self._sync.backfill),
            (SWEEP, self._sync.sweep),
            *([(DEEP_SWEEP, self._sync.deep_sweep)] if self.plan.deep_sweep_every < self.plan.ends else []),
        ):
            self.invariants.begun, before = self.now, self.invariants.marks()
            self._requests_allowed = self.operator.requests + MOST_REQUESTS
            try:
                pages = sum(1 for _ in step())
            except SequenceReset as error:
                self._parked = True
                if self.now < self.plan.reset_at:
                    raise Violation(f"a new sequence was noticed where there is none: {error}") from error
                return
            self._say(f"last {task}: {pages} pages")
            if task == POLL:
                self.invariants.polled(self.invariants.begun, before, self.now)
        self.invariants.ended(begun, self.now)

    # ── the world around the core ──────────────────────────────────────────────────────────────────────────────────

    def _started(self) -> Sync:
        return Sync(self.operator, self.store, self.plan.settings, clock=self._clock, read_ahead=self._read_ahead)

    def _restart(self) -> None:
        self._sync = self._started()
        kept = (CATCH_UP, DEEP_SWEEP)
        self._next = {task: max(self.now, at) if task in kept else self.now for task, at in self._next.items()}

    def _clock(self) -> datetime:
        return datetime.fromtimestamp(self.now + self.plan.skew, UTC)

    def _spend(self, seconds: float) -> None:
        self.now += seconds
        if self.operator.requests > self._requests_allowed:
            raise Violation("a step that does not end")

    def _before_commit(self, page: Page) -> None:
        del page
        self._trouble()

    def _after_commit(self, page: Page) -> None:
        self.invariants.committed(page, self.now)
        self.figures["commits"] += 1
        self._trouble()

    def _trouble(self) -> None:
        """The database or the process goes away; `save` calls this on both sides of its commit."""
        if self._calm:
            return
        if self._rng.random() < self.plan.database:
            raise self._rng.choice((DatabaseUnavailable, LeaseLost))("the database went away")
        self._may_crash(self.plan.crash / 2)

    def _may_crash(self, rate: float) -> None:
        if not self._calm and self._rng.random() < rate:
            raise Crash

    def _read_ahead(self, streams: Sequence[Iterator[Page]]) -> Iterator[Page]:
        """As `ahead.read_ahead`, without threads: whose turn it is, and how many pages are joined, is drawn."""
        ahead: list[tuple[Iterator[Page], list[Page], BaseException | None]] = [_read(stream) for stream in streams]
        waiting: list[Page] = []
        while ahead:
            stream, pages, error = ahead.pop(self._rng.randrange(len(ahead)))
            waiting += pages
            if pages:
                ahead.append(_read(stream))
            if waiting and (error is not None or not ahead or self._rng.random() < SAVED_AT_ONCE):
                yield waiting[0].joined(waiting[1:])
                waiting = []
            if error is not None:
                raise error

    def _say(self, text: str) -> None:
        if self._verbose:
            print(f"{datetime.fromtimestamp(self.now, UTC):%Y-%m-%d %H:%M:%S} {text}")


def _read(stream: Iterator[Page]) -> tuple[Iterator[Page], list[Page], BaseException | None]:
    try:
        return stream, [next(stream)], None
    except StopIteration:
        return stream, [], None
    except Exception as error:  # noqa: BLE001 - it is raised when this stream's turn comes, as a future does
        return stream, [], error


def simulate(seed: int, days: int = 7, *, verbose: bool = False) -> Outcome:
    """Run one seed; never raises."""
    outcome = Outcome(seed)
    simulation = None
    try:
        simulation = Simulation(seed, days, verbose=verbose)
        simulation.run()
    except Exception as error:  # noqa: BLE001 - whatever the core raises that it may not is a finding
        outcome.problem = f"{type(error).__name__}: {error}"
        if verbose:
            traceback.print_exc()
    if simulation is not None:
        outcome.figures = simulation.figures
    return outcome


def _one(argument: tuple[int, int]) -> Outcome:
    return simulate(*argument)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.property.simulate", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, help="run this one seed")
    parser.add_argument("--seeds", type=int, default=1000, help="run so many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--days", type=int, default=7, help="virtual days of each")
    parser.add_argument("--processes", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--verbose", action="store_true", help="every step, and where a violation was noticed")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        outcome = simulate(options.seed, options.days, verbose=options.verbose)
        print(outcome.problem or f"seed {options.seed}: no violation, {dict(outcome.figures)}")
        return bool(outcome.problem)
    return _campaign(range(options.first, options.first + options.seeds), options.days, options.processes)


def _campaign(seeds: range, days: int, processes: int) -> int:
    began, figures, failed = time.monotonic(), Counter[str](), 0
    with multiprocessing.Pool(processes) as pool:
        for outcome in pool.imap_unordered(_one, ((seed, days) for seed in seeds), chunksize=20):
            figures += outcome.figures
            if outcome.problem:
                failed += 1
                print(f"seed {outcome.seed}: {outcome.problem}", flush=True)
    took = time.monotonic() - began
    found = ", ".join(f"{name} {count:,}" for name, count in sorted(figures.items()))
    print(
        f"seeds {seeds.start}..{seeds.stop - 1} x {days} days: {failed} violations in {took:.0f} s "
        f"({len(seeds) / took:.0f} seeds/s); {found}"
    )
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
