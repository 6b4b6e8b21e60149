"""PostgreSQL under Patroni, two replicas of cdrsync: whatever befalls the leader, nothing is lost or doubled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.fault.fresh import upgraded
from tests.support.fleet import Fleet
from tests.support.guide import told
from tests.support.operator import Settings
from tests.support.patroni import Patroni, haproxy, patroni
from tests.support.ports import free_port
from tests.support.processes import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.patroni import Node

QUICKLY = {"ttl": 10, "loop_wait": 2, "retry_timeout": 3}
FAR = 64 << 20  # bytes: more than is written while replication is cut, so that a replica may take over
ACCOUNTS = 3
HISTORY, DAYS = 700, 35  # calls of an account: more than are read before the last event
SLOW, SLOWER = 1.5, 5.0  # seconds of an answer of the operator; while a leader comes back, however long that takes
PATIENCE = 120.0  # seconds until every account is polled again, on a busy machine
MODES = {"asynchronous": False, "synchronous": True}


@dataclass(frozen=True)
class Bed:
    """A cluster, and the two ways to it."""

    cluster: Patroni
    proxy: int
    template: str  # a database with today's tables

    def several(self, name: str) -> str:
        """The URL of a database with every server's name."""
        return self.cluster.url(name, [node.clients.port for node in self.cluster.nodes])

    def beside(self, name: str) -> str:
        """The same, past the links: whoever goes this way still reaches a leader that is cut off from all others."""
        return self.cluster.url(name, [node.port for node in self.cluster.nodes])

    def by_proxy(self, name: str) -> str:
        """The URL of a database through HAProxy."""
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.proxy}/{name}"


@pytest.fixture(params=[pytest.param(mode, marks=pytest.mark.xdist_group(mode)) for mode in MODES])  # long: early
def bed(request: pytest.FixtureRequest) -> Iterator[Bed]:
    """The guide's cluster and the guide's HAProxy, on loopback, with a shorter patience."""
    settings = yaml.safe_load(told("yaml")) | QUICKLY
    settings |= {"synchronous_mode": MODES[request.param], "maximum_lag_on_failover": FAR}
    with patroni(3, settings) as cluster:
        proxy = free_port()
        configuration = told("haproxy").replace("*:5000", f"127.0.0.1:{proxy}")
        for node in cluster.nodes:
            server = f"127.0.0.1:{node.clients.port} check port {node.rest.port}"
            configuration = configuration.replace(f"{node.name}:5432 check port 8008", server)
        with haproxy(configuration):
            template = cluster.create()
            upgraded(cluster.url(template, [node.port for node in cluster.nodes]))
            yield Bed(cluster, proxy, template)


def kill(cluster: Patroni, leader: Node) -> None:
    """Without a word, as a power cut."""
    del cluster
    leader.kill()


def pause(cluster: Patroni, leader: Node) -> None:
    """It goes on later, and believes that it leads."""
    del cluster
    leader.pause()


def isolate(cluster: Patroni, leader: Node) -> None:
    """It serves whoever still reaches it, until it knows."""
    del cluster
    leader.isolate()


def switch_over(cluster: Patroni, leader: Node) -> None:
    """As before maintenance."""
    wanted = "sync_standby" if cluster.synchronous else "replica"

    def candidate() -> str | None:
        members = leader.says("cluster").get("members", [])
        return next((one["name"] for one in members if one["role"] == wanted), None)

    leader.switch_over(until(candidate, "a candidate", PATIENCE))


def mend(leader: Node, event: Any) -> None:
    if event is kill:
        leader.start()
    if event is pause:
        leader.go_on()
    leader.mend()


EVENTS = (kill, switch_over, pause, isolate)


@pytest.mark.waits(minutes=True)
def test_whatever_befalls_the_leader_nothing_is_lost_or_doubled(bed: Bed, tmp_path: Path) -> None:
    """One event after the other, amid history and polls; by every server's name and by HAProxy."""
    cluster = bed.cluster
    name = cluster.create(bed.template)
    ways = [bed.several(name), bed.beside(name), bed.by_proxy(name)]
    slow: dict[str, Any] = {"operator": Settings(latency=SLOW), "page_size": "5"}
    with Fleet(
        bed.beside(name), ways, tmp_path, accounts=ACCOUNTS, rate=2.0, history=HISTORY, days=DAYS, **slow
    ) as fleet:
        until(fleet.settled, "every account has a replica", PATIENCE)
        reads_on(fleet)
        for event in EVENTS:
            befall(bed, event, name, fleet)
            reads_on(fleet)
        outcome = fleet.finish(by_sync=True)
    assert (outcome.double, outcome.differences) == ([], [])
    assert outcome.compared > ACCOUNTS * HISTORY


def befall(bed: Bed, event: Any, name: str, fleet: Fleet) -> None:
    """The leader goes: every account is polled again before it is back, and then all is well."""
    cluster = bed.cluster
    leader = cluster.leader()
    if event is kill and not cluster.synchronous:
        _fall_behind(cluster, leader, name)
    event(cluster, leader)
    fleet.look_at(cluster.url(name, [cluster.successor(leader).port]))
    assert fleet.held() < ACCOUNTS * HISTORY
    fleet.arrive(PATIENCE)
    fleet.world.configure(latency=SLOWER)
    mend(leader, event)
    cluster.until_healthy()
    fleet.world.configure(latency=SLOW)
    fleet.look_at(bed.beside(name))  # a leader that wakes up may take the lead back: what its successor had is undone


def reads_on(fleet: Fleet) -> None:
    """Wait for more of the history than the polls bring."""
    held = until(fleet.held, "a database that can be read", PATIENCE)
    until(lambda: fleet.held() > held + 50, "more of the history", PATIENCE)


def _fall_behind(cluster: Patroni, leader: Node, name: str) -> None:
    """Cut replication until a commit is on the leader alone: that one will be lost."""
    leader.peers.cut()
    until(
        lambda: leader.count(name, "cdr") > max(node.count(name, "cdr") for node in cluster.others()),
        "something that only the leader has",
        PATIENCE,
    )
