"""What every measurement stands on: the records, the API server that has them, and durable databases.

Durable: `fsync` and `innodb_flush_log_at_trx_commit=1` are on, SQLite runs WAL with `synchronous=FULL`, for
every program. Beyond that the servers have their stock settings, but for room in the log and memory for pages.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from tests.benchmarks.check import compare
from tests.benchmarks.data import Held, Recipe
from tests.benchmarks.measure import run
from tests.benchmarks.programs import Program, Target, Task
from tests.benchmarks.server import ApiServer
from tests.support.databases import DatabaseServer, MariadbServer, PostgresqlServer, SqliteFiles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmarks.data import Call
    from tests.benchmarks.measure import Cost

NEW_CALLS = 5
POSTGRESQL_SETTINGS = ("fsync=on", "max_wal_size=4GB", "shared_buffers=256MB")
MARIADB_SETTINGS = (
    "--innodb-flush-log-at-trx-commit=1",
    "--innodb-buffer-pool-size=256M",
    "--innodb-log-file-size=512M",
)


@dataclass(frozen=True, slots=True)
class Timed:
    """One run of one program whose rows were right."""

    cost: Cost
    database_cpu: float  # seconds of the database server during the run; 0 for SQLite, which has none
    documents: int  # HTTP requests
    records: int  # that the API handed out


@dataclass
class Bed:
    """`visible` records are there from the start; NEW_CALLS more can be made visible."""

    recipe: Recipe
    api: ApiServer
    calls: list[Call]
    servers: dict[str, DatabaseServer]
    visible: int
    end_included: bool = False

    @contextlib.contextmanager
    def target(self, kind: str, program: Program) -> Iterator[Target]:
        """A new, empty database, forgotten afterwards; the first `visible` records are to be had."""
        server = self.servers[kind]
        self.api.control(visible=self.visible, latency=0.0, end_included=self.end_included)
        url = server.create()
        with tempfile.TemporaryDirectory(prefix="cdrsync-bench-") as directory:
            target = Target(
                self.api.url, url, self.recipe.first_day, self.recipe.last_day + timedelta(days=1), directory
            )
            try:
                if program.prepare:
                    program.prepare(target)
                self.settle(kind)
                yield target
            finally:
                server.drop(url)

    def settle(self, kind: str) -> None:
        """Write out what earlier runs left behind, so that no other program pays for it."""
        server = self.servers[kind]
        if isinstance(server, PostgresqlServer):
            server.execute("CHECKPOINT")

    def timed(self, program: Program, target: Target, task: Task, *, visible: int) -> Timed:
        """Run the program once and compare what it stored. Raises ProgramFailed, WrongRows."""
        self.api.control(visible=visible)
        server = self.servers[target.kind]
        before = _cpu(server)
        cost = run(program.command(target, task), program.variables(target))
        database_cpu = _cpu(server) - before
        counts = self.api.control()
        compare(program, target.database_url, self.calls[:visible])
        return Timed(cost, database_cpu, counts["documents"], counts["records"])


@contextlib.contextmanager
def made(recipe: Recipe, kinds: tuple[str, ...], *, end_included: bool = False) -> Iterator[Bed]:
    """Everything started, and gone afterwards. `recipe.calls` are visible from the start."""
    whole = Recipe(recipe.calls + NEW_CALLS, recipe.days, recipe.end, recipe.seed, recipe.ampersands)
    with contextlib.ExitStack() as stack:
        api = stack.enter_context(ApiServer(whole))
        servers: dict[str, DatabaseServer] = {}
        for kind in kinds:
            servers[kind] = _server(kind)
            stack.callback(servers[kind].close)
        yield Bed(whole, api, Held.of(whole).calls, servers, recipe.calls, end_included)


def _server(kind: str) -> DatabaseServer:
    if kind == "postgresql":
        return PostgresqlServer(settings=POSTGRESQL_SETTINGS)
    if kind == "mariadb":
        return MariadbServer(settings=MARIADB_SETTINGS)
    return SqliteFiles()


def _cpu(server: DatabaseServer) -> float:
    """Seconds of CPU that a database server and its sessions have used so far."""
    if not isinstance(server, PostgresqlServer | MariadbServer):
        return 0.0
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # ended meanwhile; its parent counts it
            continue
        if int(path.parent.name) == server.pid:
            ticks += sum(map(int, fields[11:15]))
        elif int(fields[1]) == server.pid:
            ticks += sum(map(int, fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")
