"""A record that breaks its page's XML, from the operator to the tables: it is kept in quarantine and stops nothing."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select

from cdrsync.errors import Retry, Skip
from cdrsync.source.retry import RetryPolicy
from cdrsync.store.schema.tables import reject
from tests.fault.trouble import SQLITE
from tests.support.operator import Settings
from tests.support.rig import rig

if TYPE_CHECKING:
    from tests.conftest import Database
    from tests.support.rig import Rig

BROKEN = ("R&D", "a&#x1F;b", "a&nbsp;b", "<b>bold", "]]>", "1 < 2")
RETRY = RetryPolicy(wait_initial=0, wait_jitter=0)


def _spoil(r: Rig, uids: list[int]) -> None:
    for n, uid in enumerate(uids):
        raw = f"<CDR>\n<uid>{uid}</uid>\n<alias>{BROKEN[n % len(BROKEN)]}</alias>\n</CDR>"
        r.world.change(uid, raw=raw)


def _run(r: Rig) -> None:
    for _ in range(20):
        try:
            r.run()
        except (Retry, Skip):
            continue
        return


@SQLITE
@pytest.mark.parametrize("page_size", [1, 7, 100])
@pytest.mark.parametrize(
    "operator", [Settings(), Settings(date_order="descending", last_id_order="shuffled", limit_clamp=40)]
)
def test_history_and_tail_pass_broken_records(migrated: Database, operator: Settings, page_size: int) -> None:
    """Some in the history, then one between two polls with 50 good calls behind it: all good calls are held."""
    with rig(migrated.url, operator, calls=150, page_size=page_size, retry=RETRY) as r:
        uids = [call.uid for call in r.world.records()]
        bad = random.Random(1).sample(uids, 5)
        _spoil(r, bad)
        _run(r)
        bad.append(r.world.add().uid)
        _spoil(r, bad[-1:])
        for _ in range(50):
            r.clock.advance(5)
            r.world.add()
        _run(r)
        assert r.assert_equal() == 195
        with r.engine.connect() as connection:
            kept = connection.execute(select(reject.c.uid, reject.c.problem)).all()
    assert {uid for uid, _ in kept} == set(bad)
    assert all(problem.startswith("its XML is broken: ") for _, problem in kept)


@SQLITE
def test_a_record_that_the_operator_mends(migrated: Database) -> None:
    """Once its XML is whole again it is stored like any other."""
    with rig(migrated.url, calls=60, retry=RETRY) as r:
        uid = r.world.records()[30].uid
        _spoil(r, [uid])
        _run(r)
        r.world.change(uid, raw=None)
        r.clock.advance(86400)
        _run(r)
        assert r.assert_equal() == 60
