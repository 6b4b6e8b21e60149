"""Many accounts on one or a few replicas: `python -m tests.benchmarks.fleet --accounts 1000`.

Everything on this machine: the operator in a process of its own, PostgreSQL with its stock max_connections = 100. Each
account has a few calls of today and is polled once a minute. Printed: connections, threads, memory and CPU at rest, how
long until every account was polled once, how late polls are, and how long /metrics and the page take.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from sqlalchemy.engine import make_url

from tests.support.databases import PostgresqlServer
from tests.support.operator import Login, World, app
from tests.support.operator.wire import Server
from tests.support.processes import REPOSITORY, environment, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIEnvironment

INTERVAL = 60.0  # seconds between two polls of an account
TICKS = os.sysconf("SC_CLK_TCK")


# ── the operator ──────────────────────────────────────────────────────────────────────────────────────────


class Operator:
    """The sandbox with many logins: notes who asked when, and refuses more than `limit` requests a second."""

    def __init__(self, accounts: int, limit: float | None) -> None:
        self.world = World(logins=[login(number) for number in range(accounts)], seed=5)
        for number in range(accounts):
            for _ in range(3):
                self.world.add(username=login(number).username)
        self._app: Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]] = app(self.world)
        self._limit = limit
        self._lock = threading.Lock()
        self._recent: deque[float] = deque()
        self.asked: list[tuple[float, str]] = []  # moment and login of each poll
        self.refused: list[float] = []

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        if environ["PATH_INFO"] == "/_fleet":
            with self._lock:
                told = {"now": time.monotonic(), "asked": self.asked, "refused": self.refused}
            start_response("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(told).encode()]
        if environ["REQUEST_METHOD"] == "POST" and self._too_many():
            start_response("429 Too Many Requests", [("Retry-After", "5"), ("Content-Length", "0")])
            return [b""]
        if environ["REQUEST_METHOD"] == "POST":
            self._note(environ)
        return self._app(environ, start_response)

    def _too_many(self) -> bool:
        now = time.monotonic()
        with self._lock:
            while self._recent and self._recent[0] < now - 1:
                self._recent.popleft()
            if self._limit is None or len(self._recent) < self._limit:
                self._recent.append(now)
                return False
            self.refused.append(now)
            return True

    def _note(self, environ: WSGIEnvironment) -> None:
        from io import BytesIO

        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = BytesIO(body)
        text = body.decode("utf-8", "replace")
        named = re.search(r"fleet\d+@example\.com", text)
        session = re.search(r"SessionId=\"([^\"]+)\"|<SessionId>([^<]+)<", text)
        username = named[0] if named else ""
        if not named and session is not None:
            found = self.world.session_account(session[1] or session[2])
            username = found.login.username if found is not None else ""
        if username and ("LastId" in text or "StartDate" in text):
            with self._lock:
                self.asked.append((time.monotonic(), username))


def login(number: int) -> Login:
    """The login of an account."""
    return Login(f"fleet{number}@example.com", f"fleet-password-{number}", f"fleet-vkey-{number:08d}")


def serve(accounts: int, limit: float | None) -> None:
    """Be the operator until standard input ends."""
    with Server(Operator(accounts, limit), "127.0.0.1", 0) as server:
        print(f"http://127.0.0.1:{server.port}/api/", flush=True)
        sys.stdin.read()


@contextlib.contextmanager
def operator(accounts: int, limit: float | None) -> Iterator[str]:
    """The operator in a process of its own; gives the API's URL."""
    command = [sys.executable, "-m", "tests.benchmarks.fleet", "--serve", "--accounts", str(accounts)]
    command += [] if limit is None else ["--limit", str(limit)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


# ── the replicas ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Replica:
    """One running daemon."""

    process: subprocess.Popen[bytes]
    url: str

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def status(self, name: str) -> int:
        """A figure of /proc/PID/status."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith(f"{name}:")))


@contextlib.contextmanager
def replica(folder: Path, api_url: str, database_url: str, accounts: int, **settings: str) -> Iterator[Replica]:
    """A daemon with so many accounts, one file each."""
    configuration = folder / "cdrsync.toml"
    configuration.touch()
    (folder / "accounts.d").mkdir(exist_ok=True)
    for number in range(accounts):
        one = login(number)
        file = folder / "accounts.d" / f"a{number:04d}.toml"
        file.write_text(f'username = "{one.username}"\npassword = "{one.password}"\nvkey = "{one.vkey}"\n')
        file.chmod(0o600)
    port = _free_port()
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
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            sys.stderr.write((folder / f"log{port}").read_text()[-2000:])


def _free_port() -> int:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


# ── what is measured ──────────────────────────────────────────────────────────────────────────────────────────


@dataclass
class Figures:
    """Of one fleet."""

    accounts: int
    replicas: int
    first_polls: float  # seconds from the start until every account was polled
    connections: int = 0
    threads: int = 0
    resident_mb: float = 0.0
    cpu_percent: float = 0.0  # of one core, at rest, of the busiest replica
    late_p99: float = 0.0  # seconds by which a poll came later than its interval
    metrics_seconds: float = 0.0
    page_seconds: float = 0.0
    refused_percent: float = 0.0  # of the requests after the first minute


def measure(accounts: int, *, replicas: int, seconds: float, limit: float | None, **settings: str) -> Figures:
    """Start a fleet, watch it at rest."""
    with contextlib.ExitStack() as stack:
        server = PostgresqlServer(settings=("max_connections=100",))
        stack.callback(server.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        api_url = stack.enter_context(operator(accounts, limit))
        database = server.create()
        begun = time.monotonic()
        running = [
            stack.enter_context(replica(folder, api_url, database, accounts, **settings)) for _ in range(replicas)
        ]
        until(lambda: len(_polled(api_url)) == accounts, "every account's first poll", 600)
        figures = Figures(accounts, replicas, round(time.monotonic() - begun, 1))
        time.sleep(max(0.0, begun + INTERVAL + 20 - time.monotonic()))
        cpu, at = [one.cpu() for one in running], time.monotonic()
        time.sleep(seconds)
        used = [after.cpu() - before for after, before in zip(running, cpu, strict=True)]
        figures.cpu_percent = round(100 * max(used) / (time.monotonic() - at), 1)
        name = make_url(database).database
        counted = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'"
        figures.connections = int(server.execute(counted)[0][0])
        figures.threads = max(one.status("Threads") for one in running)
        figures.resident_mb = round(max(one.status("VmRSS") for one in running) / 1024, 1)
        figures.metrics_seconds = _timed(f"{running[0].url}/metrics")
        figures.page_seconds = _timed(f"{running[0].url}/")
        figures.late_p99 = _late(api_url, at)
        told = _told(api_url)
        late = [moment for moment in told["refused"] if moment > begun + 60]
        asked = [moment for moment, _ in told["asked"] if moment > begun + 60]
        figures.refused_percent = round(100 * len(late) / max(1, len(late) + len(asked)), 2)
        return figures


def _told(api_url: str) -> Any:
    return httpx.get(f"{api_url.removesuffix('/api/')}/_fleet", timeout=60, trust_env=False).json()


def _polled(api_url: str) -> set[str]:
    return {username for _, username in _told(api_url)["asked"]}


def _late(api_url: str, since: float) -> float:
    last: dict[str, float] = {}
    late = []
    for moment, username in _told(api_url)["asked"]:
        if username in last and moment > since:
            late.append(max(0.0, moment - last[username] - INTERVAL))
        last[username] = moment
    late.sort()
    return round(late[int(len(late) * 0.99)], 2) if late else float("nan")


def _timed(url: str) -> float:
    begun = time.monotonic()
    httpx.get(url, timeout=60, trust_env=False).raise_for_status()
    return round(time.monotonic() - begun, 3)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fleet", description=__doc__.split("\n")[0])
    parser.add_argument("--accounts", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=120.0, help="of rest that are watched")
    parser.add_argument("--limit", type=float, default=None, help="requests a second that the operator allows")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.accounts[0], given.limit)
        return
    for accounts in given.accounts:
        figures = measure(accounts, replicas=given.replicas, seconds=given.seconds, limit=given.limit)
        print(json.dumps(asdict(figures)), flush=True)


if __name__ == "__main__":
    main()
