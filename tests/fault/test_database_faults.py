"""Databases that go away, are locked, or deadlock: real servers, and each time the page is rolled back and saved again.

The sync is run as the daemon runs it: whatever passes by itself (`Retry`) is tried again from the position that the
database then has. Afterwards the table must equal the operator's records, value by value.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import signal
import sqlite3
import threading
import time
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, func, select, text

from cdrsync.errors import DatabaseUnavailable, LeaseLost, Retry
from cdrsync.monitor import logs
from cdrsync.store.databases import port
from cdrsync.store.databases import sqlite as store_sqlite
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.schema.tables import cdr, checkpoint
from tests.fault.stand_in import StandIn
from tests.fault.start import Start
from tests.fault.trouble import MARIADB, POSTGRESQL, SERVERS, SQLITE, at, cut, persist, waits_for_a_lock
from tests.support.operator import Fault
from tests.support.processes import DEADLINE, environment, until
from tests.support.rig import assert_equal, rig

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Database

WITHIN = ("begun", "compared", "inserted", "ledger", "moved", "commit")
"""Points within a transaction, from its first statement to the moment before its commit."""


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
                        mark = connection.scalar(
                            select(checkpoint.c.high_water_uid).where(checkpoint.c.stream == "tail")
                        )
                    assert mark is None or rows == 40
                    r.store.open()
            if not done:
                break
        else:
            raise AssertionError("a poll has fewer statements")
        assert r.assert_equal() == 40


@SERVERS
@pytest.mark.parametrize("level", ["", "info", "debug"])
def test_a_dead_connection_that_is_put_away_is_no_traceback(
    migrated: Database, level: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is said, or a line where somebody debugs; also in a command, which sets no log up (level "")."""
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    try:
        if level:
            logs.set_up("json", level)
        connection = open_engine(migrated.url).connect()
        connection.exec_driver_sql("SELECT 1")
        cut(migrated)
        del connection
        gc.collect()
    finally:
        root.handlers = handlers
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert said.count("Exception during reset") == (level == "debug")


@pytest.mark.own_server
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
    monkeypatch.setattr(port, "SILENT_SECONDS", 2)  # in place of 10 and 12, the bounds of each wait
    monkeypatch.setattr(port, "STATEMENT_SECONDS", 2)
    with rig(migrated.url, calls=150) as r:
        r.run("poll")
        r.world.add()
        with r.engine.connect() as person:
            person.execute(select(checkpoint).with_for_update()).all()
            r.store.open()
            begun = time.monotonic()
            with pytest.raises(DatabaseUnavailable):
                r.run("poll")
            assert time.monotonic() - begun < 30
        assert persist(r) == []
        assert r.assert_equal() == 151


@POSTGRESQL
def test_a_deadlock_on_postgresql(migrated: Database) -> None:
    """The server chooses us as the victim: the page is rolled back and saved again, at once."""
    _deadlock(
        migrated, "SET deadlock_timeout = '60s'", "INSERT INTO number (number, first_seen_at) VALUES ('x', now())"
    )


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

            def want_our_day() -> None:
                connection.execute(text("UPDATE coverage SET note = 'x'"))
                connection.rollback()

            waiting = threading.Thread(target=want_our_day)

            def embrace() -> None:
                waiting.start()
                until(lambda: waits_for_a_lock(database), "the other waits")

            with at(database.kind, "ledger", 1, embrace) as done:
                r.run("poll")  # nobody hears of it
                assert done
            waiting.join(30)
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
    monkeypatch.setattr(store_sqlite, "BUSY_SECONDS", 0.2)  # in place of 15
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


# ── both sides at once, and the daemon ───────────────────────────────────────────────────────────────────────────


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


@pytest.mark.own_server
@SERVERS
def test_the_daemon_recovers_by_itself(migrated: Database, tmp_path: Path) -> None:
    """Its sessions cut and its server killed three times while calls arrive: it never ends, and catches up."""
    with StandIn(calls=300, days=2, seed=1, rate=20.0) as operator:
        env = environment(operator.url, migrated.url, poll_interval="1s", lookback_interval="1s", page_size="5")
        start = Start(("run",), env, str(tmp_path / "log"), migrated.kind)
        program = start.begin()
        for _ in range(3):
            assert program.poll(0.7) is None, start.said()
            cut(migrated)
            assert program.poll(0.4) is None, start.said()
            migrated.server.stop(signal.SIGKILL)
            migrated.server.start()
        operator.tell("settings", rate=0)
        engine = create_engine(migrated.url)

        def equal() -> bool:
            try:
                return assert_equal(engine, operator.records()) > 300
            except AssertionError:
                return False

        until(equal, start.said)
        program.send_signal(signal.SIGTERM)
        assert program.poll(DEADLINE) == 0, start.said()
        engine.dispose()
