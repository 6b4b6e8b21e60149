"""A PostgreSQL cluster under Patroni, private to this run: etcd, nodes on loopback, HAProxy in front; all of it real.

Each node reaches etcd, is reached by its peers, by HAProxy's checks and by clients through links of its own, so that it
can be cut off as a machine is.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psycopg

from tests.support.databases import new_name
from tests.support.network import Link
from tests.support.ports import free_port
from tests.support.processes import until
from tests.support.server_process import ServerProcess
from tests.support.tools import missing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

PACKAGES = {"patroni": "patroni", "etcd": "etcd-server", "haproxy": "haproxy"}
POSTGRESQL = Path("/usr/lib/postgresql")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
LEADS = ("master", "primary")  # as this version calls it, and newer ones
READY_SECONDS = 120.0  # for a cluster on a busy machine
LOOK_SECONDS = 0.5  # seconds between two: Patroni works for each
MOST_LAG = 1 << 20  # bytes, of a replica that may become the leader


class Node(ServerProcess):
    """One server and the Patroni that minds it."""

    def __init__(self, name: str, etcd: int, settings: Mapping[str, Any]) -> None:
        super().__init__("cdrpn-")
        self.name = name
        self._rest_port = free_port()
        self.etcd, self.rest = Link(etcd), Link(self._rest_port)
        self.peers, self.clients = Link(self.port), Link(self.port)
        self._client = httpx.Client(base_url=f"http://127.0.0.1:{self._rest_port}", timeout=30, trust_env=False)
        (self.directory / "patroni.json").write_text(json.dumps(self._configuration(settings)), encoding="utf-8")
        self.own()
        self.start()

    @property
    def links(self) -> Sequence[Link]:
        """All that join it to the rest of the world."""
        return self.etcd, self.rest, self.peers, self.clients

    def start(self) -> None:
        """Start Patroni, which starts the server."""
        self.spawn("patroni", str(self.directory / "patroni.json"))

    def says(self, path: str) -> dict[str, Any]:
        """What Patroni says of itself or of its cluster; nothing where it does not answer."""
        with contextlib.suppress(httpx.HTTPError, ValueError):
            found: dict[str, Any] = self._client.get(path, timeout=3).json()
            return found
        return {}

    def log(self, characters: int = 3000) -> str:
        """The end of what it and its server have logged."""
        return (self.directory / "log").read_text(encoding="utf-8", errors="replace")[-characters:]

    def count(self, database: str, table: str) -> int:
        """How many rows this very server has."""
        return self._number(database, f"SELECT count(*) FROM {table}")

    def followers(self) -> int:
        """How many servers follow this one closely enough to become the leader."""
        near = f"pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) < {MOST_LAG}"
        try:
            return self._number("postgres", f"SELECT count(*) FROM pg_stat_replication WHERE {near}")
        except psycopg.OperationalError:  # it does not lead, or not yet
            return 0

    def switch_over(self, candidate: str) -> None:
        """Hand the lead over, in an orderly way. Raises AssertionError where Patroni refuses.

        On a busy machine it is begun when this returns: Patroni waits for its end for some seconds only.
        """
        answer = self._client.post("switchover", json={"leader": self.name, "candidate": candidate}, timeout=60)
        assert answer.is_success or "status unknown" in answer.text, answer.text

    def kill(self) -> None:
        """Patroni, the server and its sessions, as a power cut does."""
        for pid in self._processes():
            _signal(pid, signal.SIGKILL)
        super().stop(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze all of it."""
        for pid in self._processes():
            _signal(pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """End the frost."""
        for pid in reversed(self._processes()):
            _signal(pid, signal.SIGCONT)

    def isolate(self) -> None:
        """Cut it off from etcd, peers and clients."""
        for link in self.links:
            link.cut()

    def mend(self) -> None:
        """Join it again."""
        for link in self.links:
            link.mend()

    def close(self) -> None:
        """Kill it, and delete its files."""
        if self._child is not None:
            self.kill()
        self._client.close()
        for link in self.links:
            link.close()
        super().close()

    def _number(self, database: str, query: str) -> int:
        with psycopg.connect(host="127.0.0.1", port=self.port, user="postgres", dbname=database) as connection:
            found = connection.execute(query.encode()).fetchone()
            assert found is not None
            return int(found[0])

    def _processes(self) -> list[int]:
        """Patroni, what it has started, the server, its sessions: who may start others first."""
        found = [self.pid, *_children(self.pid)]
        with contextlib.suppress(OSError, ValueError, IndexError):
            postmaster = int((self.directory / "data" / "postmaster.pid").read_text(encoding="ascii").split("\n")[0])
            found += [postmaster, *_children(postmaster)]
        return list(dict.fromkeys(found))

    def _configuration(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """JSON is YAML."""
        server = {
            "listen": f"127.0.0.1:{self.port}",
            "connect_address": f"127.0.0.1:{self.peers.port}",
            "data_dir": f"{self.directory}/data",
            "bin_dir": str(binaries()),
            "pgpass": f"{self.directory}/pgpass",
            "use_unix_socket": True,
            "authentication": {"superuser": {"username": "postgres"}, "replication": {"username": "replicator"}},
            "parameters": {
                "unix_socket_directories": str(self.directory),
                "shared_buffers": "32MB",
                "fsync": "off",  # processes are killed here, not machines
                "log_checkpoints": "off",
                "wal_retrieve_retry_interval": "500ms",  # a replica that is new finds no slot of its own at first
            },
            "pg_hba": [
                "local all all trust",
                "host all all 127.0.0.1/32 trust",
                "host replication replicator 127.0.0.1/32 trust",
            ],
        }
        return {
            "scope": "cdrsync",
            "name": self.name,
            "restapi": {
                "listen": f"127.0.0.1:{self._rest_port}",
                "connect_address": f"127.0.0.1:{self.rest.port}",
            },
            # As proxies: else it learns etcd's own address, and goes past the link.
            "etcd3": {"hosts": [f"127.0.0.1:{self.etcd.port}"], "use_proxies": True},
            "bootstrap": {
                "dcs": dict(settings),
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, {"wal-segsize": "1"}, "data-checksums"],
            },
            "postgresql": server,
        }


class Patroni:
    """The cluster. `settings` are those that all nodes share, as `patronictl edit-config` shows them."""

    def __init__(self, nodes: int, settings: Mapping[str, Any], stack: contextlib.ExitStack) -> None:
        self.synchronous = bool(settings.get("synchronous_mode"))
        etcd = _etcd(stack)
        self.nodes: list[Node] = []
        for number in range(nodes):
            node = Node(f"db{number + 1}", etcd, settings)
            stack.callback(node.close)
            self.nodes.append(node)
        self.until_healthy()

    def leader(self) -> Node:
        """Who leads now."""
        found: Node = until(self._leader, "a leader", READY_SECONDS, LOOK_SECONDS)
        return found

    def successor(self, leader: Node) -> Node:
        """Who leads in the place of one that may not know it yet."""

        def found() -> Node | None:
            others = (node for node in self.nodes if node is not leader)
            return next((node for node in others if node.says("patroni").get("role") in LEADS), None)

        node: Node = until(found, lambda: f"another leader: {self._said()}", READY_SECONDS, LOOK_SECONDS)
        return node

    def others(self) -> list[Node]:
        """Who does not."""
        leader = self.leader()
        return [node for node in self.nodes if node is not leader]

    def until_healthy(self) -> None:
        """Wait until there is a leader, and all others follow it closely enough to become one."""
        until(self._healthy, self._said, READY_SECONDS, LOOK_SECONDS)

    def url(self, name: str, ports: Sequence[int]) -> str:
        """The URL of a database by every node."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        return f"postgresql+psycopg://postgres@{hosts}/{name}?target_session_attrs=read-write"

    def create(self, template: str = "template1") -> str:
        """A new database: its name. The cluster must be healthy."""
        name = new_name()
        with psycopg.connect(host="127.0.0.1", port=self.leader().port, user="postgres", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        return name

    def _leader(self) -> Node | None:
        found = [node for node in self.nodes if node.says("patroni").get("role") in LEADS]
        return found[0] if len(found) == 1 else None

    def _healthy(self) -> bool:
        leader = self._leader()
        members = leader.says("cluster").get("members", []) if leader else []
        lead = [one for one in members if one["role"] == "leader" and one["state"] == "running"]
        follow = [
            one
            for one in members
            if one["role"] in ("replica", "sync_standby")
            and one["state"] in ("running", "streaming")
            and lead
            and one.get("timeline") == lead[0].get("timeline")
        ]
        kept = not self.synchronous or any(one["role"] == "sync_standby" for one in follow)
        others = len(self.nodes) - 1
        # What Patroni knows of the others' lag is seconds old: the leader itself is asked.
        return leader is not None and len(lead) == 1 and len(follow) == others == leader.followers() and kept

    def _said(self) -> str:
        return "\n".join(f"{node.name}: {node.says('cluster') or 'no answer'}\n{node.log()}" for node in self.nodes)


@contextlib.contextmanager
def patroni(nodes: int, settings: Mapping[str, Any]) -> Iterator[Patroni]:
    """A cluster for the length of a block. Skips, or fails, where a part is not installed."""
    for program, package in PACKAGES.items():
        if shutil.which(program, path=PATH) is None:
            missing(f"{program} is not installed (Debian: apt-get install {package})")
    binaries()
    with contextlib.ExitStack() as stack:
        yield Patroni(nodes, settings, stack)


@contextlib.contextmanager
def haproxy(configuration: str) -> Iterator[None]:
    """HAProxy with a configuration, until the block ends. It listens when this returns."""
    server = ServerProcess("cdrha-")
    try:
        (server.directory / "haproxy.cfg").write_text(configuration, encoding="utf-8")
        server.own()
        server.run(str(shutil.which("haproxy", path=PATH)), "-c", "-f", f"{server.directory}/haproxy.cfg")
        server.spawn(str(shutil.which("haproxy", path=PATH)), "-db", "-f", f"{server.directory}/haproxy.cfg")
        yield
    finally:
        server.close()


def binaries() -> Path:
    """The newest PostgreSQL of the system's packages. Skips, or fails, where there is none."""
    found = sorted(POSTGRESQL.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    if not found:
        missing("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    return found[-1].parent


def _etcd(stack: contextlib.ExitStack) -> int:
    """The port of a new etcd."""
    server = ServerProcess("cdret-")
    stack.callback(server.close)
    server.own()
    here, peer = f"http://127.0.0.1:{server.port}", f"http://127.0.0.1:{free_port()}"
    server.spawn(
        *("etcd", "--name", "one", "--data-dir", f"{server.directory}/data"),
        *("--listen-client-urls", here, "--advertise-client-urls", here),
        *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"one={peer}"),
    )
    server.wait_for(lambda: httpx.get(f"{here}/health", trust_env=False).raise_for_status(), httpx.HTTPError)
    return server.port


def _children(pid: int) -> list[int]:
    """The processes that a process has started, threads' too."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # it has ended
            found += [int(one) for one in path.read_text(encoding="ascii").split()]
    return found


def _signal(pid: int, how: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended by itself
        os.kill(pid, how)
