"""What a page's calls are compared with: which are held, which are new, which differ, on every database alike."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from cdrsync.store.databases import choose, engine, port
from cdrsync.store.save import SqlStore
from tests.contract.conftest import FIRST, Clock, Eyes, calls, page

if TYPE_CHECKING:
    from tests.conftest import Database


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


@pytest.mark.parametrize("between", ["\n", "],["])
def test_a_text_that_reads_like_a_call_that_is_not_held(
    store: SqlStore, eyes: Eyes, migrated: Database, between: str
) -> None:
    """Where known calls are expected, a new one is not taken for held because another's text holds its row."""
    known, new = calls(2)
    (row,) = choose.rows_for(migrated.kind).forms([new])
    held = row if isinstance(row, str) else json.dumps(row, default=str, separators=(",", ":"))[1:-1]
    known = known._replace(alias=f"{between}{held}{between}")
    store.save(page(known))
    assert store.save(page(known)).unchanged == 1
    assert store.save(page(known, new)).inserted == 1
    assert eyes.cdrs() == [known, new]


def test_rows_of_which_the_server_gives_only_the_beginning(
    eyes: Eyes, migrated: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MySQL cuts the texts that it joins where they are longer than is set: nothing is missed for that."""
    monkeypatch.setattr(engine, "JOINED_BYTES", 1000)
    store = SqlStore(migrated.url, "main", clock=clock)
    store.open()
    cdrs = calls(50)
    store.save(page(*cdrs))
    changed = [*cdrs[:7], cdrs[7]._replace(alias="7"), *cdrs[8:49], cdrs[49]._replace(alias="49")]
    saved = store.save(page(*changed))
    store.close()
    assert (saved.inserted, saved.updated, saved.unchanged) == (0, 2, 48)
    assert eyes.cdrs() == changed


def test_a_page_whose_uids_lie_far_apart(store: SqlStore, eyes: Eyes) -> None:
    """Many held rows between the page's uids neither confuse nor are touched."""
    cdrs = calls(700)
    store.save(page(*cdrs))
    ends = (cdrs[0]._replace(alias="first"), cdrs[350], cdrs[-1]._replace(alias="last"))
    saved = store.save(page(*ends, FIRST._replace(uid=5)))
    assert (saved.inserted, saved.updated, saved.unchanged) == (1, 2, 1)
    assert eyes.cdrs() == [FIRST._replace(uid=5), ends[0], *cdrs[1:-1], ends[2]]


def test_a_page_of_more_ranges_than_one_statement_asks_for(
    store: SqlStore, eyes: Eyes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some hold nothing, some calls of the page, some many strangers; what is held is found in all of them."""
    monkeypatch.setattr(port, "SLICE", 10)
    monkeypatch.setattr(port, "SLACK", 3)
    monkeypatch.setattr(port, "RANGES", 2)
    every = [FIRST._replace(uid=uid) for uid in range(1, 101)]
    strangers = [FIRST._replace(uid=1000 + uid) for uid in range(30)]
    held = [call for call in every if 30 < call.uid <= 60 or call.uid in (1, 100)]
    store.save(page(*held, *strangers))
    around = [FIRST._replace(uid=uid) for uid in (995, 1004, 1040)]
    saved = store.save(page(*every, *around))
    assert (saved.inserted, saved.updated, saved.unchanged) == (len(every) - len(held) + 2, 0, len(held) + 1)
    assert {call.uid for call in eyes.cdrs()} == {call.uid for call in (*every, *strangers, *around)}
