"""How MySQL and MariaDB are reached and what is allowed there: options of a URL, TLS, rights, grants to readers."""

from __future__ import annotations

import inspect
import re
import ssl
import sys
from typing import TYPE_CHECKING, Any

import pymysql
from sqlalchemy.exc import DBAPIError

from cdrsync.errors import ConfigError
from cdrsync.store.databases import port
from cdrsync.store.databases.port import Obstacle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy.engine import URL, Connection

    from cdrsync.store.databases.grants import Grants

TLS_HINT = (
    "Write ssl_mode=REQUIRED (encrypted, whoever answers) or ssl_ca=/path/ca.pem&ssl_verify_identity=true "
    "(encrypted, and it is the host that was named)"
)
MODES = ("DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")  # as MySQL's own client calls them
_MODE_NAMES = ("ssl_mode", "ssl-mode", "sslmode", "sslMode", "tls_mode")
_TLS_NAMES = (
    "ssl_ca", "ssl_capath", "ssl_cert", "ssl_key", "ssl_key_password", "ssl_cipher", "ssl_disabled",
    "ssl_check_hostname", "ssl_verify_cert", "ssl_verify_identity", *_MODE_NAMES,
)  # fmt: skip
_TRUTH = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_DRIVERS_OWN = frozenset(inspect.signature(pymysql.connections.Connection.__init__).parameters)
_SAID_ELSEWHERE = frozenset({"self", "ssl", "user", "password", "passwd", "host", "port", "database", "db"})

TO_SYNC = ("SELECT", "INSERT", "UPDATE", "DELETE")
TO_UPGRADE = ("CREATE", "ALTER", "DROP", "INDEX", "REFERENCES", "CREATE VIEW")
"""Rights on the database, of whoever syncs and of whoever makes the schema and brings it up to date."""

# Numbers of errors
NO_GRANT = 1141, 1147
NO_SUCH_USER = 1410, 1133


def plain_url(url: URL) -> URL:
    """The URL without its options of TLS, which `tls` reads. Raises ConfigError for an option that nobody knows."""
    for name in url.query:
        if name in ("ssl", "useSSL", "tls", "use_ssl", "require_secure_transport"):
            raise ConfigError([f"database_url: {name}= does not say whom to trust"], hint=TLS_HINT)
        if name not in _TLS_NAMES and (name not in _DRIVERS_OWN or name in _SAID_ELSEWHERE or name.startswith("ssl")):
            raise ConfigError(
                [f"database_url has an option that MySQL's driver does not know: {name}"],
                hint="Leave it away; for TLS there are ssl_mode, ssl_ca, ssl_cert, ssl_key and ssl_verify_identity",
            )
    return url.difference_update_query(_TLS_NAMES)


def tls(url: URL) -> dict[str, Any]:
    """What the driver must be told of TLS.

    By the driver's own options a wrong authority may pass for the right one: SQLAlchemy and PyMySQL understand them
    differently. So they are read here, and the driver gets a finished context. Raises ConfigError.
    """
    said = {name: _last(url.query[name]) for name in _TLS_NAMES if name in url.query}
    mode = _mode(said)
    if mode == "PREFERRED":
        # To be ready for TLS, PyMySQL loads every certificate authority; a socket of this machine has no use for it.
        return {"ssl_disabled": True} if "unix_socket" in url.query else {}
    if mode == "DISABLED":
        return {"ssl_disabled": True}
    try:
        context = ssl.create_default_context(cafile=said.get("ssl_ca"), capath=said.get("ssl_capath"))
        if "ssl_cert" in said:
            context.load_cert_chain(said["ssl_cert"], said.get("ssl_key"), said.get("ssl_key_password"))
        if "ssl_cipher" in said:
            context.set_ciphers(said["ssl_cipher"])
    except OSError as error:  # ssl.SSLError too
        files = ", ".join(
            f"{name}={said[name]}" for name in ("ssl_ca", "ssl_capath", "ssl_cert", "ssl_key") if name in said
        )
        reason = error.strerror or str(error)
        raise ConfigError([f"database_url: TLS can't be prepared with {files}: {reason}"]) from None
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # the authorities that MySQL makes for itself are of an older kind
    context.check_hostname = mode == "VERIFY_IDENTITY"
    context.verify_mode = ssl.CERT_NONE if mode == "REQUIRED" else ssl.CERT_REQUIRED
    return {"ssl": context}


def _mode(said: dict[str, str]) -> str:
    for name in _MODE_NAMES:
        if name in said:
            mode = said[name].upper().replace("-", "_")
            mode = {"REQUIRE": "REQUIRED", "DISABLE": "DISABLED", "PREFER": "PREFERRED"}.get(mode, mode)
            mode = {"VERIFY_FULL": "VERIFY_IDENTITY"}.get(mode, mode)
            if mode not in MODES:
                raise ConfigError([f"database_url: {name}={said[name]} is none of {', '.join(MODES)}"], hint=TLS_HINT)
            return mode
    flags = {name: _flag(name, said[name]) for name in said if name.startswith(("ssl_verify", "ssl_check", "ssl_dis"))}
    if flags.pop("ssl_disabled", False):
        return "DISABLED"
    if any(flags.get(name) for name in ("ssl_verify_identity", "ssl_check_hostname")):
        return "VERIFY_IDENTITY"
    if flags.get("ssl_verify_cert") is False:
        return "REQUIRED"
    if "ssl_ca" in said or "ssl_capath" in said or flags.get("ssl_verify_cert"):
        refused = any(flags.get(name) is False for name in ("ssl_verify_identity", "ssl_check_hostname"))
        return "VERIFY_CA" if refused else "VERIFY_IDENTITY"
    return "REQUIRED" if "ssl_cert" in said else "PREFERRED"


def _flag(name: str, text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise ConfigError([f"database_url: {name}={text} is neither true nor false"], hint=TLS_HINT)
    return _TRUTH[text.lower()]


def _last(value: str | tuple[str, ...]) -> str:
    return value if isinstance(value, str) else value[-1]


# ── rights ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Connection(pymysql.connections.Connection):
    """The driver's. Where nobody's certificate is looked at, it would read those that this machine trusts all the same.

    That takes longer than all else that a connection does.
    """

    def _create_ssl_ctx(self, options: Any) -> ssl.SSLContext:
        if options:
            driver: Any = super()
            asked: ssl.SSLContext = driver._create_ssl_ctx(options)  # noqa: SLF001 - it is overridden here
            return asked
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context


def log_in(dialect: Any, record: Any, arguments: Any, options: Any) -> Any:
    """Connect. Some ways of logging in need packages of which the driver says so only when it comes to them."""
    del dialect, record
    try:
        return _Connection(*arguments, **options)
    except RuntimeError as error:
        package = "PyNaCl" if "nacl" in str(error) else "cryptography"
        raise ConfigError(
            [f"this server's way of logging in needs the package {package}, which is not installed"],
            hint=f"{sys.executable} -m pip install {package}",
        ) from error


def patient(seconds: float | None) -> Callable[[Any, Any], None]:
    """The limit of a read is for logging in, which has no other one; what is asked then may take longer."""

    def connected(connection: Any, record: Any) -> None:
        del record
        connection._read_timeout = seconds  # noqa: SLF001 - the driver sets it for the whole connection only

    return connected


WAITS = "SELECT CONNECTION_ID(), (SELECT command FROM information_schema.processlist WHERE id = %s)"


def obstacles(connection: Connection) -> Iterator[Obstacle]:
    """What keeps the user, or the server, from doing what sync needs."""
    (database,) = connection.exec_driver_sql("SELECT DATABASE()").one()
    held = _rights(connection, str(database))
    for needed, always in ((TO_SYNC, True), (TO_UPGRADE, False)):
        missing = ", ".join(right for right in needed if right not in held)
        if missing:
            remedy = f"GRANT {missing} ON `{database}`.* TO this user"
            other = "" if always else ", or let another one run cdrsync db upgrade"
            yield Obstacle(f"this user has no {missing} on {database}", f"{remedy}{other}", always)
    if connection.exec_driver_sql("SELECT @@global.read_only").scalar_one():
        yield Obstacle("this server is read-only, as a replica is", STANDBY_HINT)
    settings: dict[str, str] = dict(
        connection.exec_driver_sql(
            "SHOW VARIABLES WHERE Variable_name IN ('innodb_default_row_format', 'log_bin', 'binlog_format')"
        ).all()
    )
    if settings.get("innodb_default_row_format", "dynamic").lower() in ("compact", "redundant"):
        yield Obstacle("new tables have short keys only (innodb_default_row_format)", ROW_FORMAT_HINT, always=False)
    if settings.get("log_bin") == "ON" and settings.get("binlog_format") == "STATEMENT":
        yield Obstacle("the binary log takes statements only (binlog_format)", BINLOG_HINT)


STANDBY_HINT = "Name the server in database_url that can be written, or SET GLOBAL read_only = 0 on it"
_LOGIN_HINT = (
    "Mend user and password in database_url, or on the server: ALTER USER … IDENTIFIED BY …; one that it lets in with "
    "TLS alone needs ssl_mode=REQUIRED"
)

REMEDIES = {
    "^1290: .*read.only|^1836": STANDBY_HINT,
    "^1792": "SET GLOBAL transaction_read_only = 0 (tx_read_only on MariaDB before 11.1) on the server",
    "^1146": port.RESTORED_HINT,
    "^1205": port.LOCKED_HINT,
    "^(1040|1203|1226):": port.SLOTS_HINT,
    "^(3|1021|1114|1026):|errno: 28|No space left": port.DISK_HINT,
    "^(1045|1698|1820|1862|3118|4151):": _LOGIN_HINT,
    "^(1130|1129):": "Let this machine in, on the server: CREATE USER name@host, or FLUSH HOSTS where it is blocked",
    "^1049:": "Mend the database's name in database_url, or CREATE DATABASE on the server",
    "^(2006|2013|1053|1927|0):": port.LOST_HINT,
    "certificate|SSL|TLS": TLS_HINT,
    "Name or service|name resolution|nodename": port.NAME_HINT,
    "^(2002|2003):": port.START_HINT,
}

ROW_FORMAT_HINT = "SET GLOBAL innodb_default_row_format = dynamic, and in the server's configuration"
BINLOG_HINT = "SET GLOBAL binlog_format = 'ROW' (or MIXED), and in the server's configuration"


def _rights(connection: Connection, database: str) -> set[str]:
    """Rights on all of a database, by the user's own grants and those of the roles that are active."""
    rights: set[str] = set()
    for (grant,) in connection.exec_driver_sql("SHOW GRANTS"):
        found = re.match(r"GRANT (.+?) ON (?:`((?:[^`]|``)+)`|\*)\.\* TO ", grant)
        if found and (found[2] is None or _like(found[2], database)):
            rights.update(right.strip() for right in found[1].upper().split(","))
    return {*TO_SYNC, *TO_UPGRADE} if any(right.startswith("ALL PRIVILEGES") for right in rights) else rights


def _like(pattern: str, name: str) -> bool:
    r"""Whether a name is meant by a grant: `_` and `%` stand for anything there, unless behind a backslash."""
    parts = re.findall(r"\\.|.", pattern.replace("``", "`"))
    wild = {"_": ".", "%": ".*"}
    return (
        re.fullmatch("".join(wild.get(part) or re.escape(part.removeprefix("\\")) for part in parts), name) is not None
    )


# ── readers ────────────────────────────────────────────────────────────────────────────────────────────────────────


def grant(grants: Grants) -> None:
    """On each view by itself: there is nothing between a table and all of the database."""
    if grants.accounts:
        raise ConfigError(["only PostgreSQL can limit a reader to accounts"], hint="Leave --account away")
    hosts = _hosts(grants)
    name, host = _user(grants, hosts)
    # A role of MariaDB has no host. Quoted as text, which names of users may be.
    user = f"{_quoted(name)}@{_quoted(host)}" if host else _quoted(name)
    ((database,),) = grants.ask("SELECT DATABASE()")
    schema = grants.quote(database)
    for table in _granted(grants, name, host, database) if hosts is not None else grants.ours:
        _revoke(grants, f"{schema}.{grants.quote(table)}", user)
    for table in grants.objects:
        try:
            grants.say(f"GRANT SELECT ON {schema}.{grants.quote(table)} TO {user}")
        except DBAPIError as error:
            if _number(error) in NO_SUCH_USER:
                raise _nobody(grants.role) from error
            raise


def _hosts(grants: Grants) -> list[str] | None:
    """The hosts of the users of this name; None where we may not know: we own the database, not the server."""
    name = grants.role.rpartition("@")[0] or grants.role
    query = "SELECT host FROM mysql.user WHERE user = %s"
    try:
        with grants.connection.engine.connect() as beside:  # where we may not, its session ends (mysql.STALE)
            return [str(host) for host in beside.exec_driver_sql(query, (name,)).scalars()]
    except DBAPIError as error:
        if _number(error) in NO_PRIVILEGE:
            return None
        raise


def _user(grants: Grants, hosts: list[str] | None) -> tuple[str, str]:
    """Name and host. It must exist: an old server makes an unknown user on GRANT, without a password."""
    name, at, host = grants.role.rpartition("@")
    if not at:
        name = grants.role
    if hosts is None:
        return name, host if at else "%"
    if at and host in hosts:
        return name, host
    if at or not hosts:
        raise _nobody(grants.role)
    if len(hosts) > 1:
        choices = ", ".join(f"{name}@{found}" for found in sorted(hosts))
        raise ConfigError([f"there are several users {name!r}: say which of {choices}"])
    return name, hosts[0]


def _nobody(role: str) -> ConfigError:
    return ConfigError([f"there is no user or role {role!r}"], hint="CREATE USER name@host IDENTIFIED BY '…'")


def _granted(grants: Grants, name: str, host: str, database: str) -> list[str]:
    """What of ours the user was granted something on before."""
    held = grants.ask(
        "SELECT DISTINCT table_name FROM information_schema.table_privileges"
        " WHERE table_schema = :database AND grantee IN (:user, :role)",
        database=database,
        user=f"'{name}'@'{host}'",
        role=f"'{name}'@''",
    )
    return [table for (table,) in held if table in grants.ours]


def _revoke(grants: Grants, table: str, user: str) -> None:
    try:
        grants.say(f"REVOKE ALL PRIVILEGES ON {table} FROM {user}")
    except DBAPIError as error:
        if _number(error) not in NO_GRANT:
            raise


def _number(error: DBAPIError) -> object:
    return error.orig.args[0] if error.orig and error.orig.args else None


NO_PRIVILEGE = (1044, 1142, 1143, 1227)
GRANT_HINT = "Run it as who may grant, such as root (--database-url), or give this user its rights WITH GRANT OPTION"


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "''") + "'"
