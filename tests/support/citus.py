"""A Citus cluster, private to this run: a coordinator and two workers, set up by the commands of deploy/clusters.md."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from cdrsync.store.admin import distribute
from cdrsync.store.databases.engine import open_engine
from tests.fault.fresh import upgraded
from tests.support.databases import new_name
from tests.support.guide import blocks
from tests.support.patroni import POSTGRESQL
from tests.support.ports import free_port
from tests.support.processes import DEADLINE
from tests.support.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ADDRESSES = {"coordinator": "127.0.0.1", "worker1": "127.0.0.2", "worker2": "127.0.0.3"}
"""By the guide's names. All listen on one port, as machines do."""

SETTINGS = {
    "shared_preload_libraries": "citus",
    "citus.shard_count": "4",  # of 32: each costs files and statements
    "max_connections": "300",
    "max_prepared_transactions": "300",  # Citus' own default is twice the connections
    "shared_buffers": "32MB",
    "max_wal_size": "256MB",  # small segments would make it 64
    "fsync": "off",
    "log_checkpoints": "off",
}


class CitusNode(ServerProcess):
    """One server."""

    def __init__(self, address: str, port: int, binaries: Path) -> None:
        super().__init__("cdrci-")
        self.port = port
        self.address = address
        self.environment["HOME"] = str(self.directory)  # a client's certificates would be looked for in ours
        self.own()
        data = self.directory / "data"
        self.run(
            f"{binaries}/initdb", "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C",
            "--no-sync", "--wal-segsize=1",
        )  # fmt: skip
        with (data / "pg_hba.conf").open("a", encoding="ascii") as rules:
            rules.write("host all all 127.0.0.0/8 trust\n")
        here = {"listen_addresses": address, "port": str(port), "unix_socket_directories": str(self.directory)}
        told = [part for name, value in (SETTINGS | here).items() for part in ("-c", f"{name}={value}")]
        self.spawn(f"{binaries}/postgres", "-D", str(data), *told)
        self.wait_for(lambda: self.execute("SELECT 1", "postgres"), psycopg.OperationalError)

    def execute(self, statement: str, database: str = "cdrsync") -> list[tuple[Any, ...]]:
        """Run one statement as the administrator, outside any transaction."""
        with psycopg.connect(
            host=self.address, port=self.port, user="postgres", dbname=database, autocommit=True
        ) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """At once: a killed server would leave its sessions behind."""
        super().stop(signal.SIGQUIT if how is signal.SIGKILL else how)


class Citus:
    """The cluster, with the guide's user and database."""

    def __init__(self, binaries: Path, stack: contextlib.ExitStack) -> None:
        self.port = free_port()
        self.nodes: list[CitusNode] = []
        for address in ADDRESSES.values():
            node = CitusNode(address, self.port, binaries)
            stack.callback(node.close)
            self.nodes.append(node)
        self.coordinator = self.nodes[0]
        self._binaries = binaries
        self.type(blocks("sh")[0])

    def type(self, script: str, env: Mapping[str, str] = os.environ, answers: str = "") -> str:
        """Run commands of the guide here: what they print. Raises AssertionError where one of them fails."""
        for name, address in ADDRESSES.items():
            script = re.sub(rf"\b{name}\b", address, script)
        script = script.replace("5432", str(self.port))
        path = f"{self._binaries}:{Path(sys.executable).parent}:{env['PATH']}"
        done = subprocess.run(
            ["bash", "-e", "-c", script],
            env={**env, "PGPORT": str(self.port), "PATH": path},
            input=answers,
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * DEADLINE,
        )
        assert done.returncode == 0, f"{script}: {done.stdout} {done.stderr}"
        return done.stdout

    def create(self) -> str:
        """The URL of a new, empty schema of the guide's user."""
        name = new_name()
        self.coordinator.execute(f"CREATE SCHEMA {name} AUTHORIZATION cdrsync")
        return f"{self.url()}?schema={name}"

    def spread(self) -> str:
        """The URL of a new schema with today's tables, spread."""
        url = upgraded(self.create())
        engine = open_engine(url)
        distribute.distribute(engine, distribute.plan(engine))
        engine.dispose()
        return url

    def url(self, database: str = "cdrsync") -> str:
        """The URL of the guide's database, or of another one, by the guide's user."""
        return f"postgresql+psycopg://cdrsync@{self.coordinator.address}:{self.port}/{database}"

    def join(self, database: str) -> None:
        """Make a cluster of the databases of that name."""
        for node in self.nodes:
            node.execute("CREATE EXTENSION citus", database)
        coordinator, *workers = (f"'{node.address}', {node.port}" for node in self.nodes)
        self.coordinator.execute(f"SELECT citus_set_coordinator_host({coordinator})", database)
        for worker in workers:
            self.coordinator.execute(f"SELECT citus_add_node({worker})", database)


@contextlib.contextmanager
def citus() -> Iterator[Citus]:
    """A cluster for the length of a block. Skips where Citus is not installed: it is no package of Debian's."""
    binaries = installed()
    if binaries is None:
        pytest.skip("Citus is not installed (CONTRIBUTING.md says how to build it)")
    with contextlib.ExitStack() as stack:
        yield Citus(binaries, stack)


def installed() -> Path | None:
    """The programs of the newest PostgreSQL that has Citus, where there is one."""
    found = sorted(POSTGRESQL.glob("*/lib/citus.so"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent.parent / "bin" if found else None
