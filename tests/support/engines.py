"""Every engine that replicas can share: its servers, new databases there, and a way to them for each replica."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import yaml
from sqlalchemy.engine import make_url

from tests.support.citus import citus
from tests.support.clusters import galera, pgbouncer
from tests.support.databases import MariadbServer, PostgresqlServer, SqliteFiles
from tests.support.guide import told
from tests.support.network import Link
from tests.support.patroni import patroni

REPLICAS = 3


@dataclass(frozen=True)
class Way:
    """How one replica reaches the database."""

    url: str
    links: Sequence[Link] = ()


Make = Callable[[contextlib.ExitStack], tuple[str, list[Way]]]
"""Makes a new database, with the tables where they are spread: its URL, and a way to it for each replica."""


@contextlib.contextmanager
def sqlite() -> Iterator[Make]:
    """One file; there is no network to be cut."""
    with contextlib.closing(SqliteFiles()) as files:

        def make(_: contextlib.ExitStack) -> tuple[str, list[Way]]:
            url = files.create()
            return url, [Way(url)] * REPLICAS

        yield make


@contextlib.contextmanager
def postgresql() -> Iterator[Make]:
    """One server."""
    with contextlib.closing(PostgresqlServer(settings=("fsync=off", "max_connections=300"))) as server:
        yield lambda stack: _linked(stack, server.create(), [server.port] * REPLICAS)


@contextlib.contextmanager
def behind_pgbouncer() -> Iterator[Make]:
    """One server behind PgBouncer in transaction mode, with fewer sessions than clients."""
    settings = ("fsync=off", "max_connections=300")
    room = {"default_pool_size": "10", "max_client_conn": "1000"}  # the pool is each fleet's
    with (
        contextlib.closing(PostgresqlServer(settings=settings)) as server,
        pgbouncer(server, server.url(), **room) as url,
    ):
        port = make_url(url).port
        assert port is not None
        yield lambda stack: _linked(stack, server.create(), [port] * REPLICAS)


@contextlib.contextmanager
def mariadb() -> Iterator[Make]:
    """One server."""
    settings = ("--innodb-flush-log-at-trx-commit=2", "--max-connections=400")
    with contextlib.closing(MariadbServer(settings=settings)) as server:
        yield lambda stack: _linked(stack, server.create(), [server.port] * REPLICAS)


@contextlib.contextmanager
def on_galera() -> Iterator[Make]:
    """Each replica has a node of its own."""
    with galera(REPLICAS) as nodes:
        yield lambda stack: _linked(stack, nodes[0].create(), [node.port for node in nodes])


@contextlib.contextmanager
def under_patroni() -> Iterator[Make]:
    """The guide's cluster, by every server's name; each replica has links of its own to all of them."""
    with patroni(3, yaml.safe_load(told("yaml"))) as cluster:

        def make(stack: contextlib.ExitStack) -> tuple[str, list[Way]]:
            name = cluster.create()
            ways = []
            for _ in range(REPLICAS):
                links = [stack.enter_context(Link(node.port)) for node in cluster.nodes]
                ways.append(Way(cluster.url(name, [link.port for link in links]), links))
            return cluster.url(name, [node.port for node in cluster.nodes]), ways

        yield make


@contextlib.contextmanager
def on_citus() -> Iterator[Make]:
    """The guide's cluster, its tables spread over the workers; all replicas ask the coordinator."""
    with citus() as cluster:
        yield lambda stack: _linked(stack, cluster.spread(), [cluster.port] * REPLICAS)


def _linked(stack: contextlib.ExitStack, url: str, ports: Sequence[int]) -> tuple[str, list[Way]]:
    """A database, and for each replica a way to it through a link of its own."""
    direct = make_url(url)
    query = {name: value for name, value in direct.query.items() if name not in ("host", "port")}
    links = [stack.enter_context(Link(port)) for port in ports]
    through = [direct.set(host="127.0.0.1", port=link.port, query=query) for link in links]
    ways = [Way(way.render_as_string(hide_password=False), (link,)) for way, link in zip(through, links, strict=True)]
    return url, ways


ENGINES = {
    "sqlite": sqlite,
    "postgresql": postgresql,
    "pgbouncer": behind_pgbouncer,
    "mariadb": mariadb,
    "galera": on_galera,
    "patroni": under_patroni,
    "citus": on_citus,
}
