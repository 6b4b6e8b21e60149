"""The tables spread over the nodes of a Citus cluster, account by account: `cdrsync db distribute`.

    account, number    reference tables: a copy on every node
    cdr                distributed by account_id: all of an account is on one node, a new account goes to any
    what belongs to it with it, lease included: a page is the matter of one node, and of the copies of numbers
    replica            stays on the coordinator: it is written every few seconds, and joined with nothing

A table keyed by `id` alone is keyed by (account_id, id) first: Citus keeps a key unique only within a node. Each step
is a transaction under the schema's lease; one that was cut off is made by the next run, which looks what is left.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Table, inspect, text

from cdrsync.errors import ConfigError
from cdrsync.store.admin.migrate import UpgradeLock
from cdrsync.store.admin.views import ORDER, tables_read
from cdrsync.store.databases.choose import kind_of
from cdrsync.store.databases.errors import again, translated
from cdrsync.store.schema.tables import account, cdr, lease, metadata, number, replica

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.engine import Connection, Engine, Row

REFERENCE = (account, number)
LOCAL = (replica,)
BY = "account_id"

GUIDE = "see Citus in deploy/clusters.md"
EXTENSION_HINT = f"As a superuser, in this database on every node: CREATE EXTENSION citus ({GUIDE})"
WORKERS_HINT = f"As a superuser on the coordinator: SELECT citus_add_node('HOST', PORT) ({GUIDE})"
COORDINATOR_HINT = "Name the coordinator in database_url"

_OWNER = "SELECT tableowner FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'cdr'"
_READERS = text(
    "SELECT rolname AS role, quote_ident(rolname) AS quoted, bool_or(relname = ANY(:beyond)) AS tables"
    " FROM pg_class, LATERAL aclexplode(relacl) AS given JOIN pg_roles ON pg_roles.oid = given.grantee"
    " WHERE relnamespace = quote_ident(current_schema())::regnamespace AND relname = ANY(:names)"
    " AND grantee <> relowner"
    " GROUP BY 1 ORDER BY 1"
)
"""Who has rights on tables and views of ours beside their owner, and whether on tables `beyond` what views read."""


@dataclass(frozen=True, slots=True)
class Step:
    """One transaction: what it does, in words, and its statements."""

    what: str
    statements: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reader:
    """Who has rights now: on the views alone, or on all `tables` too."""

    role: str
    tables: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done, in this order; no steps: nothing. `nodes` take shards; `readers` are to be granted again."""

    nodes: int
    shards: int
    steps: tuple[Step, ...]
    readers: tuple[Reader, ...] = ()


def distributed() -> list[Table]:
    """The tables that are spread, `cdr` first: the others go where its shards are. The lease goes last."""
    others = [table for table in metadata.sorted_tables if BY in table.c and table not in (cdr, lease)]
    return [cdr, *others, lease]


def plan(engine: Engine) -> Plan:
    """Look what is left to be done.

    Raises ConfigError where the database is no Citus cluster, a worker lacks the tables' owner, or they
    are spread in another way; DatabaseUnavailable.
    """
    if not kind_of(engine.dialect.name).distributes:
        raise ConfigError(
            [f"{engine.dialect.name} can't be distributed: only PostgreSQL with the extension Citus can"],
            hint="One server of it carries many accounts; README says how many",
        )
    from cdrsync.store.databases.postgresql_access import check_roles  # its driver is there now

    with translated(), engine.connect() as connection:
        nodes = _check_cluster(connection)
        shards = int(connection.scalar(text("SELECT current_setting('citus.shard_count')")) or 0)
        steps = tuple(_steps(connection))
        if not steps:
            return Plan(nodes, shards, ())
        check_roles(connection, connection.exec_driver_sql(_OWNER).scalars().all())
        beyond = sorted(metadata.tables.keys() - set(tables_read()))
        readers = connection.execute(_READERS, {"names": [*metadata.tables, *ORDER], "beyond": beyond}).all()
        if readers:
            steps = (_closed_to(readers), *steps)
        return Plan(nodes, shards, steps, tuple(Reader(row.role, row.tables) for row in readers))


def distribute(engine: Engine, planned: Plan) -> None:
    """Carry a plan out. Raises DatabaseUnavailable, LeaseLost where somebody else took the schema's lease meanwhile."""
    with translated(), engine.connect() as connection:
        lock = UpgradeLock(connection)
        with lock.held():
            for step in planned.steps:
                # Again where a page came between: it locks tables in another order.
                again(functools.partial(_make, connection, lock, step))


def _make(connection: Connection, lock: UpgradeLock, step: Step) -> None:
    with connection.begin():
        lock.confirm()
        for statement in step.statements:
            connection.exec_driver_sql(statement, execution_options={"no_parameters": True})


def _check_cluster(connection: Connection) -> int:
    """How many nodes take shards."""
    if not connection.scalar(text("SELECT count(*) FROM pg_extension WHERE extname = 'citus'")):
        raise ConfigError(
            ["the database has no extension citus: there is nothing to spread it over"], hint=EXTENSION_HINT
        )
    if not connection.scalar(text("SELECT citus_is_coordinator()")):
        raise ConfigError(["this is a worker of a Citus cluster"], hint=COORDINATOR_HINT)
    nodes = connection.scalar(text("SELECT count(*) FROM pg_dist_node WHERE isactive AND shouldhaveshards"))
    if not nodes:
        raise ConfigError(["no node of the Citus cluster takes shards"], hint=WORKERS_HINT)
    return int(nodes)


def _closed_to(readers: Sequence[Row[Any]]) -> Step:
    """Citus would make on the workers who has rights on what is spread, which only a superuser may."""
    ours = ", ".join(sorted([*metadata.tables, *ORDER]))
    words = f"{', '.join(row.role for row in readers)}: the rights to read end, until they are granted again"
    return Step(words, tuple(f"REVOKE ALL ON {ours} FROM {row.quoted}" for row in readers))


def _steps(connection: Connection) -> Iterator[Step]:
    spread = _spread(connection)
    left = [table for table in REFERENCE if spread.get(table.name) != ""]
    if account in left:
        # Citus would copy the tables that refer to it twice; each gets its foreign key back below.
        bound = [table for table in distributed() if spread.get(table.name) != BY and _key(connection, table)]
        free = tuple(f"ALTER TABLE {table.name} DROP CONSTRAINT {_key(connection, table)}" for table in bound)
    else:
        free = ()
    if left:
        made = tuple(f"SELECT create_reference_table('{table.name}')" for table in left)
        yield Step(f"{', '.join(table.name for table in left)}: a copy on every node", (*free, *made))
    for table in distributed():
        if spread.get(table.name) != BY:
            yield Step(_words(connection, table), tuple(_distribute(connection, table, bound=not free)))
        if _refers(table) and (spread.get(table.name) != BY or not _key(connection, table)):
            yield Step(f"{table.name}: its foreign key again", (_refer(table),))
    old = [
        table.name
        for table in (*REFERENCE, *distributed())
        if spread.get(table.name) is None or connection.scalar(text(f"SELECT pg_relation_size('{table.name}')"))
    ]
    if old:
        freed = (f"SELECT truncate_local_data_after_distributing_table('{name}')" for name in old)
        yield Step("the rows that they leave on the coordinator go", tuple(freed))


def _spread(connection: Connection) -> dict[str, str]:
    """How tables of ours are spread: the column's name, empty for a reference table. Others are not in it."""
    rows = connection.execute(
        text(
            "SELECT relname, partmethod = 'n' AS reference, colocationid,"
            " column_to_column_name(logicalrelid, partkey) AS by FROM pg_dist_partition"
            " JOIN pg_class ON pg_class.oid = logicalrelid"
            " WHERE relnamespace = quote_ident(current_schema())::regnamespace AND relname = ANY(:names)"
            " AND NOT (partmethod = 'n' AND repmodel = 's')"
        ),
        {"names": list(metadata.tables)},
    ).all()
    wrong = [row.relname for row in rows if (row.by or "") != _wanted(metadata.tables[row.relname])]
    if wrong or len({row.colocationid for row in rows if not row.reference}) > 1:
        problem = f"the tables are spread in another way already: {', '.join(wrong) or 'not all in the same places'}"
        raise ConfigError([problem], hint="As their owner: SELECT undistribute_table('NAME'), then run this again")
    return {row.relname: row.by or "" for row in rows}


def _wanted(table: Table) -> str | None:
    return "" if table in REFERENCE else None if table in LOCAL else BY


def _words(connection: Connection, table: Table) -> str:
    words = f"{table.name}: by {BY}"
    if table is not cdr:
        words += ", with cdr"
    if "id" in _primary_key(connection, table):
        words += f", keyed by {BY} and id"
    held = connection.scalar(
        text("SELECT reltuples FROM pg_class WHERE oid = to_regclass(:name)"), {"name": table.name}
    )
    return words + (f", some {int(held):,} rows" if held and held > 0 else "")


def _distribute(connection: Connection, table: Table, *, bound: bool) -> Iterator[str]:
    key = _key(connection, table)
    if key and bound:
        yield f"ALTER TABLE {table.name} DROP CONSTRAINT {key}"
    if _primary_key(connection, table) == ["id"]:
        name = inspect(connection).get_pk_constraint(table.name)["name"]
        yield f"ALTER TABLE {table.name} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} PRIMARY KEY ({BY}, id)"
    beside = "none" if table is cdr else cdr.name
    yield f"SELECT create_distributed_table('{table.name}', '{BY}', colocate_with => '{beside}')"


def _primary_key(connection: Connection, table: Table) -> list[str]:
    return inspect(connection).get_pk_constraint(table.name)["constrained_columns"]


def _refers(table: Table) -> bool:
    return any(key.referred_table is account for key in table.foreign_key_constraints)


def _refer(table: Table) -> str:
    name = f"fk_{table.name}_{BY}_{account.name}"
    return f"ALTER TABLE {table.name} ADD CONSTRAINT {name} FOREIGN KEY ({BY}) REFERENCES {account.name} (id)"


def _key(connection: Connection, table: Table) -> str | None:
    """The name of a table's foreign key to the accounts, where it has it."""
    found = inspect(connection).get_foreign_keys(table.name)
    return next((str(key["name"]) for key in found if key["referred_table"] == account.name), None)
