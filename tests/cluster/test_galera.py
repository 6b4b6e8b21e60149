"""MariaDB Galera, replicas on different nodes: nothing of one node's is seen by another but what is committed."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.engine import make_url

from cdrsync.errors import LeaseHeld, LeaseLost, Retry
from cdrsync.model import Checkpoint, Origin, Page
from cdrsync.store.admin import migrate
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.replica import Replica
from tests.support.clusters import galera
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.databases import MariadbServer


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[MariadbServer]]:
    with galera(2) as running:
        yield running


def urls(nodes: list[MariadbServer]) -> list[str]:
    """A new database, by each node."""
    name = make_url(nodes[0].create()).database
    assert name is not None
    return [node.url(name) for node in nodes]


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


def test_two_upgraders_of_an_empty_schema_both_end_well(nodes: list[MariadbServer]) -> None:
    """One on each node, at once, again and again."""
    for _ in range(3):
        failures: list[BaseException] = []
        threads = [threading.Thread(target=upgrade, args=(url, failures)) for url in urls(nodes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []


def test_one_lease_for_all_nodes(nodes: list[MariadbServer]) -> None:
    """Who takes it on one node is seen on the other; who lost it there commits nothing here."""
    one, two = urls(nodes)
    upgrade(one, [])
    first, second = OwnStore(one, "main", lease_seconds=2.0), OwnStore(two, "main", lease_seconds=2.0)
    first.open()
    first.save(page(1))
    with pytest.raises(LeaseHeld):
        second.open()
    first.replica._leaving.set()  # it beats no more, as if it were paused
    deadline = time.monotonic() + 20
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


def test_of_takers_on_both_nodes_one_gets_each_lease(nodes: list[MariadbServer]) -> None:
    """At the same moment, a hundred at a time: certification lets one through, and the other is told who has them."""
    one, two = urls(nodes)
    upgrade(one, [])
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
