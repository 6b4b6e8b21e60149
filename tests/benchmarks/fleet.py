"""Many accounts on one or a few replicas: `python -m tests.benchmarks.fleet --accounts 1000`.

Everything on this machine: the operator in a process of its own, the database with its stock settings (PostgreSQL:
max_connections = 100). Each account has a few calls of today and is polled once a minute. Printed of each fleet: how
long until every account was polled once and until all its first work was done, then, at rest, connections, threads,
memory and CPU, how late polls are, and how long /metrics and the page take.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from sqlalchemy import func, select
from sqlalchemy.engine import make_url

from cdrsync.daemon.tasks import place
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.schema.tables import audit_result
from tests.benchmarks import fleet_reload
from tests.benchmarks.fleet_operator import Operator, configure, name_of
from tests.support.databases import MariadbServer, PostgresqlServer, SqliteFiles
from tests.support.ports import free_port
from tests.support.processes import REPOSITORY, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.databases import DatabaseServer

INTERVAL = 60.0  # seconds between two polls of an account
TICKS = os.sysconf("SC_CLK_TCK")
LONGEST_START = 600.0  # seconds
SERVERS: dict[str, Callable[[], DatabaseServer]] = {
    "postgresql": lambda: PostgresqlServer(settings=("max_connections=100",)),
    "mariadb": lambda: MariadbServer(settings=()),
    "sqlite": SqliteFiles,
}


# ── the replicas ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Replica:
    """One running daemon, and the most that was seen of it."""

    process: subprocess.Popen[bytes]
    url: str
    threads: int = 0
    live_seconds: float = 0.0  # the slowest answer of /livez

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        return _cpu(self.process.pid)

    def status(self, name: str) -> int:
        """A figure of /proc/PID/status."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:")))

    def look(self) -> None:
        """Look at what may be more for a moment."""
        self.threads = max(self.threads, self.status("Threads"))
        with contextlib.suppress(httpx.ConnectError):  # it has not begun to listen
            self.live_seconds = max(self.live_seconds, _timed(f"{self.url}/livez")[0])


@contextlib.contextmanager
def replica(folder: Path, api_url: str, database_url: str, accounts: int, **settings: str) -> Iterator[Replica]:
    """A daemon with so many accounts, one file each."""
    configuration = folder / "cdrsync.toml"
    configuration.touch()
    (folder / "accounts.d").mkdir(exist_ok=True)
    for number in range(accounts):
        configure(folder, number)
    port = free_port()
    env = environment(
        api_url, database_url, start_date="today", http_listen=f"127.0.0.1:{port}", log_level="warning", **settings
    )
    for name in ("USERNAME", "PASSWORD", "VKEY"):
        del env[f"CDRSYNC_{name}"]
    with (folder / f"log{port}").open("wb") as log:
        command = [sys.executable, "-m", "cdrsync", "run", "--config", str(configuration)]
        process = subprocess.Popen(command, env=env, cwd=REPOSITORY, stderr=log)
        try:
            yield Replica(process, f"http://127.0.0.1:{port}")
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            sys.stderr.write((folder / f"log{port}").read_text()[-2000:])


# ── what is measured ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Figures:
    """Of one fleet; of several replicas the worst one's."""

    database: str
    accounts: int
    replicas: int
    first_polls: float = 0.0  # seconds from the start until every account was polled
    settled: float = 0.0  # … until each had done all that a first start does, audit included
    connections: int | None = None  # of all replicas
    threads: int = 0  # the most that were seen at once
    resident_mb: float = 0.0
    cpu_percent: float = 0.0  # of one core, at rest
    late_p99: float = 0.0  # seconds from the moment at which a poll was due to its request
    metrics_seconds: float = 0.0
    page_seconds: float = 0.0
    page_kb: int = 0
    live_seconds: float = 0.0  # the slowest /livez since the start
    requests_per_poll: float = 0.0  # look-backs among them
    transactions_per_poll: float | None = None
    refused_percent: float = 0.0  # of the requests after the first minute
    longest_wait: float = 0.0  # seconds between two polls of an account, after the first minute
    operator_cpu_percent: float = 0.0
    server_cpu_percent: float = 0.0
    idle_percent: float = 0.0  # of the machine, at rest
    start_cpu: float = 0.0  # CPU seconds of a replica until it had settled
    shares: list[int] = field(default_factory=list)  # accounts of each replica
    reload: dict[str, float] = field(default_factory=dict)  # as fleet_reload says


def _audited(database: str) -> int:
    """How many accounts have done all that a first start does."""
    engine = open_engine(database)
    with engine.connect() as connection:
        found = connection.execute(select(func.count(audit_result.c.account_id.distinct()))).scalar_one()
    engine.dispose()
    return found


def measure(kind: str, accounts: int, *, replicas: int, rest: float, limit: float | None, reload: bool) -> Figures:
    """Start a fleet, watch it at rest for that many seconds."""
    with contextlib.ExitStack() as stack:
        server = SERVERS[kind]()
        stack.callback(server.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        operator = stack.enter_context(Operator(limit))
        database = server.create()
        begun = time.monotonic()
        running = [stack.enter_context(replica(folder, operator.url, database, accounts)) for _ in range(replicas)]
        figures = Figures(kind, accounts, replicas)
        figures.first_polls = _until(lambda: operator.told()["polled"] == accounts, running, begun, pause=0.5)
        figures.settled = _until(lambda: _audited(database) >= accounts, running, begun, pause=2.0)
        figures.start_cpu = round(max(one.cpu() for one in running), 1)
        _at_rest(figures, running, operator, server, rest)
        figures.connections = _connections(server, database)
        figures.resident_mb = round(max(one.status("VmRSS") for one in running) / 1024, 1)
        figures.metrics_seconds = max(_timed(f"{one.url}/metrics")[0] for one in running)
        figures.page_seconds, size = max(_timed(f"{one.url}/") for one in running)
        figures.page_kb = size // 1024
        figures.threads = max(one.threads for one in running)
        figures.live_seconds = max(one.live_seconds for one in running)
        told = operator.told("all")
        refused = [moment for moment in told["refused"] if moment > begun + 60]
        asked = [one for one in told["asked"] if one[0] > begun + 60]
        figures.refused_percent = round(100 * len(refused) / max(1, len(refused) + len(asked)), 2)
        figures.longest_wait = operator.longest_wait(begun + 60)
        figures.shares = [_share(one) for one in running]
        if reload:
            figures.reload = fleet_reload.measure(folder, accounts, running[0], operator, database)
        return figures


def _until(condition: Callable[[], bool], running: list[Replica], begun: float, *, pause: float) -> float:
    """Seconds since `begun` when the condition holds."""
    while not condition():
        if time.monotonic() - begun > LONGEST_START:
            return float("inf")
        for one in running:
            one.look()
        time.sleep(pause)
    return round(time.monotonic() - begun, 1)


def _at_rest(
    figures: Figures, running: list[Replica], operator: Operator, server: DatabaseServer, seconds: float
) -> None:
    before, at = operator.told("all"), time.monotonic()
    cpu, of_server, machine = [one.cpu() for one in running], _server_cpu(server), _machine()
    transactions = _transactions(server)
    while time.monotonic() < at + seconds:
        for one in running:
            one.look()
        time.sleep(min(2.0, seconds))
    passed = time.monotonic() - at
    used = [one.cpu() - start for one, start in zip(running, cpu, strict=True)]
    figures.cpu_percent = round(100 * max(used) / passed, 1)
    figures.server_cpu_percent = round(100 * (_server_cpu(server) - of_server) / passed, 1)
    busy, total = (after - start for after, start in zip(_machine(), machine, strict=True))
    figures.idle_percent = round(100 * (1 - busy / total), 1)
    told = operator.told("all")
    figures.operator_cpu_percent = round(100 * (told["cpu"] - before["cpu"]) / passed, 1)
    polls = [(moment, number) for moment, number, is_poll in told["asked"] if is_poll and moment > at]
    late = sorted((moment - place(name_of(number)) * INTERVAL) % INTERVAL for moment, number in polls)
    figures.late_p99 = round(late[int(len(late) * 0.99)], 3) if late else float("inf")
    figures.requests_per_poll = round((told["requests"] - before["requests"]) / max(1, len(polls)), 2)
    after = _transactions(server)
    if transactions is not None and after is not None:
        figures.transactions_per_poll = round((after - transactions) / max(1, len(polls)), 2)


def _connections(server: DatabaseServer, database: str) -> int | None:
    name = make_url(database).database
    if isinstance(server, PostgresqlServer):
        return int(server.execute(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'")[0][0])
    if isinstance(server, MariadbServer):
        count = f"SELECT count(*) FROM information_schema.processlist WHERE db = '{name}'"
        return int(server.execute(count)[0][0])
    return None


def _transactions(server: DatabaseServer) -> int | None:
    """Of the whole server, where it counts them."""
    if not isinstance(server, PostgresqlServer):
        return None
    time.sleep(1.2)  # sessions hand in their figures once a second
    return int(server.execute("SELECT sum(xact_commit + xact_rollback) FROM pg_stat_database")[0][0])


def _share(one: Replica) -> int:
    lines = httpx.get(f"{one.url}/metrics", timeout=60, trust_env=False).text.splitlines()
    return Counter(line.rpartition(" ")[2] for line in lines if line.startswith("cdrsync_lease_held{"))["1.0"]


def _cpu(pid: int, *, with_ended: bool = False) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11 : 15 if with_ended else 13])) / TICKS


def _server_cpu(server: DatabaseServer) -> float:
    """Seconds of CPU of a server and its children so far."""
    if isinstance(server, SqliteFiles):
        return 0.0
    pid = server.pid  # type: ignore[attr-defined]
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    total = _cpu(pid, with_ended=True)
    for child in children:
        with contextlib.suppress(FileNotFoundError):
            total += _cpu(int(child))
    return total


def _machine() -> tuple[float, float]:
    """Busy time and all time of the machine."""
    times = list(map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]))
    return float(sum(times) - times[3] - times[4]), float(sum(times))


def _timed(url: str) -> tuple[float, int]:
    """Seconds and bytes of an answer."""
    begun = time.monotonic()
    answer = httpx.get(url, timeout=60, trust_env=False).raise_for_status()
    return round(time.monotonic() - begun, 3), len(answer.content)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fleet", description=__doc__.split("\n")[0])
    parser.add_argument("--accounts", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--database", choices=SERVERS, default="postgresql")
    parser.add_argument("--seconds", type=float, default=120.0, help="of rest that are watched")
    parser.add_argument("--limit", type=float, default=None, help="requests a second that the operator allows")
    parser.add_argument("--reload", action="store_true", help="replace a tenth of the accounts at the end")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # everything that was started ends
    for accounts in given.accounts:
        limits = {"rest": given.seconds, "limit": given.limit, "reload": given.reload}
        figures = measure(given.database, accounts, replicas=given.replicas, **limits)
        print(json.dumps(asdict(figures)), flush=True)


if __name__ == "__main__":
    main()
