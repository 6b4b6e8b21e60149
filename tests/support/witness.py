"""The database itself as the witness of who writes: a trigger notes whose lease each written row came under.

The lease's row counts its transactions, and each of them begins by writing that row. So each count belongs to one
transaction of one replica; tokens follow each other and none comes back; and who writes is who has the lease.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

_TABLE = (
    "CREATE TABLE witness (n {} PRIMARY KEY, account_id INTEGER NOT NULL, commits BIGINT NOT NULL,"
    " token VARCHAR(32), holder VARCHAR(8), writer VARCHAR(64))"
)
_NOTE = (
    "INSERT INTO witness (account_id, commits, token, holder, writer)"
    " SELECT account_id, commits, token, SUBSTR(replica_id, 1, 8), {} FROM lease WHERE account_id = NEW.account_id"
)
_TABLES = ("cdr", "checkpoint")
_VERBS = ("INSERT", "UPDATE")
STATEMENTS = {
    "postgresql": (
        _TABLE.format("bigserial"),
        "CREATE FUNCTION witness() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        + _NOTE.format("current_setting('application_name')")
        + "; RETURN NULL; END $$",
        *(
            f"CREATE TRIGGER witness_{table} AFTER INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION witness()"
            for table in _TABLES
        ),
    ),
    "mysql": (
        _TABLE.format("BIGINT AUTO_INCREMENT"),
        *(
            f"CREATE TRIGGER witness_{table}_{verb} AFTER {verb} ON {table} FOR EACH ROW "
            + _NOTE.format("CONCAT(@@report_host, @@port, '/', CONNECTION_ID())")
            for table in _TABLES
            for verb in _VERBS
        ),
    ),
    "sqlite": (
        _TABLE.format("INTEGER"),
        *(
            f"CREATE TRIGGER witness_{table}_{verb} AFTER {verb} ON {table} BEGIN {_NOTE.format('NULL')}; END"
            for table in _TABLES
            for verb in _VERBS
        ),
    ),
}
"""By dialect. SQLite knows no sessions: there the tokens alone tell."""


@dataclass
class Testimony:
    """What the witness says."""

    writes: int = 0  # transactions
    leases: int = 0
    double: list[str] = field(default_factory=list)  # each time that two wrote, in words


def call(engine: Engine) -> None:
    """Have everything witnessed from now on. The schema must be there."""
    with engine.begin() as connection:
        for statement in STATEMENTS["mysql" if engine.dialect.name == "mariadb" else engine.dialect.name]:
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
