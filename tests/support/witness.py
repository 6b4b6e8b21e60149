"""The database itself as the witness of who writes: a trigger notes whose lease each written row came under.

The lease's row counts its transactions, and each of them begins by writing that row. So each count belongs to one
transaction of one replica; tokens follow each other and none comes back; and who writes is who has the lease.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cdrsync.store.databases.postgresql_access import is_spread

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

_TABLE = (
    "CREATE TABLE witness ({}account_id INTEGER NOT NULL, commits BIGINT NOT NULL,"
    " token VARCHAR(32), holder VARCHAR(8), writer VARCHAR(64))"
)
_NOTE = (
    "INSERT INTO witness (account_id, commits, token, holder, writer)"
    " SELECT account_id, commits, token, SUBSTR(replica_id, 1, 8), {} FROM lease WHERE account_id = NEW.account_id"
)
_TABLES = ("cdr", "checkpoint")
_VERBS = ("INSERT", "UPDATE")
_TRIGGERS = tuple(
    f"CREATE TRIGGER witness_{table} AFTER INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION witness()"
    for table in _TABLES
)
STATEMENTS = {
    "postgresql": (
        _TABLE.format("n bigserial PRIMARY KEY, "),
        "CREATE FUNCTION witness() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        + _NOTE.format("current_setting('application_name')")
        + "; RETURN NULL; END $$",
        *_TRIGGERS,
    ),
    "mysql": (
        _TABLE.format("n BIGINT AUTO_INCREMENT PRIMARY KEY, "),
        *(
            f"CREATE TRIGGER witness_{table}_{verb} AFTER {verb} ON {table} FOR EACH ROW "
            + _NOTE.format("CONCAT(@@report_host, @@port, '/', CONNECTION_ID())")
            for table in _TABLES
            for verb in _VERBS
        ),
    ),
    "sqlite": (
        _TABLE.format("n INTEGER PRIMARY KEY, "),
        *(
            f"CREATE TRIGGER witness_{table}_{verb} AFTER {verb} ON {table} BEGIN {_NOTE.format('NULL')}; END"
            for table in _TABLES
            for verb in _VERBS
        ),
    ),
}
"""By dialect. SQLite knows no sessions: there the tokens alone tell."""

_SHARD = (
    "{0} bigint := (SELECT there.shardid FROM pg_dist_shard AS here JOIN pg_dist_shard AS there USING (shardminvalue)"
    " WHERE here.shardid = substring(TG_TABLE_NAME, '[0-9]+$')::bigint AND there.logicalrelid = '{0}'::regclass); "
)
ON_CITUS = (
    "SET LOCAL citus.multi_shard_modify_mode = 'sequential'",
    "SET LOCAL citus.enable_unsafe_triggers = on",  # safe is what stays within one shard, as this does
    _TABLE.format(""),
    "SELECT create_distributed_table('witness', 'account_id', colocate_with => 'cdr')",
    "CREATE FUNCTION witness() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$ DECLARE "
    + _SHARD.format("witness")
    + _SHARD.format("lease")
    + "BEGIN EXECUTE '"
    + _NOTE.format("current_setting(''application_name'')")
    .replace("INTO witness", "INTO witness_' || witness || '")
    .replace("FROM lease", "FROM lease_' || lease || '")
    .replace("NEW.account_id", "$1")
    + "' USING NEW.account_id; RETURN NULL; END $$",
    *_TRIGGERS,
)
"""A node knows the coordinator's session by its number, which is one replica's."""


@dataclass
class Testimony:
    """What the witness says."""

    writes: int = 0  # transactions
    leases: int = 0
    double: list[str] = field(default_factory=list)  # each time that two wrote, in words


def call(engine: Engine) -> None:
    """Have everything witnessed from now on. The schema must be there."""
    dialect = "mysql" if engine.dialect.name == "mariadb" else engine.dialect.name
    with engine.begin() as connection:
        spread = dialect == "postgresql" and is_spread(connection)
        for statement in ON_CITUS if spread else STATEMENTS[dialect]:
            connection.exec_driver_sql(statement)


def hear(engine: Engine) -> Testimony:
    """Everything that was witnessed so far."""
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT DISTINCT account_id, commits, token, holder, writer FROM witness ORDER BY account_id, commits"
        ).all()
    said = Testimony(writes=len({(row.account_id, row.commits) for row in rows}))
    holders: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.writer is not None:
            holders[row.writer].add(row.holder)
    said.double += [f"{writer} wrote under {sorted(found)}" for writer, found in holders.items() if len(found) > 1]
    for account, written in itertools.groupby(rows, key=lambda row: row.account_id):
        mine = list(written)
        turns = [token for token, _ in itertools.groupby(row.token for row in mine)]
        said.leases += len(set(turns))
        if len(turns) > len(set(turns)):
            said.double.append(f"account {account}: a lease was used again after another one")
        counts = [row.commits for row in mine]
        if len(counts) > len(set(counts)):
            said.double.append(f"account {account}: two wrote the same transaction")
    return said
