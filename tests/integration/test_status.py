"""What the status page reads of each kind of database, and the page of a real daemon."""

from __future__ import annotations

import os
import statistics
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import func, select

from cdrsync.audit.figures import Figures
from cdrsync.model import Verdict
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.reads.status import one_account
from cdrsync.store.schema.tables import cdr
from tests.support import plain_http
from tests.support.canary import DOORBELL_TOKEN, LOGIN
from tests.support.deployed import CALLS, filled
from tests.support.operator import Settings, World, running
from tests.support.processes import Daemon, daemon, environment, until

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

    from sqlalchemy.engine import Engine

    from tests.conftest import Database

ROUNDS = int(os.environ.get("CDRSYNC_DOORBELL_ROUNDS", "3"))  # more for a measurement
LONDON = ZoneInfo("Europe/London")


def test_state_of_a_synced_account(database: Database) -> None:
    """Ledger, hours and totals are those of the rows, on every kind of database."""
    filled(database.url)
    engine = open_engine(database.url)
    with engine.connect() as connection:
        per_day = select(cdr.c.call_date, func.count()).group_by(cdr.c.call_date)
        days: dict[date, int] = {row[0]: row[1] for row in connection.execute(per_day)}
    now = datetime.now(UTC)
    shown = one_account(engine, "default", now=now, timezone=LONDON)
    engine.dispose()
    assert {line.day: line.calls for line in shown.ledger if line.calls} == days
    today = shown.today
    assert today
    assert sum(today.hours) == today.held.calls == days.get(today.day, 0)
    assert sum(today.hours_yesterday) == days[today.day - timedelta(days=1)]
    assert {line.verdict for line in shown.ledger} <= {Verdict.COMPLETE, Verdict.UNAUDITED}
    assert today.operator is not None
    assert today.operator.calls == today.held.calls
    assert (shown.rejects_open, shown.rejects) == (0, ())


def test_state_of_an_account_that_was_never_synced(migrated: Database) -> None:
    engine = open_engine(migrated.url)
    shown = one_account(engine, "default", now=datetime.now(UTC), timezone=LONDON)
    engine.dispose()
    today = shown.today
    assert today
    assert (today.held, today.operator, shown.ledger) == (Figures(), None, ())
    assert today.hours == today.hours_yesterday == (0,) * 24


def newest(engine: Engine) -> int | None:
    """The highest uid committed."""
    with engine.connect() as connection:
        uid: int | None = connection.scalar(select(func.max(cdr.c.uid)))
        return uid


def page_of(running_daemon: Daemon) -> str:
    """The address that the daemon's log names."""
    return str(running_daemon.event("started")["page"]).rstrip("/")


def test_page_of_a_real_daemon(tmp_path: Path) -> None:
    """Health, metrics and page of `cdrsync run`, from the first second to the first success."""
    world = World(logins=[LOGIN])
    world.add_history(calls=CALLS, days=2)
    with running(world) as api:
        env = environment(api, f"sqlite:///{tmp_path}/calls.db", http_listen="127.0.0.1:0", log_format="json")
        with daemon(env) as process:
            url = page_of(process)
            assert plain_http.get(f"{url}/livez").text == "alive\n"
            until(lambda: plain_http.get(f"{url}/readyz").text == "ready\n", "ready")
            page = until(lambda: "Ledger of days" in (text := plain_http.get(url).text) and text, "the ledger")
            assert f">{max(call.uid for call in world.records())}<" in page
            assert 'cdrsync_lease_held{account="default"} 1.0' in plain_http.get(f"{url}/metrics").text
            assert process.stop() == 0


@pytest.mark.waits
def test_doorbell_brings_a_call_in_at_once(tmp_path: Path) -> None:
    """From the ring to the committed row, a hundred times, while the next ordinary poll is an hour away."""
    world = World(Settings(), logins=[LOGIN])
    world.add_history(calls=20, days=1)
    file = tmp_path / "calls.db"
    engine = open_engine(f"sqlite:///{file}")
    with running(world) as api:
        env = environment(
            api, f"sqlite:///{file}", http_listen="127.0.0.1:0", poll_interval="1h", lookback_interval="0",
            doorbell_token=DOORBELL_TOKEN, log_format="json",
        )  # fmt: skip
        with daemon(env) as process, plain_http.client(headers={"Authorization": f"Bearer {DOORBELL_TOKEN}"}) as client:
            url = page_of(process)
            until(lambda: client.get(f"{url}/readyz").text == "ready\n", "ready")
            seconds = []
            for _ in range(ROUNDS):
                uid = world.add_late(delay=0).uid
                began = time.monotonic()
                assert client.post(f"{url}/doorbell", json={"ref": "!0"}).status_code == 202
                until(lambda: newest(engine) == uid, f"uid {uid}")  # noqa: B023 - called before the next round
                seconds.append(time.monotonic() - began)
            process.stop()
    engine.dispose()
    print(f"{ROUNDS} rings: median {statistics.median(seconds):.2f} s, worst {max(seconds):.2f} s")
