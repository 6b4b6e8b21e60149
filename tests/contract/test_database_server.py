"""A MariaDB server that is not set up as ours are: TLS, a binary log, small packets, other quotes, other logins."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pymysql
import pytest
from sqlalchemy import make_url

from cdrsync.errors import ConfigError
from cdrsync.store.admin import migrate
from cdrsync.store.databases.engine import open_engine, url_of
from cdrsync.store.schema import tables
from tests.contract.first_sync import obstacles, synced
from tests.support.canary import DATABASE_PASSWORD
from tests.support.databases import MariadbServer, NotInstalled, database_name
from tests.support.examples import FIRST, calls
from tests.support.eyes import Eyes

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def test_quotes_of_other_databases(odd_url: str) -> None:
    """A server whose sql_mode is ANSI_QUOTES: our sessions have a mode of their own from their first statement on."""
    assert synced(odd_url, *calls(5)).inserted == 5


def test_every_table_knows_transactions(odd: OddServer, odd_url: str) -> None:
    """Also where the server makes other tables by itself: a lease that is not rolled back would be no fence."""
    odd.execute("SET GLOBAL default_storage_engine = MyISAM")
    try:
        assert synced(odd_url, *calls(5)).inserted == 5
    finally:
        odd.execute("SET GLOBAL default_storage_engine = InnoDB")
    query = "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND engine <> 'InnoDB'"
    engine = open_engine(odd_url)
    with engine.connect() as connection:
        assert connection.exec_driver_sql(query).all() == []
    engine.dispose()


def test_limits_against_people_who_type(odd: OddServer, odd_url: str) -> None:
    """A server that cuts each answer off, and refuses an UPDATE without a key: nothing is taken for missing."""
    odd.execute("SET GLOBAL sql_select_limit = 2, GLOBAL sql_safe_updates = 1, GLOBAL sql_big_selects = 0")
    try:
        assert synced(odd_url, *calls(5)).inserted == 5
        again = synced(odd_url, *(call._replace(duration=99) for call in calls(5)))
        assert (again.inserted, again.updated, again.rejected) == (0, 5, 0)
    finally:
        odd.execute("SET GLOBAL sql_select_limit = DEFAULT, GLOBAL sql_safe_updates = 0, GLOBAL sql_big_selects = 1")


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


def test_tls_is_used_where_it_is_offered(odd_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a word in the URL; and nobody's certificates are read for it, since none is looked at."""
    monkeypatch.setattr(ssl, "create_default_context", None)
    with open_engine(odd_url).connect() as connection:
        (cipher,) = connection.exec_driver_sql("SHOW STATUS LIKE 'Ssl_cipher'").all()
        assert cipher[1]


@pytest.mark.parametrize(
    ("name", "bad", "remedy", "before"),
    [
        ("innodb_default_row_format", "compact", "dynamic", "dynamic"),
        ("binlog_format", "'STATEMENT'", "'ROW'", "'MIXED'"),
    ],
    ids=["rows that are too small for our keys", "a binary log of statements"],
)
def test_a_setting_that_does_not_do_is_refused_with_the_remedy(
    odd: OddServer, odd_url: str, name: str, bad: str, remedy: str, before: str
) -> None:
    """Doctor names it as well. Where it is as before, nothing is said, and a sync works."""
    odd.execute(f"SET GLOBAL {name} = {bad}")
    try:
        assert name in obstacles(odd_url)
        with pytest.raises(ConfigError, match="not set up for this") as refused:
            synced(odd_url)
        assert f"SET GLOBAL {name} = {remedy}" in str(refused.value.hint)
    finally:
        odd.execute(f"SET GLOBAL {name} = {before}")
    assert obstacles(odd_url) == ""
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
