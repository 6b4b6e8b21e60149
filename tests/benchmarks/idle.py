"""The daemon with nothing to do: what a poll costs in requests, transactions and CPU, and how much memory stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import make_url

from tests.benchmarks.measure import run
from tests.benchmarks.programs import CDRSYNC, cdrsync_environment
from tests.support.databases import PostgresqlServer

if TYPE_CHECKING:
    from tests.benchmarks.bed import Bed

INTERVAL = 1  # seconds between polls: the shortest that still rests in between
SETTLE = 6.0  # seconds after the start that don't count
WATCHED = 20.0  # seconds
TICKS = os.sysconf("SC_CLK_TCK")


def daemon_at_rest(bed: Bed, kind: str) -> dict[str, Any]:
    """Start the daemon on a table that is up to date, watch it for a while, stop it."""
    with bed.target(kind, CDRSYNC) as target:
        bed.api.control(visible=min(bed.visible, 10_000))
        environment = CDRSYNC.variables(target)
        run(CDRSYNC.command(target, "new"), environment)
        environment = (
            environment
            | cdrsync_environment(target)
            | {
                "CDRSYNC_POLL_INTERVAL": str(INTERVAL),
                "CDRSYNC_HTTP_LISTEN": "127.0.0.1:0",
                "CDRSYNC_LOG_LEVEL": "warning",
            }
        )
        daemon = subprocess.Popen(
            [sys.executable, "-m", "cdrsync", "run"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        try:
            time.sleep(SETTLE)
            bed.api.control()
            transactions, cpu = _transactions(bed, kind, target.database_url), _cpu(daemon.pid)
            time.sleep(WATCHED)
            if daemon.poll() is not None:
                assert daemon.stderr is not None
                raise RuntimeError(f"the daemon ended: {daemon.stderr.read().decode()[-2000:]}")
            requests = bed.api.control()["documents"]
            cpu = _cpu(daemon.pid) - cpu
            after = _transactions(bed, kind, target.database_url)
            resident = _resident_mb(daemon.pid)
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.communicate(timeout=30)
        polls = max(requests, 1)
        return {
            "database": kind,
            "requests": requests / (WATCHED / INTERVAL),
            "transactions": "" if transactions is None or after is None else round((after - transactions) / polls, 2),
            "cpu_ms": cpu * 1000 / polls,
            "resident_mb": resident,
        }


def _cpu(pid: int) -> float:
    """Seconds of CPU so far, own and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _transactions(bed: Bed, kind: str, url: str) -> int | None:
    """Transactions of the database so far, where it counts them: the lease's own pings among them."""
    server = bed.servers[kind]
    if not isinstance(server, PostgresqlServer):
        return None
    name = make_url(url).database
    time.sleep(1.2)  # sessions hand in their figures once a second
    found = server.execute(f"SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = '{name}'")
    return int(found[0][0])
