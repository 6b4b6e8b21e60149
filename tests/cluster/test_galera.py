"""MariaDB Galera, replicas on different nodes: nothing of one node's is seen by another but what is committed."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from cdrsync.errors import LeaseHeld, LeaseLost, Retry
from cdrsync.model import Checkpoint, Origin, Page
from cdrsync.store.admin import migrate
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.replica import Replica
from tests.fault.fresh import upgraded
from tests.support.clusters import galera, until_synced
from tests.support.databases import database_name
from tests.support.fleet import Fleet
from tests.support.processes import DEADLINE, until
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.clusters import GaleraNode


pytestmark = [pytest.mark.waits, pytest.mark.xdist_group("galera")]


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[GaleraNode]]:
    with galera(3) as running:
        yield running


def urls(nodes: list[GaleraNode]) -> list[str]:
    """A new database, by each of two nodes. The third one keeps the majority."""
    name = database_name(nodes[2].create())
    for node in nodes[:2]:
        until(partial(node.execute, f"SHOW DATABASES LIKE '{name}'"), "the database is there", DEADLINE)
    return [node.url(name) for node in nodes[:2]]


def upgrade(url: str, failures: list[BaseException]) -> None:
    engine = open_engine(url)
    try:
        migrate.ensure(engine, auto=True)
    except BaseException as error:  # noqa: BLE001 - handed to the test's thread
        failures.append(error)
    finally:
        engine.dispose()


def page(uid: int) -> Page:
    return Page(Origin.TAIL, [], checkpoint=Checkpoint("tail", uid))


def test_two_upgraders_of_an_empty_schema_both_end_well(nodes: list[GaleraNode]) -> None:
    """One on each node, at once, again and again."""
    for _ in range(5):
        failures: list[BaseException] = []
        threads = [threading.Thread(target=upgrade, args=(url, failures)) for url in urls(nodes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []


def test_one_lease_for_all_nodes(nodes: list[GaleraNode]) -> None:
    """Who takes it on one node is seen on the other; who lost it there commits nothing here."""
    one, two = urls(nodes)
    upgraded(one)
    first, second = OwnStore(one, "main", lease_seconds=6.0), OwnStore(two, "main", lease_seconds=6.0)
    first.open()
    first.save(page(1))
    with pytest.raises(LeaseHeld):
        second.open()
    first.replica._leaving.set()  # it beats no more, as if it were paused
    deadline = time.monotonic() + DEADLINE
    while True:
        with contextlib.suppress(LeaseHeld):
            second.open()
            break
        assert time.monotonic() < deadline
        time.sleep(0.2)
    second.save(page(2))
    with pytest.raises(LeaseLost):
        first.save(page(3))
    assert second.checkpoint("tail") == Checkpoint("tail", 2)
    second.close()
    first.close()


def test_of_takers_on_both_nodes_one_gets_each_lease(nodes: list[GaleraNode]) -> None:
    """At the same moment, a hundred at a time: certification lets one through, and the other is told who has them."""
    one, two = urls(nodes)
    upgraded(one)
    names = [f"account-{n}" for n in range(100)]
    replicas = [Replica(one), Replica(two)]
    replicas[0].take(names)
    replicas[0].release(names)
    for _ in range(5):
        threads = [threading.Thread(target=replica.take, args=(names,)) for replica in replicas]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        held = [replica.held() for replica in replicas]
        assert held[0] | held[1] == set(names)
        stores = [[name for name in names if _can_write(replica, name)] for replica in replicas]
        assert len(stores[0]) + len(stores[1]) == len(names)
        for replica in replicas:
            replica.release(list(names))
    for replica in replicas:
        replica.leave()


def _can_write(replica: Replica, name: str) -> bool:
    from cdrsync.store.session import WriterSession

    try:
        with WriterSession(replica, name).transaction():
            return True
    except Retry:
        return False


def pause_a_daemon(fleet: Fleet, nodes: list[GaleraNode]) -> None:
    """Each in turn, on either node; it is replaced, and commits nothing when it wakes up."""
    del nodes
    for member in fleet.members:
        before = fleet.beats(member)
        member.pause()
        fleet.arrive()
        member.go_on()
        fleet.until_back(member, before)


def kill_a_node(fleet: Fleet, nodes: list[GaleraNode]) -> None:
    """Its daemon goes on when the node is back; the other one works for both."""
    nodes[0].stop(signal.SIGKILL)
    fleet.arrive()
    nodes[0].start()


def cut_off_a_node(fleet: Fleet, nodes: list[GaleraNode]) -> None:
    """Without the majority, it refuses whoever still reaches it."""
    nodes[1].isolate(isolated=True)
    fleet.arrive()
    nodes[1].isolate(isolated=False)


def freeze_a_node(fleet: Fleet, nodes: list[GaleraNode]) -> None:
    """The others wait for it until they give it up."""
    nodes[0].pause()
    fleet.arrive()
    nodes[0].go_on()


def test_whatever_befalls_a_daemon_or_a_node_nothing_is_lost_or_doubled(
    nodes: list[GaleraNode], tmp_path: Path
) -> None:
    """Two daemons on different nodes, seen on the third: one event after the other, and every account is polled on."""
    ways = urls(nodes)
    seen = nodes[2].url(database_name(ways[0]))
    with Fleet(seen, ways, tmp_path, accounts=4, rate=5.0, poll_interval="2s", lease_seconds="5") as fleet:
        for befall in (pause_a_daemon, kill_a_node, cut_off_a_node, freeze_a_node):
            until(fleet.settled, "every account has a replica")
            befall(fleet, nodes)
            until_synced(nodes)
            fleet.arrive()
        outcome = fleet.finish()
    assert (outcome.double, outcome.differences) == ([], [])
    assert outcome.compared > 0
