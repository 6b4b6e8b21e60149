"""The power-cut rig: the real program is killed over and over, and nothing may ever be lost, doubled or claimed early.

    python -m tests.fault.campaign --kills 1000 --database postgresql --seed 7

Each trial is an operator in a process of its own (arrivals, late and changed records, odd pages, every kind of fault)
and an empty database. Program after program (`sync`, `backfill`, the daemon) is started on it and killed, at a named
point of the write path (`points`) or at a random moment; now and then the database server is killed under it. After
every kill the database is held against the operator's own records (`truth`). At the end of a trial one undisturbed
`sync` must make the table equal to them, value by value, and a second one must find nothing to do.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdrsync.errors import EXIT_FOUND, EXIT_LEASE_HELD, EXIT_OK, EXIT_UNREACHABLE
from cdrsync.store.databases.engine import open_engine
from tests.fault import points
from tests.fault.stand_in import StandIn
from tests.fault.start import Start
from tests.fault.truth import Truth, violations
from tests.support.databases import DatabaseServer, running
from tests.support.operator import Fault
from tests.support.processes import environment
from tests.support.rig import assert_equal

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

KINDS = ("sqlite", "postgresql", "mariadb")
KILLS_A_TRIAL = 100
DAYS = 3
LEASE_SECONDS = 15.0  # how long a dead holder may block others, as promised
PATIENCE = 60.0  # seconds for a run that nobody kills
FINISHED = (EXIT_OK, EXIT_FOUND)  # the latter where records are new in quarantine
LOOK_BACK = 7200.0  # seconds, the program's default
FAULT_RATE = 0.01
LEFT_OUT = (Fault.HUGE,)
"""Proven elsewhere (`test_api_faults`): unpacking 64 MB would be most of a campaign's work."""


@dataclass
class Figures:
    """What a campaign did and found."""

    at_points: int = 0
    at_moments: int = 0
    trials: int = 0
    compared: int = 0
    server_kills: int = 0
    finished: int = 0
    gave_up: int = 0
    longest_block: float = 0.0
    seconds: float = 0.0
    points: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """Processes killed."""
        return self.at_points + self.at_moments

    def line(self, kind: str, seed: int) -> str:
        """The one line that a campaign prints."""
        lost, doubled, ahead = (sum(word in line for line in self.wrong) for word in ("lost", "doubled", "ahead"))
        return (
            f"{kind}: {self.kills} kills ({self.at_points} at {len(self.points)} named points, {self.at_moments} at"
            f" random moments), {self.server_kills} of the server, in {self.seconds:.0f} s"
            f" ({self.kills / self.seconds:.1f}/s): {lost} lost, {doubled} doubled, {ahead} checkpoints ahead of data,"
            f" {len(self.wrong) - lost - doubled - ahead} other; {self.compared} records of {self.trials} trials equal;"
            f" {self.faults.total()} faults of {len(self.faults)} kinds; lease blocked {self.longest_block:.1f} s at"
            f" most; seed {seed}"
        )


class Trial:
    """One operator, one database, and what was done to them."""

    def __init__(self, server: DatabaseServer, rng: random.Random, folder: Path) -> None:
        self.server = server
        self.rng = rng
        self.folder = folder
        self.late: set[int] = set()
        self.changed: set[int] = set()
        self.operator = StandIn(
            calls=rng.randint(200, 500),
            days=DAYS,
            seed=rng.randrange(2**32),
            rate=10.0,
            date_order=rng.choice(("ascending", "descending")),
            last_id_order=rng.choice(("ascending", "ascending", "shuffled", "descending", "newest-first")),
            end_date_included=rng.random() < 0.5,
            limit_clamp=rng.choice((None, None, 7)),
            hostile_share=0.03,
            unknown_elements_share=0.03,
            untypeable_share=0.02,
            retry_after=0,
            drip_pause=0.0005,
        )
        quick = [fault for fault in Fault if fault not in LEFT_OUT]
        self.operator.tell("faults", rates=dict.fromkeys(quick, FAULT_RATE))
        self.history_top = max(call.uid for call in self.operator.records())
        self.url = server.create()
        self.engine: Engine = open_engine(self.url)
        self.first_day = (datetime.now(UTC) - timedelta(days=DAYS + 1)).date()
        self.env = environment(
            self.operator.url,
            self.url,
            start_date=self.first_day.isoformat(),
            page_size=str(rng.choice((5, 20, 100))),
            backfill_workers=str(rng.randint(1, 3)),
            poll_interval="1s",
            lookback_interval="1s",
            log_level="warning",
        )

    def meddle(self) -> None:
        """Late and changed records, now and then."""
        if self.rng.random() < 0.3:
            made = self.operator.tell("calls", count=self.rng.randint(1, 3), delay=self.rng.choice((0.2, 0.5, 1.0)))
            self.late.update(call["uid"] for call in made)
        if self.rng.random() < 0.3:
            since = time.time() - LOOK_BACK / 2  # what is older is the daily sweep's
            newest = [call for call in self.operator.records()[-20:] if call.raw is None and call.started > since]
            for call in self.rng.sample(newest, min(3, len(newest))):
                self.changed.add(call.uid)
                fields = {"user_cost": f"0.{self.rng.randrange(1000):03}", "has_recorded_call": self.rng.random() < 0.5}
                self.operator.tell("change", uid=call.uid, fields=fields)

    def truth(self) -> Truth:
        """The operator's records now."""
        return Truth(self.operator.records(), self.history_top, self.late, self.changed)

    def command(self) -> tuple[str, ...]:
        """What to start next."""
        chance = self.rng.random()
        if chance < 0.15:
            return ("backfill", "--since", self.first_day.isoformat())
        return ("run",) if chance < 0.3 else ("sync", "--json")

    def start(self, args: tuple[str, ...], **kill: Any) -> Start:
        """A run of the program."""
        return Start(args, self.env, str(self.folder / "log"), self.server.kind, **kill)

    def close(self) -> None:
        """Forget both."""
        self.engine.dispose()
        self.operator.close()
        self.server.drop(self.url)


class Campaign:
    """Kills until there were enough."""

    def __init__(self, server: DatabaseServer, folder: Path, *, kills: int, seed: int) -> None:
        self.figures = Figures()
        self._server = server
        self._folder = folder
        self._kills = kills
        self._seed = seed
        self._points = points.names(server.kind)
        self._typical = 0.5  # seconds that an undisturbed run takes

    def run(self) -> Figures:
        """The whole campaign."""
        begun = time.monotonic()
        while self.figures.kills < self._kills:
            rng = random.Random(f"{self._seed}/{self.figures.trials}")
            with contextlib.closing(Trial(self._server, rng, self._folder)) as trial:
                self._torment(trial)
            self.figures.trials += 1
        self.figures.seconds = time.monotonic() - begun
        return self.figures

    def _torment(self, trial: Trial) -> None:
        enough = min(self._kills, self.figures.kills + KILLS_A_TRIAL)
        wrong: list[str] = []
        rounds = 0
        while self.figures.kills < enough and not wrong:
            rounds += 1
            trial.meddle()
            what = self._round(trial, kill_server=rounds % 25 == 0 and self._server.kind != "sqlite")
            wrong = [f"{line} (after {what})" for line in violations(trial.engine, trial.truth())]
        self.figures.faults.update({name: n for name, n in trial.operator.counters()["faults"].items() if n})
        wrong = wrong or self._finish(trial)
        for line in wrong[:20]:
            print(f"trial {self.figures.trials} of seed {self._seed}: {line}", file=sys.stderr, flush=True)
        self.figures.wrong += wrong

    def _round(self, trial: Trial, *, kill_server: bool) -> str:
        """One program, from its start to its end; returns what befell it."""
        rng, args = trial.rng, trial.command()
        point, nth = rng.choice(self._points), 1 + int(rng.expovariate(0.7))
        at_point = rng.random() < 0.65
        start = trial.start(args, point=point, nth=nth) if at_point else trial.start(args)
        begun = time.monotonic()
        program = start.begin()
        span = (0.3 if kill_server else 1.2) * self._typical
        code = program.poll(rng.uniform(0, span)) if kill_server or not at_point else None
        if kill_server and code is None:
            self._server.stop(signal.SIGKILL)
            self._server.start()
            trial.engine.dispose()
            self.figures.server_kills += 1
        if at_point and code is None:
            code = program.poll(2.0 if args[0] == "run" else PATIENCE)
        if code is None:
            program.kill()
            code = program.wait(PATIENCE)
            at_point = False
        if code == -signal.SIGKILL and at_point:
            self.figures.at_points += 1
            self.figures.points[point] += 1
        elif code == -signal.SIGKILL:
            self.figures.at_moments += 1
        elif code == EXIT_LEASE_HELD:
            self._wait_for_lease(trial)
        elif code == EXIT_UNREACHABLE:
            self.figures.gave_up += 1
        elif code in FINISHED:
            self.figures.finished += 1
            self._typical += 0.1 * (time.monotonic() - begun - self._typical)
        else:
            raise AssertionError(f"{args} ended with {code}: {start.said()}")
        return f"{args[0]}, {f'{point} {nth}' if at_point else 'a random moment'}, exit {code}"

    def _wait_for_lease(self, trial: Trial) -> None:
        """Measure how long the server takes a holder that was just killed for a living one."""
        begun = time.monotonic()
        start = trial.start(("sync",), point="lease")
        while start.run(PATIENCE) == EXIT_LEASE_HELD:
            blocked = time.monotonic() - begun
            if blocked > LEASE_SECONDS:
                self.figures.wrong.append(f"a dead holder of the lease blocks for {blocked:.0f} s")
                return
        self.figures.longest_block = max(self.figures.longest_block, time.monotonic() - begun)

    def _finish(self, trial: Trial) -> list[str]:
        """No more arrivals, faults or kills: equal after one run, and nothing left to do for the next."""
        operator = trial.operator
        operator.tell("settings", rate=0)
        operator.tell("faults", rates={})
        deadline = time.monotonic() + PATIENCE
        while (counters := operator.counters())["visible"] < counters["issued"] and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1.1)  # until the next look-back is due
        wrong = self._completes(trial)
        try:
            self.figures.compared += assert_equal(trial.engine, operator.records())
        except AssertionError as error:
            wrong.append(f"lost or different at the end: {str(error)[:500]}")
        return wrong or self._completes(trial, idle=True)

    def _completes(self, trial: Trial, *, idle: bool = False) -> list[str]:
        start = trial.start(("sync", "--json"))
        start = Start(start.args, start.env, str(self._folder / "last"), start.kind)
        Path(start.log).unlink(missing_ok=True)
        code = start.run(PATIENCE)
        if code not in FINISHED:
            return [f"the last sync ended with {code}: {start.said()}"]
        answer = next(line for line in Path(start.log).read_text(encoding="utf-8").splitlines() if line[:1] == "{")
        (account,) = json.loads(answer)["accounts"]
        if idle and (account["inserted"] or account["updated"]):
            return [f"a second sync found something to do: {answer}"]
        return []


def campaign(kind: str, *, kills: int, seed: int) -> Figures:
    """A campaign against a private server of one kind."""
    with running(kind) as server, tempfile.TemporaryDirectory() as folder:
        return Campaign(server, Path(folder), kills=kills, seed=seed).run()


def main() -> int:
    """The command line; exit 1 where anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.campaign", description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--database", choices=KINDS, action="append", help="one kind only (may be repeated)")
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    wrong = False
    for kind in given.database or KINDS:
        figures = campaign(kind, kills=given.kills, seed=seed)
        print(figures.line(kind, seed), flush=True)
        wrong = wrong or bool(figures.wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
