"""Everything that can be wrong with the operator's answers, over the sync and over the daemon.

Each fault of the sandbox is made to happen and proven to have happened (its counter); whatever it is, the answer is
refused whole or read for what it is, and in the end the table equals the operator's records, value by value.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from cdrsync.errors import Retry, Skip
from cdrsync.model import Period
from cdrsync.store.databases.engine import open_engine
from tests.fault.fresh import fresh
from tests.fault.trouble import SQLITE, persist
from tests.support.canary import LOGIN
from tests.support.operator import Fault, Settings, World, running
from tests.support.processes import daemon, environment, until
from tests.support.rig import assert_equal, rig

if TYPE_CHECKING:
    from tests.conftest import Database
    from tests.support.rig import Rig

ODD = Settings(end_date_included=False, date_order="descending", last_id_order="shuffled", limit_clamp=40)


def heal(r: Rig) -> None:
    """What the daemon does every night."""
    while True:
        try:
            r.audit.run(list(Period), heal=True)
        except (Retry, Skip):
            continue
        return


@SQLITE
@pytest.mark.parametrize("operator", [Settings(), ODD], ids=["documented", "odd"])
@pytest.mark.parametrize("fault", list(Fault))
def test_each_fault_alone(migrated: Database, fault: Fault, operator: Settings) -> None:
    """One answer in four, over history, polls, look-backs and a sweep."""
    with rig(migrated.url, operator, calls=60, seed=3, page_size=20, sweep_days=3) as r:
        r.world.faults.rates({fault: 0.25})
        for _ in range(3):
            persist(r)
            r.world.add()
            r.clock.advance(12 * 3600)
        fired = r.world.faults.fired[fault]
        r.world.faults.rates({})
        persist(r)
        assert fired > 0
        assert r.assert_equal() == 63


def test_all_faults_together(migrated: Database) -> None:
    """Every second answer goes wrong in one way or the other, while calls arrive, come late and change."""
    operator = Settings(
        rate=0.005,
        latency=0.1,
        late_share=0.05,
        change_share=0.05,
        hostile_share=0.02,
        unknown_elements_share=0.02,
        untypeable_share=0.02,
        last_id_order="shuffled",
        end_date_included=False,
    )
    with rig(migrated.url, operator, calls=400, seed=5, page_size=20) as r:
        history = sum(call.raw is None for call in r.world.records())
        rates = dict.fromkeys(Fault, 0.5 / len(Fault)) | {Fault.HUGE: 0.005}
        r.world.faults.rates(rates)
        for _ in range(30):
            persist(r)
            r.clock.advance(900)
            if all(r.world.faults.fired.values()):
                break
        r.world.configure(rate=0, late_share=0, change_share=0)
        r.world.faults.rates({})
        assert {fault.value for fault, fired in r.world.faults.fired.items() if not fired} == set()
        r.clock.advance(86400)
        persist(r)
        heal(r)
        r.clock.advance(86400)
        persist(r)
        assert r.assert_equal() > history


@SQLITE
@pytest.mark.parametrize("operator", [Settings(), ODD], ids=["documented", "odd"])
def test_the_session_ends_between_any_two_requests(migrated: Database, operator: Settings) -> None:
    """Before every document of a first read in turn: one silent login more, and nothing else is different."""
    with rig(migrated.url, operator, calls=30, days=2, workers=1, page_size=5) as r:
        r.run()
        documents = r.world.counters()["documents"]
    assert documents > 8
    for nth in range(1, documents + 1):
        _expire(migrated, operator, nth, documents)


def _expire(migrated: Database, operator: Settings, nth: int, documents: int) -> None:
    with fresh(migrated.server) as url, rig(url, operator, calls=30, days=2, workers=1, page_size=5) as r:
        r.world.faults.script(*[None] * nth, Fault.SESSION_EXPIRED)
        r.run()
        fired = r.world.faults.fired[Fault.SESSION_EXPIRED]
        assert r.world.counters()["logins"] == 1 + fired
        assert fired == (nth < documents)
        assert r.assert_equal() == 30


@SQLITE
@pytest.mark.parametrize("life", [0.7, 2.2])
def test_sessions_shorter_than_promised(migrated: Database, life: float) -> None:
    """An operator that ends sessions within a few answers, in mid-sequence, again and again."""
    with rig(
        migrated.url, Settings(session_life=life, latency=0.5, end_date_included=False), calls=400, page_size=4
    ) as r:
        r.run()
        assert r.world.counters()["session_refusals"] > 1
        assert r.assert_equal() == 400


@SQLITE
def test_a_session_older_than_half_an_hour_is_not_tried(migrated: Database) -> None:
    """The reference page's 30 minutes are kept without asking."""
    with rig(migrated.url, calls=50) as r:
        for _ in range(5):
            r.run()
            r.clock.advance(1799)
        assert r.world.counters()["session_refusals"] == 0
        assert r.world.counters()["logins"] == 5


# ── over the daemon ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.waits
@SQLITE
def test_every_fault_over_the_daemon(migrated: Database) -> None:
    """One after the other over real sockets, while calls arrive: the daemon goes on by itself every time."""
    world = World(_fast(rate=5.0), logins=[LOGIN], seed=11)
    world.add_history(calls=300, days=2)
    world.faults.script(*(step for fault in Fault for step in (fault, None, None)))
    with running(world) as url:
        start = (datetime.fromtimestamp(world.clock(), UTC) - timedelta(days=3)).date().isoformat()
        env = environment(
            url, migrated.url, poll_interval="1s", lookback_interval="1s", start_date=start, page_size="50"
        )
        with daemon(env) as program:
            program.event("lease taken")
            until(lambda: world.faults.pending == 0, lambda: (world.counters(), program.lines), deadline=120)
            world.configure(rate=0)
            engine = open_engine(migrated.url)
            until(lambda: _equal(engine, world), "equality", deadline=60)
            engine.dispose()
            assert program.stop() == 0
    fired: dict[str, Any] = world.counters()["faults"]
    assert {fault.value for fault in Fault} <= {name for name, times in fired.items() if times}


def _fast(**settings: Any) -> Settings:
    return Settings(retry_after=0, drip_pause=0.0005, huge_bytes=70_000_000, **settings)


def _equal(engine: Any, world: World) -> bool:
    try:
        assert_equal(engine, world.records())
    except AssertionError:
        return False
    return True
