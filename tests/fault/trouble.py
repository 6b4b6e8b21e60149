"""Trouble at a chosen moment, and a sync that persists as the daemon does."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pymysql
import pytest

from cdrsync.errors import Retry, Skip
from tests.fault import points
from tests.support.databases import MariadbServer, PostgresqlServer, database_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Database
    from tests.support.rig import Rig

SERVERS = pytest.mark.parametrize("migrated", ["postgresql", "mariadb"], indirect=True)
POSTGRESQL = pytest.mark.parametrize("migrated", ["postgresql"], indirect=True)
MARIADB = pytest.mark.parametrize("migrated", ["mariadb"], indirect=True)
SQLITE = pytest.mark.parametrize("migrated", ["sqlite"], indirect=True)
ATTEMPTS = 200


def persist(r: Rig, step: str = "catch_up") -> list[Retry | Skip]:
    """Run a step to its end as the daemon would; answers the failures on the way."""
    failures: list[Retry | Skip] = []
    while len(failures) < ATTEMPTS:
        try:
            if failures:
                r.store.open()
            r.run(step)
        except (Retry, Skip) as error:
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


NO_SUCH_THREAD = 1094  # MariaDB's: the session ended by itself meanwhile


def waits_for_a_lock(database: Database) -> bool:
    """Whether the server shows a session of the database that waits for another's lock."""
    name, server = database_name(database.url), database.server
    if isinstance(server, PostgresqlServer):
        asked = f"SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = '{name}'"
    else:
        assert isinstance(server, MariadbServer)
        asked = (
            "SELECT 1 FROM information_schema.innodb_trx JOIN information_schema.processlist"
            f" ON id = trx_mysql_thread_id WHERE trx_state = 'LOCK WAIT' AND db = '{name}'"
        )
    return bool(server.execute(asked))


def cut(database: Database) -> None:
    """End every session of the database, as an administrator or a broken network would."""
    name, server = database_name(database.url), database.server
    if isinstance(server, PostgresqlServer):
        server.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
    elif isinstance(server, MariadbServer):
        for (session,) in server.execute(f"SELECT id FROM information_schema.processlist WHERE db = '{name}'"):
            try:
                server.execute(f"KILL {session}")
            except pymysql.err.OperationalError as error:
                if error.args[0] != NO_SUCH_THREAD:
                    raise
