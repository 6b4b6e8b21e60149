"""Three replicas share a few accounts, and one of them is killed, stopped or cut off, again and again.

    python -m tests.cluster.events --engine postgresql --engine galera --events 200

After each event every account must be polled again within LIMIT seconds: a call that the operator makes in this moment
is held by then. At the end there was no second writer, and no call is lost, doubled or other than the operator's. Most
of an event is waiting, so that several fleets, each with a database of its own, are hit side by side.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import sys
import tempfile
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.engines import ENGINES, Make, Way
from tests.support.fleet import LEASE_SECONDS, Fleet, Member
from tests.support.processes import stop_between_writes, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LIMIT = 30.0  # seconds until every account is polled again
KILL, STOP, CUT = "kill -9", "SIGSTOP", "cut"


@dataclass
class Figures:
    """What a campaign on one engine showed."""

    ended: threading.Event  # by a person, before its time
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # by event
    writes: int = 0
    leases: int = 0
    compared: int = 0
    double: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    put_off: int = 0  # SQLite: stops in the middle of a write

    def lines(self, engine: str) -> Iterator[str]:
        """As the campaign prints them."""
        for event, seconds in self.seconds.items():
            late = sum(one > LIMIT for one in seconds)
            yield (
                f"{engine:<11} {event:<8} {len(seconds):>4} events: polled again after"
                f" {sum(seconds) / len(seconds):4.1f} s, {max(seconds):4.1f} s at most; {late} over {LIMIT:.0f} s"
            )
        yield (
            f"{engine:<11} {len(self.double)} double writers in {self.writes} transactions by {self.leases} leases;"
            f" {len(self.differences)} calls lost, doubled or other, or sums that differ, of {self.compared} calls"
            + (f"; {self.put_off} stops in the middle of a write were put off" if self.put_off else "")
        )
        yield from (f"{engine:<11} {line}" for line in (*self.double, *self.differences[:20], *self.broken))

    @property
    def failed(self) -> bool:
        """Whether anything was not as it must be."""
        late = any(one > LIMIT for seconds in self.seconds.values() for one in seconds)
        return bool(late or self.double or self.differences or self.broken)


def campaign(fleet: Fleet, ways: Sequence[Way], events: int, rng: random.Random, figures: Figures) -> None:
    """Hit one of a fleet's replicas so often; then compare everything."""
    kinds = (KILL, STOP, CUT) if ways[0].links else (KILL, STOP)
    done = 0
    while done < events and not figures.ended.is_set():
        until(fleet.settled, lambda: f"every account has a replica: {fleet.holders()}", 120)
        time.sleep(rng.uniform(0.0, 2.0))
        busy = set(fleet.holders().values())
        at_work = [place for place, member in enumerate(fleet.members) if member.pid in busy]
        if at_work:
            place = rng.choice(at_work)
            _event(fleet, fleet.members[place], ways[place], kinds[done % len(kinds)], figures)
            done += 1
    outcome = fleet.finish()
    figures.writes += outcome.writes
    figures.leases += outcome.leases
    figures.compared += outcome.compared
    figures.double += outcome.double
    figures.differences += outcome.differences


def _event(fleet: Fleet, member: Member, way: Way, event: str, figures: Figures) -> None:
    """Hit a replica, see what the others do, and let it come back."""
    before = fleet.beats(member)
    if event == STOP and not way.links:
        figures.put_off += stop_between_writes(member.pid)
    else:
        _hit(member, way, event)
    figures.seconds[event].append(fleet.arrive())
    _mend(member, way, event)
    fleet.until_back(member, before)


def _hit(member: Member, way: Way, event: str) -> None:
    if event == KILL:
        member.kill()
    elif event == STOP:
        member.pause()
    for link in way.links if event == CUT else ():
        link.cut()


def _mend(member: Member, way: Way, event: str) -> None:
    if event == KILL:
        member.start()
    elif event == STOP:
        member.go_on()
    for link in way.links if event == CUT else ():
        link.mend()


def run(engine: str, ended: threading.Event, *, events: int, fleets: int, seed: int) -> Figures:
    """So many events, over several fleets side by side."""
    figures = Figures(ended)

    def one(make: Make, number: int) -> None:
        share = events // fleets + (number < events % fleets)
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cdrsync-events-")))
            url, ways = make(stack)
            fleet = stack.enter_context(Fleet(url, [way.url for way in ways], folder, seed=seed + number))
            try:
                campaign(fleet, ways, share, random.Random(seed + number), figures)
            except AssertionError as error:
                figures.broken.append(f"fleet {number}: {error}")

    with ENGINES[engine]() as make, ThreadPoolExecutor(fleets) as side_by_side:
        for done in [side_by_side.submit(one, make, number) for number in range(fleets)]:
            done.result()
    return figures


def main() -> int:
    """The command line; exit 1 where anything was not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.events", description=__doc__.split("\n")[0])
    parser.add_argument("--engine", choices=ENGINES, action="append")
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--fleets", type=int, default=5, help="side by side")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())  # compare what there is, and leave no server behind
    failed = False
    for engine in given.engine or ENGINES:
        begun = time.monotonic()
        figures = run(engine, ended, events=given.events, fleets=given.fleets, seed=given.seed)
        for line in figures.lines(engine):
            print(line)
        print(
            f"{engine:<11} {time.monotonic() - begun:.0f} s, lease_seconds {LEASE_SECONDS}, seed {given.seed}",
            flush=True,
        )
        failed |= figures.failed
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
