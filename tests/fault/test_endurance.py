"""A one-shot sync goes on through an operator's faults, and gives up where nothing comes of it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from cdrsync.store.databases.engine import open_engine
from cdrsync.store.schema.tables import cdr
from tests.fault.trouble import SQLITE
from tests.support.canary import LOGIN
from tests.support.operator import Fault, Settings, World, running
from tests.support.processes import DEADLINE, cdrsync, daemon, environment, until
from tests.support.rig import assert_equal

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.engine import Engine

    from tests.conftest import Database

MIXTURE = (
    *(Fault.HTTP_500, Fault.HTTP_503, Fault.HTTP_429, Fault.TRUNCATED, Fault.HTML, Fault.EMPTY_BODY),
    *(Fault.ERROR_CODE, Fault.RESET, Fault.REPEATED_PAGE, Fault.GARBLED),
)
SHARE = 0.37
CALLS, DAYS = 3000, 30


@pytest.mark.waits
def test_a_sync_through_many_faults_ends_with_0_in_its_first_run(migrated: Database) -> None:
    """37 % of the answers go wrong in ten ways, over dozens of pages: all of them are held when it ends."""
    world = World(Settings(), logins=[LOGIN], seed=5)
    world.add_history(calls=CALLS, days=DAYS)
    world.faults.script(None)
    world.faults.rates(dict.fromkeys(MIXTURE, SHARE / len(MIXTURE)))
    since = (datetime.now(UTC) - timedelta(days=DAYS)).date()
    with running(world) as url:
        env = environment(url, migrated.url, start_date=str(since), page_size="300")
        run = cdrsync("sync", env=env, deadline=4 * DEADLINE)
        assert (run.returncode, "Traceback" in run.stderr) == (0, False), run.stderr
    assert sum(world.faults.fired.values()) > 0
    engine = open_engine(migrated.url)
    assert assert_equal(engine, world.records()) == CALLS
    engine.dispose()


@pytest.mark.waits
def test_a_sync_gives_up_after_so_long_without_progress(tmp_path: Path) -> None:
    """Once reached and then dead: 69 after --give-up-after, and a line that says what is waited for."""
    world = World(Settings(), logins=[LOGIN], seed=5)
    world.add_history(calls=100, days=3)
    world.faults.script(None)
    world.faults.rates({Fault.HTTP_500: 1.0})
    with running(world) as url:
        began = time.monotonic()
        run = cdrsync("sync", "--give-up-after", "12s", env=environment(url, f"sqlite:///{tmp_path}/calls.db"))
    assert run.returncode == 69
    assert time.monotonic() - began < DEADLINE
    assert "it goes on by itself" in run.stderr


@pytest.mark.waits
@SQLITE
def test_history_is_read_where_polls_take_longer_than_their_interval(migrated: Database) -> None:
    """An operator that is slow to answer, calls that arrive all the time: polls alone would never come to an end."""
    world = World(Settings(latency=0.6, rate=5.0), logins=[LOGIN], seed=5)
    world.add_history(calls=2000, days=3)
    history = {call.uid for call in world.records()}
    with running(world) as url, daemon(environment(url, migrated.url, poll_interval="1s", page_size="500")) as program:
        engine = open_engine(migrated.url)
        until(lambda: history <= _held(engine), lambda: program.lines, 3 * DEADLINE)
        engine.dispose()
        assert program.stop() == 0


def _held(engine: Engine) -> set[int]:
    with engine.connect() as connection:
        return set(connection.execute(select(cdr.c.uid)).scalars())
