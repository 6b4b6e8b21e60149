"""How databases are reached: URLs as providers hand them out, and servers that are not set up as ours are."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pymysql
import pytest
from sqlalchemy import make_url

from cdrsync.errors import ConfigError, DatabaseUnavailable
from cdrsync.store.admin import migrate
from cdrsync.store.admin.grant import grant_reader
from cdrsync.store.databases.choose import kind_of
from cdrsync.store.databases.engine import open_engine, url_of
from cdrsync.store.databases.errors import translated
from cdrsync.store.schema import tables
from tests.support.canary import DATABASE_PASSWORD
from tests.support.databases import MariadbServer, NotInstalled, PostgresqlServer, database_name
from tests.support.examples import FIRST, calls, page
from tests.support.eyes import Eyes
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Database

POSTGRESQL = "postgresql+psycopg://user@127.0.0.1:5432/name"
MYSQL = "mysql+pymysql://user@127.0.0.1:3306/name"


def arguments(url: str) -> dict[str, Any]:
    """What the driver is told by a URL."""
    engine = open_engine(url)
    return dict(engine.dialect.create_connect_args(engine.url)[1])


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgres://user@host/name", {"host": "host", "dbname": "name"}),
        ("postgres://user@h1:5432,h2:5433/name", {"host": "h1,h2", "port": "5432,5433"}),
        ("postgresql://user:a%2Cb@h1,h2/name?target_session_attrs=read-write", {"host": "h1,h2", "password": "a,b"}),
        (f"{POSTGRESQL}?ssl-mode=REQUIRED", {"sslmode": "require"}),
        (f"{POSTGRESQL}?sslmode=VERIFY_IDENTITY&sslrootcert=ca.pem", {"sslmode": "verify-full"}),
        (f"{POSTGRESQL}?ssl=true", {"sslmode": "require"}),
        (f"{POSTGRESQL}?schema=calls", {"options": "-csearch_path=calls"}),
        (f"{POSTGRESQL}?pgbouncer=true&connection_limit=1", {"host": "127.0.0.1"}),
        (f"{POSTGRESQL}?sslmode=require&channel_binding=require", {"channel_binding": "require"}),
        (f"{MYSQL}?charset=utf8mb4", {"host": "127.0.0.1"}),
    ],
)
def test_urls_as_providers_hand_them_out(url: str, told: dict[str, str]) -> None:
    """What is meant is clear, so it is done; what other clients need and we do not is left out."""
    found = arguments(url)
    assert {name: found.get(name) for name in told} == told
    assert not {"pgbouncer", "schema", "ssl-mode", "connection_limit"} & found.keys()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"{POSTGRESQL}?sslmode=maybe", "sslmode=maybe is none of disable, allow"),
        (f"{POSTGRESQL}?colour=red", "PostgreSQL does not know: colour"),
        (f"{MYSQL}?colour=red", "driver does not know: colour"),
        (f"{MYSQL}?ssl=true", "ssl= does not say whom to trust"),
        (f"{MYSQL}?ssl-mode=MAYBE", "ssl-mode=MAYBE is none of DISABLED, PREFERRED"),
        (f"{MYSQL}?ssl_verify_identity=perhaps", "neither true nor false"),
        (f"{MYSQL}?ssl_ca=/nonexistent/ca.pem", "TLS can't be prepared with ssl_ca=/nonexistent/ca.pem: No such file"),
        ("mysql://user@h1:3306,h2:3306/name", "driver does not know: host"),
    ],
)
def test_options_that_nobody_knows_are_named(url: str, words: str) -> None:
    """Before anything is connected, with what to write instead."""
    with pytest.raises(ConfigError, match=words) as refused:
        open_engine(url)
    assert refused.value.hint


@pytest.mark.parametrize("url", [f"{POSTGRESQL}?connect_timeout=soon", f"{MYSQL}?connect_timeout=soon"])
def test_an_option_that_is_to_be_a_number(url: str) -> None:
    """Said before or at the first connection, and a matter of configuration."""
    with pytest.raises(ConfigError, match=r"option that can't be read: .*soon"), translated():
        open_engine(url).connect()


@pytest.mark.parametrize(
    ("query", "verified", "host"),
    [
        ("ssl_mode=REQUIRED", False, False),
        ("ssl-mode=REQUIRED", False, False),
        ("ssl_mode=VERIFY_CA", True, False),
        ("sslmode=verify-full", True, True),
        ("ssl_verify_identity=true", True, True),
        ("ssl_check_hostname=true", True, True),
        ("ssl_verify_cert=true", True, True),
        ("ssl_verify_cert=true&ssl_verify_identity=false", True, False),
        ("ssl_verify_cert=false", False, False),
    ],
)
def test_what_tls_options_of_mysql_mean(query: str, verified: bool, host: bool) -> None:
    """The strictest of what may be meant."""
    url = make_url(f"{MYSQL}?{query}")
    context = kind_of("mysql").connect_arguments(url, writer=False)["ssl"]
    assert (context.verify_mode.name == "CERT_REQUIRED", context.check_hostname) == (verified, host)


# ── a server that is not set up as ours are ────────────────────────────────────────────────────────────────────────

NOBODY = 65_534
PACKET = 65_536


class OddServer(MariadbServer):
    folder: Path


@pytest.fixture(scope="module")
def odd() -> Iterator[OddServer]:
    """MariaDB with TLS, a binary log, small packets and quotes like everybody else's."""
    folder = Path(tempfile.mkdtemp(prefix="cdrsync-tls-", dir="/tmp"))
    folder.chmod(0o755)  # the server runs as somebody else
    certificates(folder)
    settings = (
        "--log-bin=log-bin", "--binlog-format=MIXED", "--sql-mode=ANSI_QUOTES", f"--max-allowed-packet={PACKET}",
        f"--ssl-ca={folder}/ca.pem", f"--ssl-cert={folder}/server.pem", f"--ssl-key={folder}/server.key",
        "--plugin-load-add=auth_ed25519",
    )  # fmt: skip
    try:
        server = OddServer(settings=settings)
    except NotInstalled as missing:
        pytest.skip(str(missing))
    server.folder = folder
    yield server
    server.close()
    shutil.rmtree(folder)


def certificates(folder: Path) -> None:
    """Two authorities, and a server's certificate of the first."""
    for name in ("ca", "other"):
        openssl(folder, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out",
                f"{name}.pem", "-days", "2", "-subj", f"/CN={name}")  # fmt: skip
    openssl(folder, "req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key", "-out", "server.csr", "-subj",
            "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")  # fmt: skip
    openssl(folder, "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", "server.pem", "-days", "2", "-copy_extensions", "copy")  # fmt: skip
    (folder / "server.key").chmod(0o644)


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def odd_url(odd: OddServer) -> Iterator[str]:
    url = odd.create()
    yield url
    odd.drop(url)


def synced(url: str, *cdrs: Any) -> Any:
    """A first sync in a few words: schema, lease, one page."""
    engine = open_engine(url)
    try:
        migrate.upgrade(engine)
    finally:
        engine.dispose()
    store = OwnStore(url, "main")
    store.open()
    try:
        return store.save(page(*(cdrs or [FIRST])))
    finally:
        store.close()


def troubles(url: str) -> str:
    """What the doctor says of a database."""
    engine = open_engine(url)
    with engine.connect() as connection:
        found = list(kind_of(engine.dialect.name).troubles(connection))
    engine.dispose()
    return "; ".join(f"{one.what} → {one.remedy}" for one in found)


def test_quotes_of_other_databases(odd_url: str) -> None:
    """A server whose sql_mode is ANSI_QUOTES: our sessions have a mode of their own from their first statement on."""
    assert synced(odd_url, *calls(5)).inserted == 5


def test_an_upgrade_connects_as_the_url_says(odd: OddServer, odd_url: str) -> None:
    """Each of its connections, the lease's too: to a user that may not log in without TLS the server takes no other."""
    odd.execute("CREATE OR REPLACE USER tls@'127.0.0.1' REQUIRE SSL")
    odd.execute(f"GRANT ALL ON {database_name(odd_url)}.* TO tls@'127.0.0.1'")
    url = odd_url.replace("root@", "tls@")
    engine = open_engine(f"{url}?ssl_ca={odd.folder}/ca.pem")
    assert url_of(engine).query == {"ssl_ca": f"{odd.folder}/ca.pem"}
    migrate.upgrade_apart(engine)
    migrate.downgrade(engine, "base")
    migrate.upgrade(engine)
    migrate.check(engine)
    engine.dispose()


@pytest.mark.parametrize(
    ("ca", "query", "works"),
    [
        ("ca.pem", "ssl_verify_identity=true", True),
        ("ca.pem", "", True),
        ("other.pem", "ssl_verify_identity=true", False),
        ("other.pem", "", False),
        ("other.pem", "ssl_mode=VERIFY_CA", False),
        ("other.pem", "ssl_mode=REQUIRED", True),
    ],
)
def test_tls_is_verified(odd: OddServer, odd_url: str, ca: str, query: str, works: bool) -> None:
    """A server whose certificate another authority signed is not taken for the right one."""
    engine = open_engine(f"{odd_url}?ssl_ca={odd.folder}/{ca}&{query}".rstrip("&"))
    if works:
        with engine.connect() as connection:
            (cipher,) = connection.exec_driver_sql("SHOW STATUS LIKE 'Ssl_cipher'").all()
            assert cipher[1]
        return
    with pytest.raises(Exception, match="certificate verify failed"):
        engine.connect()


def test_row_format_that_is_too_small_for_our_keys(odd: OddServer, odd_url: str) -> None:
    odd.execute("SET GLOBAL innodb_default_row_format = compact")
    try:
        assert "innodb_default_row_format" in troubles(odd_url)
        with pytest.raises(ConfigError, match="not set up for this") as refused:
            synced(odd_url)
        assert "SET GLOBAL innodb_default_row_format = dynamic" in str(refused.value.hint)
    finally:
        odd.execute("SET GLOBAL innodb_default_row_format = dynamic")
    assert troubles(odd_url) == ""


def test_binary_log_of_statements(odd: OddServer, odd_url: str) -> None:
    odd.execute("SET GLOBAL binlog_format = 'STATEMENT'")
    try:
        assert "binlog_format" in troubles(odd_url)
        with pytest.raises(ConfigError, match="not set up for this") as refused:
            synced(odd_url)
        assert "SET GLOBAL binlog_format = 'ROW'" in str(refused.value.hint)
    finally:
        odd.execute("SET GLOBAL binlog_format = 'MIXED'")
    assert synced(odd_url).inserted == 1


def test_a_record_larger_than_a_packet_stops_no_other(odd_url: str) -> None:
    """It is kept in quarantine as far as it fits, with a word of what was cut; so is a change that is too large."""
    giant = FIRST._replace(uid=1, alias="x" * 100_000)
    quoted = FIRST._replace(uid=2, alias="\\'" * 20_000)
    long = FIRST._replace(uid=3, alias="'" * 14_000)
    saved = synced(odd_url, giant, quoted, long, *calls(300))
    assert (saved.inserted, saved.rejected, saved.unholdable) == (301, 2, (1, 2))
    engine = open_engine(odd_url)
    eyes = Eyes(engine)
    kept = {row.uid: row for row in eyes.rows(tables.reject)}
    assert "(cut: " in kept[1].raw
    assert "x" * 10_000 in kept[1].raw
    assert f"max_allowed_packet, {PACKET} bytes" in kept[1].problem
    changed = long._replace(alias="y" * 30_000)
    again = synced(odd_url, changed._replace(alias="z" * 62_000), *calls(3))
    assert (again.unchanged, again.rejected) == (3, 1)
    assert synced(odd_url, changed).updated == 1
    engine.dispose()


def test_a_page_larger_than_a_transaction_may_be_is_saved_in_halves(odd: OddServer, odd_url: str) -> None:
    """Galera and group replication limit write-sets; so does the binary log, by max_binlog_cache_size."""
    odd.execute("SET GLOBAL binlog_cache_size = 32768, max_binlog_cache_size = 65536")
    try:
        saved = synced(odd_url, *calls(2000))
        bad = FIRST._replace(uid=1, duration=2**40)
        again = synced(odd_url, bad, *(call._replace(uid=call.uid + 5000) for call in calls(2000)))
    finally:
        odd.execute("SET GLOBAL max_binlog_cache_size = DEFAULT")
    assert (saved.inserted, saved.updated, saved.unchanged) == (2000, 0, 0)
    assert (again.inserted, again.rejected, again.unholdable) == (2000, 1, (1,))
    assert synced(odd_url, *calls(2000)).unchanged == 2000


def test_logging_in_by_ed25519(odd: OddServer, odd_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra brings what it takes; where that lacks, the line that installs it is said."""
    with pymysql.connect(host="127.0.0.1", port=odd.port, user="root") as root, root.cursor() as cursor:
        cursor.execute("SET sql_log_bin = 0")  # it would hold the password
        cursor.execute(f"CREATE USER edward@'%' IDENTIFIED VIA ed25519 USING PASSWORD('{DATABASE_PASSWORD}')")
        cursor.execute("GRANT ALL ON *.* TO edward@'%'")
    url = make_url(odd_url).set(username="edward", password=DATABASE_PASSWORD)
    text = url.render_as_string(hide_password=False)
    assert synced(text).inserted == 1
    monkeypatch.setattr("pymysql._auth._nacl_bindings", False)
    monkeypatch.setitem(sys.modules, "nacl", None)
    with pytest.raises(ConfigError, match="needs the package PyNaCl") as refused:
        synced(text)
    assert refused.value.hint == f"{sys.executable} -m pip install PyNaCl"


def test_rights_that_lack_are_found(migrated: Database) -> None:
    """On this database, not on another; of those that are needed, also the rarer ones."""
    if migrated.kind == "sqlite":
        pytest.skip("SQLite has no users")
    name = database_name(migrated.url)
    user = f"poor_{name}"[:32]
    if isinstance(migrated.server, PostgresqlServer):
        migrated.server.execute(f"CREATE ROLE {user} LOGIN")
        url = migrated.url.replace("postgres@", f"{user}@")
        assert "may not read and write account, alembic_version, cdr" in troubles(url)
        return
    assert isinstance(migrated.server, MariadbServer)
    execute = migrated.server.execute
    execute(f"CREATE USER {user}@'%' IDENTIFIED BY ''")
    execute(f"GRANT ALL ON other_database.* TO {user}@'%'")
    some = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, CREATE VIEW"
    pattern = name.replace("_", r"\_")
    execute(f"GRANT {some} ON `{pattern}`.* TO {user}@'%'")
    url = make_url(migrated.url).set(username=user).render_as_string(hide_password=False)
    assert f"no DROP, REFERENCES on {name}" in troubles(url)
    execute(f"GRANT DROP, REFERENCES ON `{pattern}`.* TO {user}@'%'")
    assert troubles(url) == ""
    execute(f"DROP USER {user}@'%'")


def test_postgresql_without_the_right_to_make_tables(database: Database) -> None:
    """As PostgreSQL 15 and later have it for everybody but the owner of the database."""
    if not isinstance(database.server, PostgresqlServer):
        pytest.skip("PostgreSQL's schemas")
    user = f"tenant_{database_name(database.url)}"
    database.server.execute(f"CREATE ROLE {user} LOGIN")
    url = database.url.replace("postgres@", f"{user}@")
    assert "GRANT USAGE, CREATE ON SCHEMA public" in troubles(url)
    with pytest.raises(ConfigError, match="permission denied for schema public") as refused:
        synced(url)
    assert "GRANT USAGE, CREATE ON SCHEMA public" in str(refused.value.hint)
    nowhere = f"{url}&schema=nowhere"
    assert "names no schema that is there" in troubles(nowhere)
    with pytest.raises((ConfigError, DatabaseUnavailable), match="no schema"):
        synced(nowhere)


def test_the_owner_of_a_database_grants_without_owning_the_server(migrated: Database) -> None:
    """Who may not read mysql.user grants to a user that is there, and narrows what was granted before."""
    if not isinstance(migrated.server, MariadbServer):
        pytest.skip("MySQL and MariaDB keep their users in a table that owners of a database may not read")
    execute, name = migrated.server.execute, database_name(migrated.url)
    owner, reader = f"own_{name}"[:32], f"read_{name}"[:32]
    for user in (owner, reader):
        execute(f"CREATE USER {user}@'%' IDENTIFIED BY ''")
    execute(f"GRANT ALL ON {name}.* TO {owner}@'%' WITH GRANT OPTION")
    url = make_url(migrated.url)
    engine = open_engine(url.set(username=owner).render_as_string(hide_password=False))
    own = open_engine(url.set(username=reader).render_as_string(hide_password=False))
    grant_reader(engine, reader, tables=True)
    with own.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM reject").scalar() == 0
    grant_reader(engine, f"{reader}@%")
    with own.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM calls").scalar() == 0
        with pytest.raises(ConfigError, match="too few rights"), translated():
            connection.exec_driver_sql("SELECT count(*) FROM reject")  # none of the tables that the views read
    with pytest.raises(ConfigError, match="no user or role 'nobody_here'"):
        grant_reader(engine, "nobody_here")
    for one in (engine, own):
        one.dispose()
    for user in (owner, reader):
        execute(f"DROP USER {user}@'%'")


def read_as_somebody_else(url: str) -> str:
    """How many calls are read, or why none: by a process of a user that owns nothing. All it needs is imported."""
    receive, send = multiprocessing.Pipe(duplex=False)

    def read() -> None:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        try:
            with translated(), open_engine(url).connect() as connection:
                send.send(str(connection.exec_driver_sql("SELECT count(*) FROM cdr").scalar()))
        except ConfigError as error:
            send.send(f"{error.exit_code}: {error}")

    process = multiprocessing.get_context("fork").Process(target=read)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    return str(receive.recv())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_reader_of_sqlite_who_may_not_write() -> None:
    """Beside a daemon it reads; alone SQLite refuses, which is said with what works."""
    folder = Path(tempfile.mkdtemp(prefix="cdrsync-read-", dir="/tmp"))
    folder.chmod(0o755)
    url = f"sqlite:///{folder}/calls.db"
    assert synced(url).inserted == 1
    (folder / "calls.db").chmod(0o644)
    try:
        alone = read_as_somebody_else(url)
        assert alone.startswith("78: this user may not write in the folder of the database file")
        assert "read a copy of it" in alone
        store = OwnStore(url, "main")
        store.open()
        assert read_as_somebody_else(url) == "1"
        store.close()
    finally:
        shutil.rmtree(folder)
