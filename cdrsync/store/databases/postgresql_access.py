"""How PostgreSQL is reached and what is allowed there: options of a URL, rights, grants to readers."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from psycopg.pq import Conninfo

from cdrsync.errors import ConfigError
from cdrsync.store.databases import port
from cdrsync.store.databases.port import Obstacle

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from sqlalchemy.engine import URL, Connection

    from cdrsync.store.databases.grants import Grants

SCHEMA_HINT = "As the owner of the schema: GRANT USAGE, CREATE ON SCHEMA public TO this user"
OTHER_COLUMNS_HINT = "cdrsync db check names it: drop it, and what reads it, then cdrsync db upgrade makes it"
NO_SCHEMA_HINT = "CREATE SCHEMA, or name one that is there: ?schema=NAME in database_url"

MARK = "cdrsync: what this role may read, made by cdrsync db grant-reader"
"""The comment by which a reader's schema is known as ours."""

OWNER_HINT = "Give --database-url a user that owns the tables"
_OWNER = "(SELECT relowner FROM pg_class WHERE oid = to_regclass('cdr'))"

_DENIED = (
    "SELECT relname FROM pg_class WHERE relnamespace = quote_ident(current_schema())::regnamespace AND relname IN"
    " ('account', 'cdr', 'checkpoint', 'coverage', 'number', 'reject', 'alembic_version') AND relkind IN ('r', 'p')"
    " AND NOT (has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')"
    " AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE')) ORDER BY 1"
)

_NUMBERS = frozenset(
    {"connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"}
)
_LIBPQ = frozenset(option.keyword.decode() for option in Conninfo.get_defaults())
_MODES = {
    "DISABLE": "disable", "DISABLED": "disable", "ALLOW": "allow", "PREFER": "prefer", "PREFERRED": "prefer",
    "REQUIRE": "require", "REQUIRED": "require", "VERIFY-CA": "verify-ca", "VERIFY_CA": "verify-ca",
    "VERIFY-FULL": "verify-full", "VERIFY_FULL": "verify-full", "VERIFY_IDENTITY": "verify-full",
}  # fmt: skip
"""libpq's sslmode, by that name and by those of other clients."""


def _search_path(names: str) -> str:
    """A list of schemas, each by its exact name, as an option of the server's command."""
    named = [name if name.startswith('"') else '"' + name.replace('"', '""') + '"' for name in _NAME.findall(names)]
    return "-csearch_path=" + re.sub(r"([\\\s])", r"\\\1", ",".join(named))


_NAME = re.compile(r'"(?:[^"]|"")*"|[^",\s][^,]*(?<!\s)')
_NO = ("false", "0", "no", "off")
_TRANSLATED: dict[str, Callable[[str], dict[str, str]]] = {
    **dict.fromkeys(("ssl-mode", "ssl_mode", "sslMode"), lambda mode: {"sslmode": _MODES.get(mode.upper(), mode)}),
    **dict.fromkeys(("ssl", "useSSL"), lambda yes: {"sslmode": "disable" if yes.lower() in _NO else "require"}),
    **dict.fromkeys(("schema", "currentSchema", "search_path"), lambda names: {"options": _search_path(names)}),
    # For clients that would keep something in a session, or many of them open: cdrsync does neither.
    **dict.fromkeys(("pgbouncer", "connection_limit", "pool_timeout", "statement_cache_size"), lambda _: {}),
}
"""What providers put into a URL for other clients."""


def plain_url(url: URL) -> URL:
    """With libpq's own options; those of others are translated where their meaning is clear."""
    query: dict[str, Any] = {}
    for name, value in url.query.items():
        if name in _NUMBERS and not str(value).isdigit():
            problem = f"database_url has an option that can't be read: {name}={value}"
            raise ConfigError([problem], hint="It is a number of seconds, or of what its name says")
        if name in _LIBPQ:
            query[name] = _MODES.get(str(value).upper(), value) if name == "sslmode" else value
        elif name in _TRANSLATED:
            query |= _TRANSLATED[name](str(value))
        else:
            raise ConfigError(
                [f"database_url has an option that PostgreSQL does not know: {name}"],
                hint="Leave it away; its own are sslmode, sslrootcert, target_session_attrs, options and so on",
            )
    if query.get("sslmode", "prefer") not in _MODES.values():
        raise ConfigError(
            [f"database_url: sslmode={query['sslmode']} is none of {', '.join(dict.fromkeys(_MODES.values()))}"],
            hint="Write sslmode=require (encrypted) or sslmode=verify-full&sslrootcert=/path/ca.pem",
        )
    return url.set(query=query)


# ── rights ─────────────────────────────────────────────────────────────────────────────────────────────────────────


STANDBY_HINT = (
    "Name the primary in database_url, or all servers, of which the one that can be written is taken: "
    "@host1:5432,host2:5432/NAME?target_session_attrs=read-write"
)


_LOGIN_HINT = "Mend user and password in database_url, or on the server: ALTER ROLE … LOGIN PASSWORD …"
_HBA_HINT = "Let this machine and user in, in the server's pg_hba.conf; where it wants encryption: sslmode=require"
SLOW_HINT = "Another session may hold a lock (LOCK TABLE, VACUUM FULL, …), or the server is slow: see pg_stat_activity"
_TLS_HINT = (
    "Write sslmode=verify-full&sslrootcert=/path/ca.pem (whom to trust), sslmode=require (encrypted, whoever answers) "
    "or sslmode=disable, as the server wants it"
)

REMEDIES = {
    "^25006": STANDBY_HINT,
    "^42P01": port.RESTORED_HINT,
    "^55P03": port.LOCKED_HINT,
    "statement timeout": SLOW_HINT,
    "^53300|too many connections|connection slots|too many clients": port.SLOTS_HINT,
    "^53100|No space left|isk full": port.DISK_HINT,
    "authentication failed|password supplied|not permitted to log in|role .* does not exist": _LOGIN_HINT,
    "no pg_hba.conf entry": _HBA_HINT,
    "database .* does not exist": "Mend the database's name in database_url, or CREATE DATABASE on the server",
    "^57P0[123]|closed the connection|terminating connection|starting up|shutting down|reset by peer": port.LOST_HINT,
    "^None: (consuming|sending|receiving|flushing|executing) |the connection is (lost|closed)": port.LOST_HINT,
    "SSL|certificate|verify": _TLS_HINT,
    "resolve host|translate host name": port.NAME_HINT,
    "^None: .*(refused|timeout|timed out|unreachable|No route|No such file)": port.START_HINT,
}
"""Of a connection that fails libpq tells the server's words alone."""


def obstacles(connection: Connection) -> Iterator[Obstacle]:
    """Of rights: on the schema, and on the tables that are there."""
    if connection.exec_driver_sql("SELECT pg_is_in_recovery()").scalar_one():
        yield Obstacle("this server is a standby: it can only be read", STANDBY_HINT)
        return
    schema, usage, create = connection.exec_driver_sql(
        "SELECT current_schema(), has_schema_privilege(current_schema(), 'USAGE'),"
        " has_schema_privilege(current_schema(), 'CREATE')"
    ).one()
    if schema is None:
        yield Obstacle("the search path names no schema that is there", NO_SCHEMA_HINT)
    elif not (usage and create):
        remedy = SCHEMA_HINT.replace("public", schema)
        yield Obstacle(f"this user may make no tables in the schema {schema}", remedy, always=False)
    denied = connection.exec_driver_sql(_DENIED).scalars().all()
    if denied:
        yield Obstacle(
            f"this user may not read and write {', '.join(denied)}",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO this user",
        )


_HAS_CITUS = "SELECT to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL"
_IS_SPREAD = "SELECT EXISTS (SELECT FROM pg_catalog.pg_dist_partition WHERE logicalrelid = to_regclass('cdr'))"


def has_citus(connection: Connection) -> bool:
    """Whether the database may be one of a Citus cluster."""
    return bool(connection.exec_driver_sql(_HAS_CITUS).scalar_one())


def is_spread(connection: Connection) -> bool:
    """Whether the calls are spread over the nodes of a Citus cluster."""
    return has_citus(connection) and bool(connection.exec_driver_sql(_IS_SPREAD).scalar_one())


_ROLES_OF_WORKERS = (
    "SELECT nodename || ':' || nodeport, result"
    " FROM run_command_on_workers('SELECT json_agg(rolname) FROM pg_roles') WHERE success ORDER BY 1"
)


def check_roles(connection: Connection, roles: Collection[str]) -> None:
    """Raises ConfigError where a worker of the Citus cluster lacks a role: nothing can be granted to it there.

    Citus makes a role on every node only where it is made in the cluster's own database.
    """
    known = {node: set(json.loads(names)) for node, names in connection.exec_driver_sql(_ROLES_OF_WORKERS)}
    lacking = {role: [node for node, names in known.items() if role not in names] for role in roles}
    problems = [f"there is no role {role!r} on {', '.join(nodes)}" for role, nodes in lacking.items() if nodes]
    if problems:
        quote = connection.dialect.identifier_preparer.quote_identifier
        made = "".join(f"; CREATE ROLE {quote(role)} LOGIN" for role, nodes in lacking.items() if nodes)
        raise ConfigError(problems, hint=f"There, as a superuser: SET citus.enable_create_role_propagation = off{made}")


# ── readers ────────────────────────────────────────────────────────────────────────────────────────────────────────


def grant(grants: Grants) -> None:
    """A reader of some accounts only gets a schema named after the role, in which each view is there once more.

    PostgreSQL looks there first, so the same SQL works. Row-level security on the tables would need the reader to be
    let into them, and COPY, by which calls come in, refuses to write where it applies.
    """
    role = grants.quote(grants.role)
    _check_role(grants)
    ((database, schema),) = grants.ask("SELECT current_database(), current_schema()")
    own = grants.quote(schema)
    everything = ", ".join(f"{own}.{grants.quote(name)}" for name in grants.ours)
    grants.say(f"REVOKE ALL ON {everything} FROM {role}")
    _drop_limited(grants, str(schema))
    # Most databases let everybody connect; where not, only the database's owner may change that.
    if not grants.truth("has_database_privilege(:role, current_database(), 'CONNECT')"):
        grants.say(f"GRANT CONNECT ON DATABASE {grants.quote(database)} TO {role}")
    if grants.accounts:
        if any(name not in grants.views for name in grants.objects):
            raise ConfigError(
                ["on a Citus cluster who reads a view needs rights on the tables, which hold every account"],
                hint="Give such a reader what cdrsync export --account NAME writes, or a database of its own",
            )
        _make_limited(grants, own)
    else:
        readable = ", ".join(f"{own}.{grants.quote(name)}" for name in grants.objects)
        if not grants.truth("has_schema_privilege(:role, current_schema(), 'USAGE')"):
            grants.say(f"GRANT USAGE ON SCHEMA {own} TO {role}")
        grants.say(f"GRANT SELECT ON {readable} TO {role}")


def _check_role(grants: Grants) -> None:
    """A reader must be there, and must not be able to write by other ways; we must own what is granted."""
    if not grants.truth(f"pg_has_role({_OWNER}, 'USAGE')"):  # PostgreSQL would only warn that it granted nothing
        raise ConfigError(["the user of database_url may not grant: it does not own the tables"], hint=OWNER_HINT)
    found = grants.ask(
        f"SELECT rolsuper, pg_has_role(oid, {_OWNER}, 'MEMBER') FROM pg_roles WHERE rolname = :role",  # noqa: S608
        role=grants.role,
    )
    citus = has_citus(grants.connection)
    if not found:
        where = " in this very database, so that Citus makes it on every node" if citus else ""
        hint = f"CREATE ROLE {grants.quote(grants.role)} LOGIN PASSWORD '…'{where}"
        raise ConfigError([f"there is no role {grants.role!r}"], hint=hint)
    if citus:
        check_roles(grants.connection, [grants.role])
    if any(found[0]):
        raise ConfigError([f"the role {grants.role!r} owns the tables or is a superuser: it may write anyway"])


def _drop_limited(grants: Grants, schema: str) -> None:
    """Take back what an earlier grant for some accounts made."""
    query = "SELECT obj_description(oid, 'pg_namespace') FROM pg_namespace WHERE nspname = :name"
    found = grants.ask(query, name=grants.role)
    if not found or grants.role == schema:
        return
    if found[0][0] != MARK:
        if grants.accounts:
            raise ConfigError([f"there is a schema {grants.role!r} already, which cdrsync did not make"])
        return
    name = grants.quote(grants.role)
    for (view,) in grants.ask("SELECT viewname FROM pg_views WHERE schemaname = :name", name=grants.role):
        grants.say(f"DROP VIEW {name}.{grants.quote(view)}")
    grants.say(f"DROP SCHEMA {name}")


def _make_limited(grants: Grants, own: str) -> None:
    ids = ", ".join(map(str, grants.account_ids()))
    role = name = grants.quote(grants.role)
    grants.say(f"CREATE SCHEMA {name}")
    grants.say(f"COMMENT ON SCHEMA {name} IS '{MARK}'")
    for view, of_accounts in grants.views.items():
        limited = f"{name}.{grants.quote(view)}"
        only = f" WHERE account_id IN ({ids})" if of_accounts else ""
        # The barrier keeps a reader's own functions from seeing other accounts' rows before they are left out.
        grants.say(
            f"CREATE VIEW {limited} WITH (security_barrier) AS SELECT * FROM {own}.{grants.quote(view)}{only}"  # noqa: S608 - quoted names and our own numbers
        )
        grants.say(f"GRANT SELECT ON {limited} TO {role}")
    grants.say(f"GRANT USAGE ON SCHEMA {name} TO {role}")
