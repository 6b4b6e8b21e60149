"""The operator's uids begin anew: what the hint of SequenceReset says to do is done, and works."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from cdrsync.errors import SequenceReset
from cdrsync.model import Window
from cdrsync.store.schema.tables import cdr
from cdrsync.sync.ports import SyncSettings
from cdrsync.sync.steps import Sync
from tests.support.clock import LONDON
from tests.support.rig import Rig, rig
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from sqlalchemy.engine import Row

    from tests.conftest import Database

HOUR = 3600
RESTART = date(2024, 5, 23)


def test_the_remedy_for_a_restarted_sequence_doubles_and_misses_nothing(migrated: Database) -> None:
    """A new name, by date alone, from the day after; the restart's own day call by call under the old name."""
    with rig(migrated.url, now="2024-05-23T12:00:00+01:00", calls=100, days=5) as r:
        r.run()
        r.world.restart_sequence(1000)
        call_each_hour(r, 4)
        with pytest.raises(SequenceReset, match="backfill --account NAME --since DATE"):
            r.run("look_back")
        call_each_hour(r, 20)
        held = {row.uid for row in rows(r)}
        for call in r.world.records():
            if call.calldate == str(RESTART) and call.uid not in held:
                r.sync.fetch(uid=call.uid)
        store = OwnStore(migrated.url, "again")
        store.open()
        again = Sync(r.source, store, SyncSettings(timezone=LONDON), clock=r.clock)
        for day in (24, 25, 26):
            call_each_hour(r, 24)
            for _ in again.backfill(Window(date(2024, 5, 24), date(2024, 5, day))):
                pass
        store.close()
        read = [call.uid for call in r.world.records() if call.calldate <= "2024-05-26"]
        assert sorted(row.uid for row in rows(r) if str(row.call_date) <= "2024-05-26") == sorted(read)


def call_each_hour(r: Rig, hours: int) -> None:
    for _ in range(hours):
        r.clock.advance(HOUR)
        r.world.add()


def rows(r: Rig) -> list[Row[int, date]]:
    """The rows of all accounts: a call that stands twice would count twice in sums over them."""
    with r.engine.connect() as connection:
        return list(connection.execute(select(cdr.c.uid, cdr.c.call_date)).all())
