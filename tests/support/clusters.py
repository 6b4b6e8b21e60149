"""Real clusters and poolers for tests, private to this run: MariaDB Galera nodes, PgBouncer in transaction mode."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.databases import MariadbServer, PostgresqlServer, database_name
from tests.support.tools import missing

if TYPE_CHECKING:
    from collections.abc import Iterator

GALERA = Path("/usr/lib/galera/libgalera_smm.so")
START_SECONDS = 60.0


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def galera(nodes: int) -> Iterator[list[MariadbServer]]:
    """So many nodes of one cluster, each of which takes writes."""
    if not GALERA.exists():
        missing("Galera is not installed (Debian: apt-get install galera-4)")
    if shutil.which("rsync") is None:
        missing("rsync is not installed, by which a node of Galera gets its first copy")
    ports = [free_port() for _ in range(2 * nodes)]
    members = ",".join(f"127.0.0.1:{port}" for port in ports[:nodes])
    running: list[MariadbServer] = []
    with contextlib.ExitStack() as stack:
        for number in range(nodes):
            options = (
                f"gmcast.listen_addr=tcp://127.0.0.1:{ports[number]};ist.recv_addr=127.0.0.1:{ports[nodes + number]};"
                "gcache.size=32M"
            )
            settings = (
                "--wsrep-on=ON",
                f"--wsrep-provider={GALERA}",
                f"--wsrep-cluster-address=gcomm://{members if number else ''}",
                "--wsrep-node-address=127.0.0.1",
                f"--wsrep-node-name=node{number}",
                f"--wsrep-provider-options={options}",
                "--wsrep-sst-method=rsync",
                f"--wsrep-sst-receive-address=127.0.0.1:{free_port()}",
                "--binlog-format=ROW",
                "--innodb-autoinc-lock-mode=2",
                "--innodb-flush-log-at-trx-commit=2",
            )
            try:
                node = MariadbServer(settings=settings)
            except RuntimeError as error:
                if "schedparams" in str(error):
                    pytest.skip("this kernel lets no thread set its scheduling, as Galera does")
                raise
            stack.callback(node.close)
            running.append(node)
        until_synced(running)
        yield running


def until_synced(nodes: list[MariadbServer]) -> None:
    """Wait until each node sees them all."""
    deadline = time.monotonic() + START_SECONDS
    for node in nodes:
        while _size(node) != len(nodes):
            assert time.monotonic() < deadline, "the nodes did not find each other"
            time.sleep(0.1)


def _size(node: MariadbServer) -> int:
    found = dict(node.execute("SHOW STATUS WHERE Variable_name IN ('wsrep_cluster_size', 'wsrep_ready')"))
    return int(found["wsrep_cluster_size"]) if found["wsrep_ready"] == "ON" else 0


@contextlib.contextmanager
def pgbouncer(server: PostgresqlServer, url: str) -> Iterator[str]:
    """The URL of a database through PgBouncer in transaction mode, with fewer sessions than clients."""
    if shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
        missing("pgbouncer is not installed (Debian: apt-get install pgbouncer)")
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="cdrpb-", dir="/tmp"))
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"""[databases]
* = host={server.directory} port={server.port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 2
max_client_conn = 100
logfile = {folder}/log
pidfile = {folder}/pid
""",
        encoding="utf-8",
    )
    user = "nobody" if os.geteuid() == 0 else None
    if user:
        shutil.chown(folder, user=user)
    child = subprocess.Popen(["pgbouncer", str(settings)], user=user, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
                break
            assert time.monotonic() < deadline, (folder / "log").read_text(encoding="utf-8")
            time.sleep(0.05)
        yield f"postgresql+psycopg://postgres@127.0.0.1:{port}/{database_name(url)}"
    finally:
        child.send_signal(signal.SIGINT)
        child.wait(START_SECONDS)
        shutil.rmtree(folder, ignore_errors=True)
