"""What databases do to their clients, done by real servers: each time the page is rolled back whole and saved again.

The sync is run as the daemon runs it: whatever passes by itself (`Retry`) is tried again from the position that the
database then has. Afterwards the table must equal the operator's records, value by value.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, func, select, text

from cdrsync.errors import DatabaseUnavailable, LeaseLost, Retry
from cdrsync.sandbox import Fault
from cdrsync.store import engine as store_engine
from cdrsync.store import lease
from cdrsync.store.engine import open_engine
from cdrsync.store.sql import SqlStore
from cdrsync.store.tables import cdr, checkpoint
from tests.databases import MariadbServer, PostgresqlServer, database_name
from tests.fault import points
from tests.fault.fresh import upgraded
from tests.rig import Rig, rig
from tests.tools import missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Database, Servers

SERVERS = pytest.mark.parametrize("migrated", ["postgresql", "mariadb"], indirect=True)
POSTGRESQL = pytest.mark.parametrize("migrated", ["postgresql"], indirect=True)
MARIADB = pytest.mark.parametrize("migrated", ["mariadb"], indirect=True)
SQLITE = pytest.mark.parametrize("migrated", ["sqlite"], indirect=True)
WITHIN = ("begun", "compared", "inserted", "ledger", "moved", "commit")
"""Points within a transaction, from its first statement to the moment before its commit."""
ATTEMPTS = 30


def persist(r: Rig, step: str = "catch_up") -> list[Retry]:
    """Run a step to its end as the daemon would; answers the failures on the way."""
    failures: list[Retry] = []
    while len(failures) < ATTEMPTS:
        try:
            if failures:
                r.store.refresh()
            r.run(step)
        except Retry as error:
            failures.append(error)
        else:
            return failures
    raise AssertionError(f"never recovered: {failures[-1]}")


@contextlib.contextmanager
def at(kind: str, point: str, nth: int, action: Callable[[], None]) -> Iterator[list[str]]:
    """Do something at the nth passing of a point, once; gives the list that then is not empty any more."""
    done: list[str] = []
    left = nth

    def reached(passed: str) -> None:
        nonlocal left
        if passed == point and not done:
            left -= 1
            if left == 0:
                done.append(point)
                action()

    with pytest.MonkeyPatch.context() as patch:
        end = points.watch(kind, reached, patch.setattr)
        try:
            yield done
        finally:
            end()


def cut(database: Database) -> None:
    """End every session of the database, as an administrator or a broken network would."""
    name, server = database_name(database.url), database.server
    if isinstance(server, PostgresqlServer):
        server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    elif isinstance(server, MariadbServer):
        for (session,) in server.execute(f"SELECT id FROM information_schema.processlist WHERE db = '{name}'"):
            server.execute(f"KILL {session}")


# ── servers that go away ───────────────────────────────────────────────────────────────────────────────────────────


@SERVERS
@pytest.mark.parametrize("point", WITHIN)
def test_connections_cut_at_any_point_of_a_transaction(migrated: Database, point: str) -> None:
    """Every session ended by the administrator, in mid-transaction: rolled back whole, read again, saved again."""
    with rig(migrated.url, calls=150) as r, at(migrated.kind, point, 2, lambda: cut(migrated)) as done:
        failures = persist(r)
        assert done == [point]
        assert failures
        assert r.assert_equal() == 150


@SERVERS
def test_connections_cut_before_every_statement_of_a_page(migrated: Database) -> None:
    """After each cut nothing of the page is there: neither rows nor checkpoint."""
    with rig(migrated.url, calls=40, days=0.2) as r:
        for nth in range(1, 60):
            with at(migrated.kind, "statement", nth, lambda: cut(migrated)) as done:
                try:
                    r.run("poll")
                except Retry:
                    with r.engine.connect() as connection:
                        rows = connection.scalar(select(func.count()).select_from(cdr))
                        mark = connection.scalar(select(checkpoint.c.high_water_uid).where(checkpoint.c.stream == "tail"))
                    assert mark is None or rows == 40
                    r.store.refresh()
            if not done:
                break
        else:
            raise AssertionError("a poll has fewer statements")
        assert r.assert_equal() == 40


@SERVERS
@pytest.mark.parametrize("point", ["inserted", "commit"])
def test_a_server_killed_in_mid_transaction(migrated: Database, point: str) -> None:
    """As by a power cut, and started again while the program waits."""

    def power_cut() -> None:
        migrated.server.stop(signal.SIGKILL)
        migrated.server.start()

    with rig(migrated.url, calls=150) as r, at(migrated.kind, point, 2, power_cut) as done:
        failures = persist(r)
        assert done
        assert isinstance(failures[0], DatabaseUnavailable | LeaseLost)
        r.engine.dispose()
        assert r.assert_equal() == 150


@SERVERS
def test_a_commit_whose_answer_is_lost(migrated: Database) -> None:
    """The server has committed, the program never hears of it: the page comes again and changes nothing."""
    with rig(migrated.url, calls=150) as r, at(migrated.kind, "committed", 4, lambda: _deaf(migrated)):
        assert persist(r)
        assert r.assert_equal() == 150


def _deaf(database: Database) -> None:
    cut(database)
    raise DatabaseUnavailable("the connection broke off before the answer to COMMIT")


# ── locks ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@SERVERS
def test_a_row_that_somebody_locks(migrated: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person's open transaction holds the checkpoint: the page is given up in time, and saved once it is free."""
    monkeypatch.setattr(lease, "IDLE_SECONDS", 2)  # in place of 12, the bound of each wait
    with rig(migrated.url, calls=150) as r:
        r.run("poll")
        r.world.add()
        with r.engine.connect() as person:
            person.execute(select(checkpoint).with_for_update()).all()
            r.store.refresh()
            begun = time.monotonic()
            with pytest.raises(DatabaseUnavailable):
                r.run("poll")
            assert time.monotonic() - begun < 10
        assert persist(r) == []
        assert r.assert_equal() == 151


@POSTGRESQL
def test_a_deadlock_on_postgresql(migrated: Database) -> None:
    """The server chooses us as the victim: the page is rolled back and saved again."""
    _deadlock(migrated, "SET deadlock_timeout = '60s'", "INSERT INTO number (number, first_seen_at) VALUES ('x', now())")


@MARIADB
def test_a_deadlock_on_mariadb(migrated: Database) -> None:
    """The other has written more, so the server rolls us back."""
    many = ",".join(f"('other {n}', NOW())" for n in range(3000))
    _deadlock(migrated, "SELECT 1", f"INSERT INTO number (number, first_seen_at) VALUES {many}")


def _deadlock(database: Database, *preparation: str) -> None:
    """Another session holds the checkpoint and waits for a ledger day of ours, while we go on to the checkpoint."""
    with rig(database.url, calls=150) as r:
        r.run("poll")
        r.world.add()
        other = create_engine(database.url)
        with other.connect() as connection:
            for statement in preparation:
                connection.execute(text(statement))
            connection.execute(text("SELECT * FROM checkpoint FOR UPDATE")).all()
            waiting = threading.Thread(target=connection.execute, args=(text("UPDATE coverage SET note = 'x'"),))

            def embrace() -> None:
                waiting.start()
                time.sleep(0.3)  # until the other really waits: the server shows it only some time later

            with at(database.kind, "ledger", 1, embrace) as done:
                with pytest.raises(DatabaseUnavailable, match=r"(?i)deadlock"):
                    r.run("poll")
                assert done
            waiting.join(30)
            connection.rollback()
        other.dispose()
        assert persist(r) == []
        assert r.assert_equal() == 151


@SQLITE
def test_a_bi_reader_of_sqlite_holds_nobody_up(migrated: Database) -> None:
    """A report that reads for hours, in the middle of its cursor: everything is saved meanwhile."""
    with rig(migrated.url, calls=150) as r:
        r.run("poll")
        with contextlib.closing(sqlite3.connect(migrated.url.removeprefix("sqlite:///"))) as reader:
            reader.execute("BEGIN")
            cursor = reader.execute("SELECT * FROM cdr")
            cursor.fetchone()
            assert persist(r) == []
            assert r.assert_equal() == 150


@SQLITE
def test_another_writer_of_sqlite(migrated: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A person's open transaction: given up in time, saved once it has ended."""
    monkeypatch.setattr(store_engine, "BUSY_SECONDS", 0.2)  # in place of 15
    with rig(migrated.url, calls=150) as r:
        with contextlib.closing(
            sqlite3.connect(migrated.url.removeprefix("sqlite:///"), isolation_level=None)
        ) as writer:
            writer.execute("BEGIN IMMEDIATE")
            with pytest.raises(DatabaseUnavailable, match="locked"):
                r.run()
            writer.execute("ROLLBACK")
        assert persist(r) == []
        assert r.assert_equal() == 150


# ── what a server says ─────────────────────────────────────────────────────────────────────────────────────────────

SAID = {
    "postgresql": ["40001", "40P01", "55P03", "57014", "53100", "53200", "53300", "25006", "58030", "XX001"],
    "mariadb": ["1213", "1205", "1021", "1114", "1290", "1028", "1030", "1040", "1053", "1206", "3024"],
}


@pytest.mark.parametrize(
    ("migrated", "code"), [(kind, code) for kind, codes in SAID.items() for code in codes], indirect=["migrated"]
)
def test_a_state_of_the_server_is_no_fault_of_the_page(migrated: Database, code: str) -> None:
    """Serialization, deadlock, lock, disk, memory, connections, read-only, I/O: raised by the server, then tried again."""
    with rig(migrated.url, calls=60, days=0.5) as r:
        with r.engine.begin() as connection:
            for statement in _raising(migrated.kind, code):
                connection.exec_driver_sql(statement)
        with pytest.raises(DatabaseUnavailable):
            r.run()
        with r.engine.begin() as connection:
            assert connection.scalar(select(func.count()).select_from(cdr)) == 0
            connection.exec_driver_sql("DROP TRIGGER trouble" + (" ON cdr" if migrated.kind == "postgresql" else ""))
        assert persist(r)[1:] == []
        assert r.assert_equal() == 60


def _raising(kind: str, code: str) -> list[str]:
    if kind == "mariadb":
        return [
            "CREATE TRIGGER trouble BEFORE INSERT ON cdr FOR EACH ROW"
            f" SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {code}, MESSAGE_TEXT = 'trouble'"
        ]
    return [
        "CREATE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN RAISE EXCEPTION 'trouble' USING ERRCODE = '{code}'; END $$",
        "CREATE TRIGGER trouble BEFORE INSERT ON cdr FOR EACH ROW EXECUTE FUNCTION trouble()",
    ]


@POSTGRESQL
def test_a_read_only_database_on_postgresql(migrated: Database) -> None:
    """As after a failover to a standby: waits, and goes on when it can be written again."""
    name = database_name(migrated.url)
    with rig(migrated.url, calls=60, days=0.5) as r:
        migrated.server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")  # type: ignore[attr-defined]
        cut(migrated)
        with pytest.raises(Retry):
            r.run()
        with pytest.raises(DatabaseUnavailable, match="read-only"):
            r.store.refresh()
        migrated.server.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")  # type: ignore[attr-defined]
        assert len(persist(r)) == 1
        assert r.assert_equal() == 60


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


@SQLITE
def test_a_read_only_file(migrated: Database) -> None:
    """SQLite opened on what may not be written: a state of the database, said in one line."""
    path = migrated.url.removeprefix("sqlite:///")
    with pytest.raises(DatabaseUnavailable, match="readonly"):
        SqlStore(f"sqlite:///file:{path}?mode=ro&uri=true", "default").open()


@SQLITE
def test_a_lock_file_that_can_not_be_opened(migrated: Database) -> None:
    """No rights, a file system that may not be written, a directory in its place: said in one line, no traceback."""
    path = migrated.url.removeprefix("sqlite:///")
    Path(f"{path}.default.lock").mkdir()
    with pytest.raises(DatabaseUnavailable, match="the lock file .* can't be opened: Is a directory"):
        SqlStore(migrated.url, "default").open()


@MARIADB
@pytest.mark.parametrize("wrong", ["user", "database"])
def test_a_wrong_name_in_the_url(migrated: Database, wrong: str) -> None:
    """PyMySQL's own class for these is the one of many other things: they are told from a bug of ours by number."""
    url = migrated.url.replace("root@", "nobody:wrong@") if wrong == "user" else f"{migrated.url}_2"
    with pytest.raises(DatabaseUnavailable, match="Access denied" if wrong == "user" else "Unknown database"):
        SqlStore(url, "default").open()


@SERVERS
def test_no_connection_left(migrated: Database) -> None:
    """The server takes no more sessions: waits, and goes on when there is one again."""
    server = migrated.server
    with rig(migrated.url, calls=60, days=0.5) as r, contextlib.ExitStack() as crowd:
        cut(migrated)
        with pytest.raises(Retry):
            r.run()
        if isinstance(server, MariadbServer):
            server.execute("CREATE OR REPLACE USER crowd@'127.0.0.1' WITH MAX_USER_CONNECTIONS 1")
            server.execute(f"GRANT ALL ON {database_name(migrated.url)}.* TO crowd@'127.0.0.1'")
            url = migrated.url.replace("root@", "crowd@")
        else:
            assert isinstance(server, PostgresqlServer)
            server.execute(f"ALTER DATABASE {database_name(migrated.url)} CONNECTION LIMIT 1")
            server.execute("DROP ROLE IF EXISTS crowd")
            server.execute("CREATE ROLE crowd LOGIN")
            url = migrated.url.replace("postgres@", "crowd@")
        engine = create_engine(url)
        crowd.callback(engine.dispose)
        crowd.enter_context(engine.connect())
        with pytest.raises(DatabaseUnavailable):
            SqlStore(url, "default").open()
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
        for _ in range(store_engine.READER_POOL):
            held.enter_context(engine.connect())
        with pytest.raises(DatabaseUnavailable, match="no free connection"), store_engine.translated():
            engine.connect()
        r.run()
        assert r.assert_equal() == 60


# ── a full disk ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes. Only root can make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        missing("a tmpfs can't be mounted here: run as root")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_under_sqlite(small_disk: Path) -> None:
    """Pages until it is full, then none, nothing half; with room again it goes on."""
    url = f"sqlite:///{small_disk}/cdrsync.db"
    upgraded(url)
    ballast = small_disk / "ballast"
    with rig(url, calls=3000) as r:
        free = os.statvfs(small_disk)
        ballast.write_bytes(bytes(free.f_bavail * free.f_frsize - 900_000))
        with pytest.raises(DatabaseUnavailable, match=r"full|disk I/O"):
            r.run()
        ballast.unlink()
        persist(r)
        assert 0 < r.assert_equal() == 3000


@POSTGRESQL
def test_a_full_disk_under_postgresql(migrated: Database, small_disk: Path) -> None:
    """The tablespace of the calls is full: the server says so (53100), and with room again it goes on."""
    server = migrated.server
    assert isinstance(server, PostgresqlServer)
    if server.user:
        for folder in (small_disk, *list(small_disk.parents)[:3]):
            folder.chmod(0o711)
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
            with pytest.raises(DatabaseUnavailable, match="No space left"):
                r.run()
            ballast.unlink()
            persist(r)
            assert r.assert_equal() == 3000
    finally:
        server.drop(migrated.url)
        server.execute("DROP TABLESPACE small")


# ── everything, to the daemon's own loop ───────────────────────────────────────────────────────────────────────────


@SERVERS
def test_faults_of_both_sides_at_once(migrated: Database) -> None:
    """An operator that fails every tenth answer, and a database that is cut every few statements."""
    with rig(migrated.url, calls=300) as r:
        r.world.faults.rates({Fault.HTTP_503: 0.05, Fault.TRUNCATED: 0.05})
        for nth in (3, 17, 31, 45, 59):
            with at(migrated.kind, "statement", nth, lambda: cut(migrated)):
                persist(r)
                r.world.add()
                r.clock.advance(900)
        r.world.faults.rates({})
        persist(r)
        assert r.assert_equal() == 305


def test_servers_are_up_again(servers: Servers) -> None:
    """The tests above leave no server down for those that follow."""
    for kind in ("postgresql", "mariadb"):
        server = servers.get(kind)
        assert isinstance(server, PostgresqlServer | MariadbServer)
        assert len(server.execute("SELECT 1")) == 1
