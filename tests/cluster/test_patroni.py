"""PostgreSQL under Patroni, two replicas of cdrsync: whatever befalls the leader, nothing is lost or doubled."""

from __future__ import annotations

import contextlib
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
HISTORY = 1000  # calls of an account
LATENCY, SLOW = 0.2, 2.0  # seconds of an answer of the operator
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


@pytest.fixture(params=list(MODES))
def bed(request: pytest.FixtureRequest) -> Iterator[Bed]:
    """The guide's cluster and the guide's HAProxy, on loopback, with a shorter patience: new for each test."""
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


@pytest.mark.waits
@pytest.mark.parametrize("event", [kill, switch_over, pause, isolate])
def test_a_leader_that_goes_loses_and_doubles_nothing(bed: Bed, event: Any, tmp_path: Path) -> None:
    """Live and in mid catch-up, by every server's name and by HAProxy."""
    cluster = bed.cluster
    cluster.until_healthy()
    live, behind = cluster.create(bed.template), cluster.create(bed.template)
    ways = [[bed.several(live), bed.beside(live)], [bed.by_proxy(behind), bed.by_proxy(behind)]]
    if cluster.synchronous:
        ways = [[bed.by_proxy(live), bed.by_proxy(live)], [bed.several(behind), bed.beside(behind)]]
    with contextlib.ExitStack() as stack:
        fleets = []
        for name, way, options in (
            (live, ways[0], {"rate": 10.0, "accounts": 4}),
            (
                behind,
                ways[1],
                {"history": HISTORY, "accounts": 3, "operator": Settings(latency=LATENCY), "page_size": "20"},
            ),
        ):
            folder = tmp_path / name
            folder.mkdir()
            fleets.append(stack.enter_context(Fleet(bed.beside(name), way, folder, **options)))
        until(lambda: all(fleet.settled() for fleet in fleets), "every account has a replica", PATIENCE)
        until(lambda: fleets[1].held() > 100, "the catch-up is under way", PATIENCE)
        fleets[1].world.configure(latency=SLOW)  # it stays so until there is a successor
        leader = cluster.leader()
        if event is kill and not cluster.synchronous:
            _fall_behind(cluster, leader, live)
        event(cluster, leader)
        successor = cluster.successor(leader)
        for fleet, name in zip(fleets, (live, behind), strict=True):
            fleet.look_at(cluster.url(name, [successor.port]))
        assert fleets[1].held() < 3 * HISTORY
        fleets[1].world.configure(latency=LATENCY)
        for fleet in fleets:
            fleet.arrive(PATIENCE)
        mend(leader, event)
        fleets[1].world.configure(latency=0)
        cluster.until_healthy()
        for fleet, name in zip(fleets, (live, behind), strict=True):
            # A leader that wakes up may take the lead back, and what its successor had is undone.
            fleet.look_at(bed.beside(name))
            outcome = fleet.finish()
            assert (outcome.double, outcome.differences) == ([], [])
            assert outcome.compared > 0


def _fall_behind(cluster: Patroni, leader: Node, name: str) -> None:
    """Cut replication until a commit is on the leader alone: that one will be lost."""
    leader.peers.cut()
    until(
        lambda: leader.count(name, "cdr") > max(node.count(name, "cdr") for node in cluster.others()),
        "something that only the leader has",
        PATIENCE,
    )
