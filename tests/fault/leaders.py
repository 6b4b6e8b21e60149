"""Two daemons on one database, the leader paused again and again: no second writer may ever commit.

    python -m tests.fault.leaders --minutes 10 --database postgresql

The database itself is the witness: a trigger writes down every page's writes in their order, each with its session and
with who has the lease. A session is one daemon's, so one that writes while the other has the lease is a double writer;
so is a token under which something is written again after another one.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cdrsync.errors import EXIT_LEASE_HELD, EXIT_OK
from cdrsync.store.databases.engine import open_engine
from tests.fault.fresh import fresh
from tests.fault.stand_in import StandIn
from tests.fault.zygote import Start, Zygote, log_of
from tests.support.databases import DatabaseServer, running
from tests.support.processes import environment
from tests.support.rig import assert_equal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Engine

KINDS = ("postgresql", "mariadb")
"""A process that stops while it writes keeps SQLite's file locked: nobody takes over until it is gone or goes on."""

PATIENCE = 60.0
_OF_LEASE = "SELECT {}, LEFT(replica_id, 8), token FROM lease WHERE account_id = NEW.account_id"
_COLUMNS = "session BIGINT NOT NULL, holder VARCHAR(8), token VARCHAR(32)"
WITNESS = {
    "postgresql": (
        f"CREATE TABLE witness (n bigserial PRIMARY KEY, {_COLUMNS})",
        f"""CREATE FUNCTION witness() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN INSERT INTO witness (session, holder, token) {_OF_LEASE.format("pg_backend_pid()")};
        RETURN NULL; END $$""",
        *(
            f"CREATE TRIGGER witness_{table} AFTER INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION witness()"
            for table in ("cdr", "checkpoint")
        ),
    ),
    "mariadb": (
        f"CREATE TABLE witness (n BIGINT AUTO_INCREMENT PRIMARY KEY, {_COLUMNS})",
        *(
            f"CREATE TRIGGER witness_{table}_{verb} AFTER {verb} ON {table} FOR EACH ROW"
            f" INSERT INTO witness (session, holder, token) {_OF_LEASE.format('CONNECTION_ID()')}"
            for table in ("cdr", "checkpoint")
            for verb in ("INSERT", "UPDATE")
        ),
    ),
}


@dataclass
class Figures:
    """What a contest showed."""

    pauses: int = 0
    takeovers: list[float] = field(default_factory=list)  # seconds from the pause to "lease taken" by the other
    refused: int = 0
    writes: int = 0
    leases: int = 0
    double: int = 0
    compared: int = 0
    seconds: float = 0.0

    def line(self, kind: str, seed: int) -> str:
        """The one line that a contest prints."""
        longest, mean = max(self.takeovers), sum(self.takeovers) / len(self.takeovers)
        return (
            f"{kind}: {self.pauses} pauses of the leader in {self.seconds:.0f} s: {self.double} double writers in"
            f" {self.writes} writes by {self.leases} leases; takeover after {mean:.1f} s ({longest:.1f} s at most);"
            f" {self.refused} syncs refused with 75; {self.compared} records equal; seed {seed}"
        )


class _Daemon:
    """One of the two."""

    def __init__(self, zygote: Zygote, start: Start) -> None:
        self.start = start
        self.pid = zygote.start(start)
        self._seen = 0

    def took_the_lease(self) -> bool:
        """Whether it has said so since it was last asked."""
        lines = Path(self.start.log).read_text(encoding="utf-8").splitlines() if Path(self.start.log).exists() else []
        before = self._seen
        self._seen = [json.loads(line)["event"] for line in lines if line.startswith("{")].count("lease taken")
        return self._seen > before


def contest(
    server: DatabaseServer, zygote: Zygote, folder: Path, *, pauses: int, seconds: float, lease_seconds: int, seed: int
) -> Figures:
    """Pause the leader `pauses` times or for `seconds`, whichever is longer."""
    figures, rng, begun = Figures(), random.Random(seed), time.monotonic()
    with fresh(server) as url, _engine(url) as engine, StandIn(calls=300, days=2, seed=seed, rate=20.0) as operator:
        with engine.begin() as connection:
            for statement in WITNESS[server.kind]:
                connection.exec_driver_sql(statement)
        env = environment(
            operator.url,
            url,
            start_date=(datetime.now(UTC) - timedelta(days=3)).date().isoformat(),
            page_size="5",
            poll_interval="1s",
            lookback_interval="2s",
            lease_seconds=str(lease_seconds),
        )

        def program(name: str, *args: str) -> Start:
            return Start(args, env, str(folder / name), server.kind)

        leader, other = (_Daemon(zygote, program(name, "run")) for name in ("first", "second"))
        while not (leader.took_the_lease() or other.took_the_lease()):
            time.sleep(0.05)
        if other._seen:
            leader, other = other, leader
        while figures.pauses < pauses or time.monotonic() - begun < seconds:
            time.sleep(rng.uniform(0.0, 1.5))
            os.kill(leader.pid, signal.SIGSTOP)
            paused = time.monotonic()
            figures.pauses += 1
            while not other.took_the_lease():
                assert time.monotonic() - paused < PATIENCE, f"no takeover: {log_of(other.start)}"
                time.sleep(0.02)
            figures.takeovers.append(time.monotonic() - paused)
            sync = program("sync", "sync")
            code = zygote.wait(zygote.start(sync), PATIENCE)
            assert code == EXIT_LEASE_HELD, log_of(sync)
            assert f"process {other.pid} on " in log_of(sync)
            figures.refused += 1
            time.sleep(rng.uniform(0.0, 1.0))
            os.kill(leader.pid, signal.SIGCONT)  # it believes that it still leads
            leader, other = other, leader
        operator.tell("settings", rate=0)
        for daemon in (leader, other):
            os.kill(daemon.pid, signal.SIGTERM)
        for daemon in (leader, other):
            assert zygote.wait(daemon.pid, PATIENCE) == EXIT_OK, log_of(daemon.start)
        time.sleep(2.1)  # until a look-back is due
        last = program("last", "sync")
        assert zygote.wait(zygote.start(last), PATIENCE) == EXIT_OK, log_of(last)
        figures.compared = assert_equal(engine, operator.records())
        _hear(engine, figures)
    figures.seconds = time.monotonic() - begun
    return figures


def _hear(engine: Engine, figures: Figures) -> None:
    """What the witness says."""
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT session, holder, token FROM witness ORDER BY n").all()
    turns = [token for token, _ in itertools.groupby(row.token for row in rows)]
    holders: dict[int, set[str]] = {}
    for row in rows:
        holders.setdefault(row.session, set()).add(row.holder)
    figures.writes, figures.leases = len(rows), len(set(turns))
    figures.double = len(turns) - len(set(turns)) + sum(len(found) > 1 for found in holders.values())


@contextlib.contextmanager
def _engine(url: str) -> Iterator[Engine]:
    engine = open_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


def main() -> int:
    """The command line; exit 1 where there was a double writer."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.leaders", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--database", choices=KINDS, action="append")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    double = 0
    for kind in given.database or KINDS:
        with running(kind) as server, Zygote() as zygote, tempfile.TemporaryDirectory() as folder:
            figures = contest(
                server, zygote, Path(folder), pauses=1, seconds=given.minutes * 60, lease_seconds=15, seed=given.seed
            )
        print(figures.line(kind, given.seed), flush=True)
        double += figures.double
    return 1 if double else 0


if __name__ == "__main__":
    sys.exit(main())
