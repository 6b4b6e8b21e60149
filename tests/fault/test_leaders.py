"""Who may write: paused leaders, connections behind a transaction pooler."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from cdrsync.errors import ConfigError, LeaseLost
from cdrsync.model import Checkpoint, Origin, Page
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.save import SqlStore
from cdrsync.store.schema.tables import checkpoint
from tests.fault.leaders import KINDS, contest
from tests.fault.pooler import TransactionPooler
from tests.fault.zygote import Zygote
from tests.support.databases import PostgresqlServer, database_name

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Database
    from tests.support.servers import Servers

IDLE_SECONDS = 2  # in place of 12: how soon the database lets go of a silent holder


@pytest.mark.parametrize("kind", KINDS)
def test_a_leader_paused_and_resumed_commits_nothing_more(kind: str, servers: Servers, tmp_path: Path) -> None:
    """SIGSTOP, takeover, SIGCONT, again and again: no session ever writes after another one has.

    `python -m tests.fault.leaders --minutes 10` is the long one, with the database's real patience.
    """
    with Zygote() as zygote:
        figures = contest(servers.get(kind), zygote, tmp_path, pauses=2, seconds=0, idle_seconds=IDLE_SECONDS, seed=1)
    print(figures.line(kind, 1))
    assert figures.double == 0
    assert figures.sessions >= 2
    assert max(figures.takeovers) < 3 * IDLE_SECONDS + 3
    assert figures.compared > 300


@pytest.mark.parametrize("migrated", ["postgresql"], indirect=True)
def test_a_transaction_pooler_is_refused(migrated: Database) -> None:
    """Sessions that change with every transaction can hold no lease: exit 78 and what to do about it."""
    assert isinstance(migrated.server, PostgresqlServer)
    with (
        TransactionPooler(migrated.server.port) as pooler,
        pytest.raises(ConfigError, match=r"another session.*PgBouncer"),
    ):
        SqlStore(through(pooler, migrated), "main").open()


@pytest.mark.parametrize("migrated", ["postgresql"], indirect=True)
def test_a_pooler_that_shows_itself_later(migrated: Database) -> None:
    """One that happened to give the same session at first: nothing is committed under another one."""
    assert isinstance(migrated.server, PostgresqlServer)
    with TransactionPooler(migrated.server.port, sticky=True) as pooler:
        store = SqlStore(through(pooler, migrated), "main")
        store.open()
        assert store.save(page(1)).high_water_uid == 1
        pooler.sticky = False
        saved = [1]
        with pytest.raises(LeaseLost):
            saved.extend(store.save(page(uid)).high_water_uid or 0 for uid in (2, 3, 4))
        store.close()
    engine = open_engine(migrated.url)
    with engine.connect() as connection:
        assert connection.scalar(select(checkpoint.c.high_water_uid)) == saved[-1]
    engine.dispose()


def page(uid: int) -> Page:
    return Page(Origin.TAIL, [], checkpoint=Checkpoint("tail", uid))


def through(pooler: TransactionPooler, database: Database) -> str:
    """The database's URL with the pooler in between."""
    return f"postgresql+psycopg://postgres@127.0.0.1:{pooler.port}/{database_name(database.url)}"
