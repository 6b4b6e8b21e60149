"""A tenth of a fleet's accounts is replaced by others with SIGHUP: how long that takes, and what the others notice."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from sqlalchemy import select

from cdrsync.daemon.tasks import place
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.schema.tables import account, lease
from tests.benchmarks.fleet_operator import configure, name_of
from tests.support.processes import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.benchmarks.fleet import Replica
    from tests.benchmarks.fleet_operator import Operator

LONGEST = 120.0  # seconds
INTERVAL = 60.0  # seconds between two polls of an account


def measure(folder: Path, accounts: int, one: Replica, operator: Operator, database: str) -> dict[str, float]:
    """Replace them, and answer what that took.

    `check_seconds` of `cdrsync config check`; `seconds` from the signal until each new account was polled and each old
    one's lease is free, `cpu_seconds` of the daemon in that time; of the other accounts how many leases were taken
    again (`touched`), and how late polls were (`late_p99`, seconds).
    """
    moved = max(1, accounts // 10)
    before, told = tokens(database), operator.told()
    for number in range(moved):
        configure(folder, accounts + number)
        (folder / "accounts.d" / f"{name_of(number)}.toml").unlink()
    begun = time.monotonic()
    check = [sys.executable, "-m", "cdrsync", "config", "check", "--config", str(folder / "cdrsync.toml")]
    subprocess.run(check, cwd=REPOSITORY, check=True, capture_output=True)
    checked = time.monotonic()
    cpu = one.cpu()
    one.process.send_signal(signal.SIGHUP)
    wanted = {name_of(number) for number in range(moved, accounts + moved)}
    while tokens(database).keys() != wanted or operator.told()["polled"] < told["polled"] + moved:
        if time.monotonic() > checked + LONGEST:
            raise TimeoutError(f"{len(wanted ^ tokens(database).keys())} accounts still to move")
        time.sleep(0.2)
    after, done = tokens(database), time.monotonic()
    others = [name_of(number) for number in range(moved, accounts)]
    late = sorted(
        (moment - place(name_of(number)) * INTERVAL) % INTERVAL
        for moment, number, is_poll in operator.told("all")["asked"]
        if is_poll and moment > checked and moved <= number < accounts
    )
    return {
        "check_seconds": round(checked - begun, 2),
        "seconds": round(done - checked, 1),
        "cpu_seconds": round(one.cpu() - cpu, 2),
        "touched": sum(before[name] != after[name] for name in others),
        "late_p99": round(late[int(len(late) * 0.99)], 3) if late else 0.0,
    }


def tokens(database: str) -> dict[str, str]:
    """The token of each account's lease that is held."""
    engine = open_engine(database)
    query = select(account.c.name, lease.c.token).join(lease, lease.c.account_id == account.c.id)
    with engine.connect() as connection:
        found = {row.name: row.token for row in connection.execute(query.where(lease.c.token.is_not(None)))}
    engine.dispose()
    return found
