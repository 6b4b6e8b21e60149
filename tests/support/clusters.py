"""Real clusters and poolers for tests, private to this run: Galera nodes, PgBouncer in transaction mode, a standby."""

from __future__ import annotations

import configparser
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pymysql

from tests.support import guide
from tests.support.databases import MariadbServer, PostgresqlServer, database_name
from tests.support.ports import free_port
from tests.support.tools import missing, program

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

GALERA = Path("/usr/lib/galera/libgalera_smm.so")
SHIM = Path(__file__).with_name("schedparam_shim.c")
START_SECONDS = 60.0


class GaleraNode(MariadbServer):
    """One node. The first one begins the cluster; started again, it joins the others."""

    def __init__(self, number: int, ports: Sequence[int], shim: Path) -> None:
        nodes = len(ports) // 2
        self._members = ",".join(f"127.0.0.1:{port}" for port in ports[:nodes])
        self._begins = number == 0
        self._shim = shim
        options = (
            f"gmcast.listen_addr=tcp://127.0.0.1:{ports[number]};ist.recv_addr=127.0.0.1:{ports[nodes + number]};"
            "gcache.size=16M"
        )
        here = {
            "wsrep_node_address": "127.0.0.1",
            "wsrep_node_name": f"node{number}",
            "wsrep_provider_options": options,
            "wsrep_sst_receive_address": f"127.0.0.1:{free_port()}",
            "innodb_flush_log_at_trx_commit": "2",
            "innodb_log_file_size": "16M",
        }
        self._told = guide.settings("cnf", "mariadb") | here
        super().__init__()

    def start(self) -> None:
        address = "" if self._begins else self._members
        # A name of its own at each start: numbers of sessions come again.
        now = {"wsrep_cluster_address": f"gcomm://{address}", "report_host": secrets.token_hex(4)}
        self._settings = tuple(f"--{name.replace('_', '-')}={value}" for name, value in (self._told | now).items())
        self._begins = False
        self.environment["LD_PRELOAD"] = str(self._shim)
        super().start()

    def pause(self) -> None:
        """Freeze it."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """End the frost."""
        os.kill(self.pid, signal.SIGCONT)

    def isolate(self, *, isolated: bool) -> None:
        """Cut it off from the other nodes, or join it again. Its clients still reach it."""
        self.execute(f"SET GLOBAL wsrep_provider_options = 'gmcast.isolate={int(isolated)}'")

    def size(self) -> int:
        """How many nodes it sees; none where it takes no statements."""
        with contextlib.suppress(pymysql.MySQLError):
            found = dict(self.execute("SHOW STATUS WHERE Variable_name IN ('wsrep_cluster_size', 'wsrep_ready')"))
            return int(found["wsrep_cluster_size"]) if found["wsrep_ready"] == "ON" else 0
        return 0


@contextlib.contextmanager
def galera(nodes: int) -> Iterator[list[GaleraNode]]:
    """So many nodes of one cluster, each of which takes writes."""
    if not GALERA.exists():
        missing("Galera is not installed (Debian: apt-get install galera-4)")
    if shutil.which("rsync") is None:
        missing("rsync is not installed, by which a node of Galera gets its first copy")
    ports = [free_port() for _ in range(2 * nodes)]
    running: list[GaleraNode] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cdrgs-", dir="/tmp")))
        folder.chmod(0o755)
        shim = folder / "schedparam_shim.so"
        subprocess.run([program("cc"), "-shared", "-fPIC", "-o", shim, SHIM], check=True)
        for number in range(nodes):
            node = GaleraNode(number, ports, shim)
            stack.callback(node.close)
            running.append(node)
        until_synced(running)
        yield running


def until_synced(nodes: list[GaleraNode]) -> None:
    """Wait until each node sees them all."""
    deadline = time.monotonic() + START_SECONDS
    while any(node.size() != len(nodes) for node in nodes):
        assert time.monotonic() < deadline, "the nodes did not find each other"
        time.sleep(0.1)


@contextlib.contextmanager
def pgbouncer(server: PostgresqlServer, url: str, **settings: str) -> Iterator[str]:
    """The URL of a database through the guide's PgBouncer, which has two sessions only where `settings` don't say."""
    if shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
        missing("pgbouncer is not installed (Debian: apt-get install pgbouncer)")
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="cdrpb-", dir="/tmp"))
    told = guide.settings("ini", "pgbouncer") | {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "any",
        "auth_file": "",
        "default_pool_size": "2",
        "logfile": f"{folder}/log",
        "pidfile": f"{folder}/pid",
    }
    parser = configparser.ConfigParser(interpolation=None)
    parser["databases"] = {"*": f"host={server.directory} port={server.port} user=postgres"}
    parser["pgbouncer"] = told | settings
    with (folder / "pgbouncer.ini").open("w", encoding="utf-8") as file:
        parser.write(file)
    user = "nobody" if os.geteuid() == 0 else None
    if user:
        shutil.chown(folder, user=user)
    child = subprocess.Popen(["pgbouncer", str(folder / "pgbouncer.ini")], user=user, stderr=subprocess.DEVNULL)
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


class Standby(PostgresqlServer):
    """A streaming replica of a server: it can be read, and follows until it is promoted."""

    def __init__(self, primary: PostgresqlServer) -> None:
        self._primary = primary
        super().__init__()

    def _make(self) -> None:
        self.run(
            f"{self._binaries}/pg_basebackup", "-h", str(self._primary.directory), "-p", str(self._primary.port),
            "-U", "postgres", "-D", f"{self.directory}/data", "-R", "-X", "stream", "-c", "fast", "--no-sync",
        )  # fmt: skip

    def follow(self) -> None:
        """Wait until all that the primary has committed is here."""
        ((position,),) = self._primary.execute("SELECT pg_current_wal_lsn()")
        deadline = time.monotonic() + START_SECONDS
        while not self.execute(f"SELECT pg_last_wal_replay_lsn() >= '{position}'")[0][0]:
            assert time.monotonic() < deadline, "the standby does not follow"
            time.sleep(0.05)
