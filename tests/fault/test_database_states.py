"""What a database may say of itself: no room, no rights, no connection, in a moment perhaps. No fault of the page's.

Raised by real servers; the page is rolled back whole and saved again once the state has passed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, func, select

from cdrsync.config.values import Listen
from cdrsync.errors import ConfigError, DatabaseUnavailable, Retry
from cdrsync.monitor.activity import Activity
from cdrsync.monitor.metrics import Metrics
from cdrsync.store.databases import engine as store_engine
from cdrsync.store.databases import errors, port, postgresql_access
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.schema.tables import cdr
from cdrsync.wiring.page import serve
from tests.fault.fresh import upgraded
from tests.fault.trouble import MARIADB, POSTGRESQL, SERVERS, SQLITE, cut, persist
from tests.support import plain_http
from tests.support.configuration import settings
from tests.support.databases import MariadbServer, PostgresqlServer, database_name
from tests.support.examples import FIRST, page
from tests.support.processes import cdrsync, environment
from tests.support.rig import rig
from tests.support.stores import OwnStore
from tests.support.tools import missing
from tests.support.web import well

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from tests.conftest import Database

STALL = 10.0  # seconds that a busy machine may add
SAID = {
    "postgresql": ["40001", "40P01", "55P03", "57014", "53100", "53200", "53300", "25006", "58030", "XX001"],
    "mariadb": ["1213", "1205", "1021", "1114", "1290", "1028", "1030", "1040", "1053", "1206", "3024"],
}

REMEDIES = {
    **dict.fromkeys(("53100", "1021", "1114"), port.DISK_HINT),
    **dict.fromkeys(("53300", "1040"), port.SLOTS_HINT),
    **dict.fromkeys(("55P03", "1205"), port.LOCKED_HINT),
    "25006": postgresql_access.STANDBY_HINT,
    "1053": port.LOST_HINT,
}
"""What a person is told to do; where nothing fits, to look at each step."""


@pytest.mark.parametrize(
    ("migrated", "code"), [(kind, code) for kind, codes in SAID.items() for code in codes], indirect=["migrated"]
)
def test_a_state_of_the_server_is_no_fault_of_the_page(migrated: Database, code: str) -> None:
    """Serialization, deadlock, lock, disk, memory, connections, read-only, I/O: said by the server."""
    with rig(migrated.url, calls=60, days=0.5) as r:
        with r.engine.begin() as connection:
            for statement in _raising(migrated.kind, code):
                connection.exec_driver_sql(statement)
        with pytest.raises(DatabaseUnavailable) as raised:
            r.run()
        assert raised.value.hint == REMEDIES.get(code, DatabaseUnavailable.default_hint)
        with r.engine.begin() as connection:
            assert connection.scalar(select(func.count()).select_from(cdr)) == 0
            connection.exec_driver_sql("DROP TRIGGER trouble" + (" ON cdr" if migrated.kind == "postgresql" else ""))
        assert persist(r)[1:] == []
        assert r.assert_equal() == 60


def _raising(kind: str, code: str) -> list[str]:
    if kind == "mariadb":
        say = f"SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = 'trouble'"
        return [f"CREATE TRIGGER trouble BEFORE INSERT ON cdr FOR EACH ROW {say}"]
    say = f"$$ BEGIN RAISE EXCEPTION 'trouble' USING ERRCODE = '{code}'; END $$"
    return [
        f"CREATE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS {say}",
        "CREATE TRIGGER trouble BEFORE INSERT ON cdr FOR EACH ROW EXECUTE FUNCTION trouble()",
    ]


@POSTGRESQL
@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_in_an_encoding_of_its_own(migrated: Database, encoding: str) -> None:
    """SQL_ASCII, which initdb takes where no locale is set, holds any text; LATIN1 would hold up every page."""
    server = migrated.server
    assert isinstance(server, PostgresqlServer)
    name = f"{database_name(migrated.url)}_{encoding.lower()}"
    server.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{encoding}'")
    url, texts = server.url(name), ["Zoë & Søn £", "المكتب 🐌"]
    try:
        if encoding == "LATIN1":
            with pytest.raises(ConfigError, match="is in LATIN1, which can't hold every name"):
                upgraded(url)
        else:
            with contextlib.closing(OwnStore(upgraded(url), "default")) as store:
                store.open()
                store.save(page(*(FIRST._replace(uid=uid, alias=alias) for uid, alias in enumerate(texts, 1))))
            engine = open_engine(url)
            with engine.connect() as connection:
                assert list(connection.scalars(select(cdr.c.alias).order_by(cdr.c.uid))) == texts
            engine.dispose()
    finally:
        server.drop(url)


@POSTGRESQL
def test_a_read_only_database_on_postgresql(migrated: Database) -> None:
    """As after a failover to a standby: waits, and goes on when it can be written again."""
    name = database_name(migrated.url)
    with rig(migrated.url, calls=60, days=0.5) as r:
        migrated.server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")  # type: ignore[attr-defined]
        cut(migrated)
        with pytest.raises(Retry):
            r.run()
        with pytest.raises(DatabaseUnavailable, match=r"read-only.*target_session_attrs=read-write"):
            r.run()
        migrated.server.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")  # type: ignore[attr-defined]
        assert persist(r) == []  # no session stays that was opened while it could not
        assert r.assert_equal() == 60


@pytest.mark.own_server
@MARIADB
def test_a_read_only_server_on_mariadb(migrated: Database) -> None:
    """Likewise, for a user without the right to write all the same."""
    server = migrated.server
    assert isinstance(server, MariadbServer)
    server.execute("CREATE OR REPLACE USER plain@localhost")
    server.execute("CREATE OR REPLACE USER plain@'127.0.0.1'")
    server.execute(f"GRANT ALL ON {database_name(migrated.url)}.* TO plain@'127.0.0.1'")
    with rig(migrated.url.replace("root@", "plain@"), calls=60, days=0.5) as r:
        server.execute("SET GLOBAL read_only = 1")
        try:
            with pytest.raises(DatabaseUnavailable, match="read-only"):
                r.run()
        finally:
            server.execute("SET GLOBAL read_only = 0")
        assert len(persist(r)) <= 1
        assert r.assert_equal() == 60


@pytest.mark.waits
@SERVERS
@pytest.mark.own_server
@pytest.mark.parametrize("idle", [0.0, 1.5])
def test_a_frozen_server_is_said_in_time(migrated: Database, idle: float) -> None:
    """Its kernel still answers: the page in hand is given up within 20 s, whether another came just before or not."""
    assert isinstance(migrated.server, PostgresqlServer | MariadbServer)
    with contextlib.closing(OwnStore(migrated.url, "default", lease_seconds=60.0)) as store:
        store.open()
        store.save(page(FIRST))
        time.sleep(idle)
        migrated.server.freeze()
        begun = time.monotonic()
        try:
            with pytest.raises(DatabaseUnavailable):
                store.save(page(FIRST._replace(uid=2)))
            assert time.monotonic() - begun < 20 + STALL
        finally:
            migrated.server.thaw()
        store.open()
        assert store.save(page(FIRST._replace(uid=2))).records == 1


@pytest.mark.waits
@SERVERS
@pytest.mark.own_server
def test_who_only_reads_from_a_frozen_server_is_told(migrated: Database) -> None:
    """Within 30 s, in the middle of a query and between two."""
    assert isinstance(migrated.server, PostgresqlServer | MariadbServer)
    sleep = "pg_sleep" if migrated.kind == "postgresql" else "SLEEP"
    engine = open_engine(migrated.url)

    def ask(connection: Connection) -> None:
        with pytest.raises(DatabaseUnavailable), errors.translated():
            connection.exec_driver_sql(f"SELECT {sleep}(60)")

    with contextlib.ExitStack() as opened, ThreadPoolExecutor() as beside:
        opened.callback(engine.dispose)
        asking, waiting = engine.connect(), engine.connect()
        opened.enter_context(asking)
        waiting.close()
        asked = beside.submit(ask, asking)
        assert wait([asked], 0.5).not_done
        begun = time.monotonic()
        migrated.server.freeze()
        try:
            with pytest.raises(DatabaseUnavailable), errors.translated():
                engine.connect().exec_driver_sql("SELECT 1")
            asked.result()
            assert time.monotonic() - begun < 30 + STALL
        finally:
            migrated.server.thaw()


@pytest.mark.waits
@SERVERS
def test_who_looks_at_a_locked_table_is_told(
    migrated: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table is locked for hours while somebody rebuilds it: commands, page and metrics answer within seconds."""
    monkeypatch.chdir(tmp_path)
    told = settings(CDRSYNC_DATABASE_URL=migrated.url)
    activity = Activity()
    activity.reset([well()])
    looks = ("status", "account list", "checkpoint show", "rejects list")
    with contextlib.ExitStack() as opened:
        metrics, listen = Metrics(activity), Listen("127.0.0.1", 0)
        server = serve(listen, settings=lambda: told, activity=activity, metrics=metrics, ring=lambda _: None)
        opened.callback(server.close)
        opened.enter_context(locked(migrated, "account", "checkpoint", "coverage", "erasure", "reject"))
        beside = opened.enter_context(ThreadPoolExecutor())
        env = environment("http://127.0.0.1:9/", migrated.url)
        commands = [beside.submit(cdrsync, *look.split(), env=env) for look in looks]
        doctor = beside.submit(cdrsync, "doctor", env=env, deadline=2 * STALL)  # it looks at the operator first
        metrics_seen = beside.submit(plain_http.get, f"{server.url}metrics")
        shown = plain_http.get(server.url)
        assert (shown.status_code, port.LOCKED_HINT in shown.text) == (200, True)
        assert "cdrsync_build_info" in metrics_seen.result().text
        for command in commands:
            assert (command.result().returncode, port.LOCKED_HINT in command.result().stderr) == (69, True), (
                command.result()
            )
            assert "LINE " not in command.result().stderr  # of the statement
        assert (doctor.result().returncode, port.LOCKED_HINT in doctor.result().stdout) == (69, True), doctor.result()


@contextlib.contextmanager
def locked(database: Database, *tables: str) -> Iterator[None]:
    """Tables that nobody else may read."""
    engine = open_engine(database.url)
    with engine.connect() as connection:
        if database.kind == "postgresql":
            connection.exec_driver_sql(f"LOCK TABLE {', '.join(tables)}")
        else:
            connection.exec_driver_sql(f"LOCK TABLES {' WRITE, '.join(tables)} WRITE")
        yield
        connection.invalidate()  # its session ends, and the locks with it
    engine.dispose()


@SQLITE
def test_a_read_only_file(migrated: Database) -> None:
    """SQLite opened on what may not be written: a state of the database, said in one line."""
    path = migrated.url.removeprefix("sqlite:///")
    with pytest.raises(DatabaseUnavailable, match="readonly"):
        OwnStore(f"sqlite:///file:{path}?mode=ro&uri=true", "default").open()


@MARIADB
@pytest.mark.parametrize("wrong", ["user", "database"])
def test_a_wrong_name_in_the_url(migrated: Database, wrong: str) -> None:
    """PyMySQL's own class for these is the one of many other things: they are told from a bug of ours by number."""
    url = migrated.url.replace("root@", "nobody:wrong@") if wrong == "user" else f"{migrated.url}_2"
    with pytest.raises(DatabaseUnavailable, match="Access denied" if wrong == "user" else "Unknown database"):
        OwnStore(url, "default").open()


@SERVERS
def test_no_connection_left(migrated: Database) -> None:
    """The server takes no more sessions: waits, and goes on when there is one again."""
    server = migrated.server
    with rig(migrated.url, calls=60, days=0.5) as r, contextlib.ExitStack() as crowd:
        if isinstance(server, MariadbServer):
            server.execute("DROP USER IF EXISTS crowd@'127.0.0.1'")
            server.execute("CREATE USER crowd@'127.0.0.1' WITH MAX_USER_CONNECTIONS 1")
            server.execute(f"GRANT ALL ON {database_name(migrated.url)}.* TO crowd@'127.0.0.1'")
            url = migrated.url.replace("root@", "crowd@")
        else:
            assert isinstance(server, PostgresqlServer)
            server.execute("DROP ROLE IF EXISTS crowd")
            server.execute("CREATE ROLE crowd LOGIN")
            url = migrated.url.replace("postgres@", "crowd@")
        engine = create_engine(url)
        crowd.callback(engine.dispose)
        crowd.enter_context(engine.connect())
        if isinstance(server, PostgresqlServer):
            server.execute(f"ALTER DATABASE {database_name(migrated.url)} CONNECTION LIMIT 1")
        with pytest.raises(DatabaseUnavailable):
            OwnStore(url, "default").open()
        if isinstance(server, PostgresqlServer):
            server.execute(f"ALTER DATABASE {database_name(migrated.url)} CONNECTION LIMIT -1")
        persist(r)
        assert r.assert_equal() == 60


@SERVERS
def test_the_readers_pool_exhausted(migrated: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many readers at once (a status page under load): said in one line, and the writer is not touched."""
    monkeypatch.setattr(store_engine, "CONNECT_SECONDS", 1)
    engine = open_engine(migrated.url)
    with rig(migrated.url, calls=60, days=0.5) as r, contextlib.ExitStack() as held:
        held.callback(engine.dispose)
        for _ in range(store_engine.POOL):
            held.enter_context(engine.connect())
        with pytest.raises(DatabaseUnavailable, match="no free connection"), errors.translated():
            engine.connect()
        r.run()
        assert r.assert_equal() == 60


# ── a full disk ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of a few megabytes. Only root can make one.

    It is in no folder of pytest's: each pytest that begins closes that to other users, such as the one of the server.
    """
    disk = Path(tempfile.mkdtemp(prefix="cdrdisk-"))
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        disk.rmdir()
        missing("a tmpfs can't be mounted here: run as root")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
        disk.rmdir()


def test_a_full_disk_under_sqlite(small_disk: Path) -> None:
    """Pages until it is full, then none, nothing half; with room again it goes on."""
    url = f"sqlite:///{small_disk}/cdrsync.db"
    upgraded(url)
    ballast = small_disk / "ballast"
    with rig(url, calls=3000) as r:
        free = os.statvfs(small_disk)
        ballast.write_bytes(bytes(free.f_bavail * free.f_frsize - 900_000))
        with pytest.raises(DatabaseUnavailable, match=r"full|disk I/O") as raised:
            r.run()
        assert "disk" in raised.value.hint
        ballast.unlink()
        persist(r)
        assert 0 < r.assert_equal() == 3000


@POSTGRESQL
def test_a_full_disk_under_postgresql(migrated: Database, small_disk: Path) -> None:
    """The tablespace of the calls is full: the server says so (53100), and with room again it goes on."""
    server = migrated.server
    assert isinstance(server, PostgresqlServer)
    if server.user:
        shutil.chown(small_disk, user=server.user)
        small_disk.chmod(0o700)
    server.execute(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
    try:
        with rig(migrated.url, calls=3000) as r:
            with r.engine.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE cdr SET TABLESPACE small")
            ballast = small_disk / "ballast"
            free = os.statvfs(small_disk)
            ballast.write_bytes(bytes(free.f_bavail * free.f_frsize - 300_000))
            with pytest.raises(DatabaseUnavailable, match="No space left") as raised:
                r.run()
            assert raised.value.hint == port.DISK_HINT
            ballast.unlink()
            persist(r)
            assert r.assert_equal() == 3000
    finally:
        server.drop(migrated.url)
        server.execute("DROP TABLESPACE small")
