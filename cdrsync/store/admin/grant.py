"""Who may read: the views, or the tables too, and nothing else.

The views run with their owner's rights, so that a reader needs no right on any table. What a reader was granted on our
views and tables before is taken back first: a second grant narrows as well as widens.

A PostgreSQL reader of some accounts only gets a schema named after the role, in which each view is there once more with
only these accounts' rows: PostgreSQL looks there first, so the same SQL works. Row-level security on the tables would
need the reader to be let into them, and COPY, by which calls come in, refuses to write where it applies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import bindparam, select, text

from cdrsync.errors import ConfigError, UnknownAccount
from cdrsync.store.admin import dictionary
from cdrsync.store.databases.choose import MYSQL_FAMILY
from cdrsync.store.databases.errors import translated
from cdrsync.store.schema.tables import account, metadata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection, Engine

MARK = "cdrsync: what this role may read, made by cdrsync db grant-reader"
"""The comment by which a reader's schema is known as ours."""

OWNER_HINT = "Give --database-url a user that owns the tables"
_OWNER = "(SELECT relowner FROM pg_class WHERE oid = to_regclass('cdr'))"


@dataclass(frozen=True, slots=True)
class Granted:
    """What was done: the objects that the role may read now, and the statements that saw to it."""

    role: str
    objects: tuple[str, ...]
    accounts: tuple[str, ...]  # empty: all
    statements: tuple[str, ...]


def grant_reader(engine: Engine, role: str, *, tables: bool = False, accounts: Sequence[str] = ()) -> Granted:
    """Let an existing role read the views of every account or only of `accounts`, and if asked the `tables`.

    On MySQL and MariaDB `role` may be a user or role, with `@host` where the name alone is not one.
    Raises ConfigError where the role is not there or may write anyway, where the database can't limit a reader as
    asked, and where our own user may not grant; DatabaseUnavailable.
    """
    dialect = engine.dialect.name
    if dialect == "sqlite":
        raise ConfigError(
            ["SQLite has no users: who may read is a matter of the file's permissions"],
            hint="Give readers read access to the file and to its directory",
        )
    if accounts and dialect in MYSQL_FAMILY:
        raise ConfigError(["only PostgreSQL can limit a reader to accounts"], hint="Leave --account away")
    if accounts and tables:
        raise ConfigError(["the tables hold every account: a reader of some accounts gets views only"])
    make = _postgresql if dialect == "postgresql" else _mysql
    with translated(), engine.begin() as connection:
        return make(_Grants(connection, role, tables=tables, accounts=tuple(accounts)))


class _Grants:
    """The statements of one grant, run as they are said."""

    def __init__(self, connection: Connection, role: str, *, tables: bool, accounts: tuple[str, ...]) -> None:
        self.connection = connection
        self.role = role
        self.accounts = accounts
        self.views = [one.name for one in dictionary.views()]
        self.objects = [*self.views, *(sorted(metadata.tables) if tables else ())]
        self._mark = '"' if connection.dialect.name == "postgresql" else "`"
        self._said: list[str] = []

    def quote(self, name: str) -> str:
        """A name as an identifier. SQLAlchemy's own would double per cent signs."""
        return self._mark + name.replace(self._mark, self._mark * 2) + self._mark

    def say(self, statement: str) -> None:
        """Run a statement."""
        # No parameters: quoted names may hold per cent signs and colons.
        self.connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
        self._said.append(statement)

    def ask(self, query: str, **values: object) -> list[tuple[object, ...]]:
        """Rows of a query."""
        return [tuple(row) for row in self.connection.execute(text(query), values)]

    def truth(self, condition: str) -> bool:
        """Whether a condition holds; `:role` in it is the role's name."""
        query = text(f"SELECT {condition}")
        values = {"role": self.role} if ":role" in condition else {}
        return bool(self.connection.execute(query, values).scalar())

    def done(self) -> Granted:
        """What was done."""
        return Granted(self.role, tuple(self.objects), self.accounts, tuple(self._said))


# ── PostgreSQL ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _postgresql(grants: _Grants) -> Granted:
    role = grants.quote(grants.role)
    _check_role(grants)
    ((database, schema),) = grants.ask("SELECT current_database(), current_schema()")
    own = grants.quote(str(schema))
    everything = ", ".join(f"{own}.{grants.quote(name)}" for name in (*grants.views, *sorted(metadata.tables)))
    grants.say(f"REVOKE ALL ON {everything} FROM {role}")
    _drop_limited(grants, str(schema))
    # Most databases let everybody connect; where not, only the database's owner may change that.
    if not grants.truth("has_database_privilege(:role, current_database(), 'CONNECT')"):
        grants.say(f"GRANT CONNECT ON DATABASE {grants.quote(str(database))} TO {role}")
    if grants.accounts:
        _make_limited(grants, own)
    else:
        readable = ", ".join(f"{own}.{grants.quote(name)}" for name in grants.objects)
        if not grants.truth("has_schema_privilege(:role, current_schema(), 'USAGE')"):
            grants.say(f"GRANT USAGE ON SCHEMA {own} TO {role}")
        grants.say(f"GRANT SELECT ON {readable} TO {role}")
    return grants.done()


def _check_role(grants: _Grants) -> None:
    """A reader must be there, and must not be able to write by other ways; we must own what is granted."""
    if not grants.truth(f"pg_has_role({_OWNER}, 'USAGE')"):  # PostgreSQL would only warn that it granted nothing
        raise ConfigError(["the user of database_url may not grant: it does not own the tables"], hint=OWNER_HINT)
    found = grants.ask(
        f"SELECT rolsuper, pg_has_role(oid, {_OWNER}, 'MEMBER') FROM pg_roles WHERE rolname = :role",  # noqa: S608
        role=grants.role,
    )
    if not found:
        raise ConfigError(
            [f"there is no role {grants.role!r}"], hint=f"CREATE ROLE {grants.quote(grants.role)} LOGIN PASSWORD '…'"
        )
    if any(found[0]):
        raise ConfigError([f"the role {grants.role!r} owns the tables or is a superuser: it may write anyway"])


def _drop_limited(grants: _Grants, schema: str) -> None:
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
        grants.say(f"DROP VIEW {name}.{grants.quote(str(view))}")
    grants.say(f"DROP SCHEMA {name}")


def _make_limited(grants: _Grants, own: str) -> None:
    ids = ", ".join(map(str, _account_ids(grants)))
    role = name = grants.quote(grants.role)
    grants.say(f"CREATE SCHEMA {name}")
    grants.say(f"COMMENT ON SCHEMA {name} IS '{MARK}'")
    for view in dictionary.views():
        limited = f"{name}.{grants.quote(view.name)}"
        only = f" WHERE account_id IN ({ids})" if any(c.name == "account_id" for c in view.columns) else ""
        # The barrier keeps a reader's own functions from seeing other accounts' rows before they are left out.
        grants.say(
            f"CREATE VIEW {limited} WITH (security_barrier) AS SELECT * FROM {own}.{grants.quote(view.name)}{only}"  # noqa: S608 - quoted names and our own numbers
        )
        grants.say(f"GRANT SELECT ON {limited} TO {role}")
    grants.say(f"GRANT USAGE ON SCHEMA {name} TO {role}")


def _account_ids(grants: _Grants) -> list[int]:
    query = select(account.c.name, account.c.id).where(account.c.name.in_(bindparam("names", expanding=True)))
    found = {row.name: row.id for row in grants.connection.execute(query, {"names": list(grants.accounts)})}
    missing = [name for name in grants.accounts if name not in found]
    if missing:
        raise UnknownAccount(
            [f"the database has no account {name!r}" for name in missing], hint="cdrsync status lists them"
        )
    return sorted(found.values())


# ── MySQL and MariaDB ──────────────────────────────────────────────────────────────────────────────────────────────


def _mysql(grants: _Grants) -> Granted:
    name, host = _user(grants)
    # A role of MariaDB has no host. Quoted as text, which names of users may be.
    user = f"{_text(name)}@{_text(host)}" if host else _text(name)
    ((database,),) = grants.ask("SELECT DATABASE()")
    held = grants.ask(
        "SELECT DISTINCT table_name FROM information_schema.table_privileges"
        " WHERE table_schema = :database AND grantee IN (:user, :role)",
        database=database,
        user=f"'{name}'@'{host}'",
        role=f"'{name}'@''",
    )
    ours = {*grants.views, *metadata.tables}
    schema = grants.quote(str(database))
    for (table,) in held:
        if table in ours:
            grants.say(f"REVOKE ALL PRIVILEGES ON {schema}.{grants.quote(str(table))} FROM {user}")
    for table in grants.objects:
        grants.say(f"GRANT SELECT ON {schema}.{grants.quote(table)} TO {user}")
    return grants.done()


def _user(grants: _Grants) -> tuple[str, str]:
    """Name and host. It must exist: an old server makes an unknown user on GRANT, without a password."""
    name, at, host = grants.role.rpartition("@")
    if not at:
        name = grants.role
    hosts = [str(row[0]) for row in grants.ask("SELECT host FROM mysql.user WHERE user = :name", name=name)]
    if at and host in hosts:
        return name, host
    if at or not hosts:
        raise ConfigError([f"there is no user or role {grants.role!r}"], hint="CREATE USER name@host IDENTIFIED BY '…'")
    if len(hosts) > 1:
        choices = ", ".join(f"{name}@{found}" for found in sorted(hosts))
        raise ConfigError([f"there are several users {name!r}: say which of {choices}"])
    return name, hosts[0]


def _text(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
