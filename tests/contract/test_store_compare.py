"""What a page's calls are compared with: which are held, which are new, which differ, on every database alike."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, select

from cdrsync.store.compare import STRETCH, next_held
from cdrsync.store.databases.choose import kind_of
from cdrsync.store.schema.tables import cdr
from tests.support.examples import FIRST, calls, page

if TYPE_CHECKING:
    from cdrsync.store.save import SqlStore
    from tests.conftest import Database
    from tests.support.eyes import Eyes

PLANS = {
    "sqlite": (
        "EXPLAIN QUERY PLAN ",
        [r"SEARCH cdr USING (PRIMARY KEY|COVERING INDEX ix_cdr_uid) \((account_id|uid)=\? AND (uid|account_id)=\?\)"],
    ),
    "postgresql": ("EXPLAIN ", ["using pk_cdr on cdr", r"AND \(uid = wanted\."]),
    "mariadb": ("EXPLAIN FORMAT=TRADITIONAL ", ["'range'", "'PRIMARY'"]),
}
"""How a database is asked for its plan, and what a plan that looks up each call by account and uid says."""

NEARBY = {
    "sqlite": r"SEARCH cdr USING PRIMARY KEY \(account_id=\? AND uid>\?\)",
    "postgresql": r"using pk_cdr on cdr(?s:.)*\(account_id = 1\) AND \(uid >= ",
    "mariadb": "optimized away",
}
"""What a plan says that looks up the lowest uid held from one on."""


@pytest.mark.parametrize("times", [1, 2], ids=["after new ones", "after known ones"])
def test_new_known_and_changed_calls_in_one_page(store: SqlStore, eyes: Eyes, times: int) -> None:
    """A page may hold all three sorts, whatever the page before it held; each is counted once."""
    cdrs = calls(9)
    for _ in range(times):
        store.save(page(*cdrs[:6]))
    changed = [call._replace(duration=call.duration + 1) for call in cdrs[:2]]
    saved = store.save(page(*changed, *cdrs[2:]))
    assert (saved.inserted, saved.updated, saved.unchanged) == (3, 2, 4)
    assert eyes.cdrs() == [*changed, *cdrs[2:]]


def test_new_calls_after_known_ones(store: SqlStore, eyes: Eyes) -> None:
    """A page of which every call was known says nothing of the next one."""
    cdrs = calls(9)
    store.save(page(*cdrs[:4]))
    assert store.save(page(*cdrs[:4])).unchanged == 4
    assert store.save(page(*cdrs[4:])).inserted == 5
    assert eyes.cdrs() == cdrs


@pytest.mark.parametrize("between", ["\n", "],[", "\t", "','"])
def test_texts_that_look_like_the_end_of_a_row(store: SqlStore, eyes: Eyes, between: str) -> None:
    """What parts the rows that are read back may stand in them: unchanged ones are known, changed ones are seen."""
    cdrs = [call._replace(alias=f"a{between}b", dialled_location=between) for call in calls(20)]
    store.save(page(*cdrs))
    assert store.save(page(*cdrs)).unchanged == 20
    # A text that holds the whole of another row as that row now is, between what parts rows.
    changed = cdrs[1]._replace(alias="c")
    store.save(page(cdrs[0]._replace(alias=f"{between}{','.join(map(str, changed))}{between}")))
    assert store.save(page(changed)).updated == 1
    assert eyes.cdrs()[1] == changed


def test_calls_between_calls_that_are_held(store: SqlStore, eyes: Eyes) -> None:
    """Pages far larger than a stretch of which the primary key is asked: stretches of new, known and mixed calls."""
    cdrs = calls(4 * STRETCH)
    some = [*cdrs[1:STRETCH:7], *cdrs[STRETCH : 2 * STRETCH], cdrs[3 * STRETCH - 1]]
    assert store.save(page(*some)).inserted == len(some)
    saved = store.save(page(*cdrs))
    assert (saved.inserted, saved.updated, saved.unchanged) == (len(cdrs) - len(some), 0, len(some))
    assert eyes.cdrs() == cdrs


def test_a_page_whose_uids_lie_far_apart(store: SqlStore, eyes: Eyes) -> None:
    """Many held rows between the page's uids neither confuse nor are touched."""
    cdrs = calls(700)
    store.save(page(*cdrs))
    ends = (cdrs[0]._replace(alias="first"), cdrs[350], cdrs[-1]._replace(alias="last"))
    saved = store.save(page(*ends, FIRST._replace(uid=5)))
    assert (saved.inserted, saved.updated, saved.unchanged) == (1, 2, 1)
    assert eyes.cdrs() == [FIRST._replace(uid=5), ends[0], *cdrs[1:-1], ends[2]]


def test_calls_are_looked_up_by_their_key_before_there_are_statistics(
    store: SqlStore, eyes: Eyes, migrated: Database
) -> None:
    """No plan depends on what a database knows of a table: a first catch-up grows it from nothing within minutes."""
    cdrs = calls(2000)
    store.save(page(*cdrs))
    kind = kind_of(eyes.engine.dialect.name)
    uids = [call.uid for call in cdrs[::4]]
    explain, expected = PLANS[migrated.kind]
    plans = []

    @event.listens_for(eyes.engine, "before_cursor_execute", retval=True)
    def _explain(*asked: Any) -> tuple[str, Any]:
        begins = asked[2].startswith("BEGIN")  # a transaction has no plan
        return asked[2] if begins else f"{explain}{asked[2]}", asked[3]

    with eyes.engine.connect() as connection:
        statement = kind.by_uid(select(cdr.c.uid).where(cdr.c.account_id == 1), cdr.c.uid, uids)
        plans.append(str(connection.execute(statement).cursor.fetchall()))
        plans.append(str(connection.exec_driver_sql(*kind.stored_statement(1, uids)).cursor.fetchall()))
        nearby = str(connection.execute(next_held(1, uids[:2])).cursor.fetchall())
    assert [[words for words in expected if not re.search(words, plan)] for plan in plans] == [[], []], plans
    assert re.search(NEARBY[migrated.kind], nearby), nearby


def test_calls_of_a_day_are_found_without_naming_an_account(store: SqlStore, eyes: Eyes, migrated: Database) -> None:
    """The view says that `call_date` is indexed: on a table without statistics, too."""
    days = [call._replace(call_date=call.call_date + timedelta(days=n)) for n, call in enumerate(calls(3000))]
    for start in range(0, 3000, 1000):
        store.save(page(*days[start : start + 1000]))
    wanted = days[1500].call_date
    with eyes.engine.connect() as connection:
        explain, _ = PLANS[migrated.kind]
        if migrated.kind == "postgresql":
            connection.exec_driver_sql("SET enable_seqscan = off")  # which three thousand rows are not worth
        plan = str(connection.exec_driver_sql(f"{explain}SELECT * FROM calls WHERE call_date = '{wanted}'").all())
        found = connection.exec_driver_sql(f"SELECT count(*) FROM calls WHERE call_date = '{wanted}'").scalar()
    assert (found, "ix_cdr_day" in plan) == (1, True), plan
