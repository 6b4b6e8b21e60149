"""Pages that were joined, or formed ahead, are saved as if each had come by itself."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete

from cdrsync.model import Cdr, Checkpoint
from cdrsync.store import known_numbers
from cdrsync.store.privacy.eraser import Eraser
from cdrsync.store.privacy.rules import Key
from cdrsync.store.schema import tables
from cdrsync.store.spelling import NumberFacts
from tests.support.examples import FIRST, calls, page
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdrsync.model import Page
    from cdrsync.store.save import SqlStore
    from tests.conftest import Database
    from tests.support.clock import Clock
    from tests.support.eyes import Eyes

    Ahead = Callable[[SqlStore, Page], Page]

SECRET = "a secret that is long enough for a key"
TABLES = (tables.cdr, tables.coverage, tables.cdr_change, tables.checkpoint)


def of_days(count: int, first_uid: int) -> list[Cdr]:
    """Calls of two days, with numbers that repeat."""
    return [
        call._replace(call_date=call.call_date + timedelta(days=n % 2), anumber=f"79212550{n % 7:02}", dialled=f"0{n}")
        for n, call in enumerate(calls(count, FIRST._replace(uid=first_uid)))
    ]


def of_account(eyes: Eyes, name: str) -> list[list[dict[str, Any]]]:
    """Every row of the account, without our own numbers."""
    (account_id,) = [row.id for row in eyes.rows(tables.account) if row.name == name]
    return [
        sorted(
            (
                {column: value for column, value in row._mapping.items() if column not in ("account_id", "id")}
                for row in eyes.rows(table)
                if row.account_id == account_id
            ),
            key=repr,
        )
        for table in TABLES
    ]


def as_read(store: SqlStore, one: Page) -> Page:
    """A page as it was read."""
    del store
    return one


def formed(store: SqlStore, one: Page) -> Page:
    """With what is worked out ahead."""
    return store.formed(one)


@pytest.fixture(params=[as_read, formed])
def ahead(request: pytest.FixtureRequest) -> Ahead:
    """What is done with a page before it is joined and saved."""
    found: Ahead = request.param
    return found


@pytest.mark.parametrize("known", [0, 3, 20], ids=["all new", "some known", "all known"])
def test_joined_pages_are_saved_as_one_page_would_be(
    store: SqlStore, eyes: Eyes, migrated: Database, clock: Clock, ahead: Ahead, known: int
) -> None:
    """Also where the later page has the lower uids, as with days newest first."""
    late, early = of_days(10, 500), of_days(10, 100)
    before = page(*[call._replace(alias="before") for call in (late + early)[:known]])
    mark = Checkpoint("tail", high_water_uid=509)
    pages = [page(*late), page(*early, checkpoint=mark, completes=(FIRST.call_date,))]
    store.save(before)
    late_page, early_page = (ahead(store, one) for one in pages)
    saved = store.save(late_page.joined([early_page]))
    assert (saved.inserted, saved.updated, saved.high_water_uid) == (20 - known, known, 509)
    other = OwnStore(migrated.url, "other", clock=clock)
    other.open()
    for one in (before, *pages):
        other.save(one)
    other.close()
    assert of_account(eyes, "main") == of_account(eyes, "other")
    assert len(eyes.rows(tables.number)) == 7 + 1 + 10


def test_a_call_in_two_joined_pages_counts_once(store: SqlStore, eyes: Eyes, ahead: Ahead) -> None:
    """Where EndDate is included a day is read twice; the last word counts."""
    first = calls(5)
    second = [call._replace(alias="later") for call in first[3:]]
    saved = store.save(ahead(store, page(*first)).joined([ahead(store, page(*second))]))
    assert (saved.inserted, saved.unchanged, saved.records) == (5, 2, 7)
    assert eyes.cdrs() == [*first[:3], *second]
    assert [row.calls for row in eyes.rows(tables.coverage)] == [5]


def test_what_is_erased_between_two_pages_is_not_saved(
    eyes: Eyes, migrated: Database, clock: Clock, ahead: Ahead
) -> None:
    """A page that was read before is cleaned as well."""
    store = OwnStore(migrated.url, "main", classify=facts, pseudonym_key=SECRET, clock=clock)
    store.open()
    store.save(page(FIRST))
    read_before = ahead(store, page(FIRST._replace(uid=7), FIRST._replace(uid=8, anumber="7700900555")))
    Eraser(eyes.engine, "main", Key(SECRET), clock=clock).erase_number(str(FIRST.anumber))
    store.save(read_before)
    store.close()
    assert [(cdr.uid, cdr.anumber) for cdr in eyes.cdrs()] == [
        (7, "~erased"), (8, "7700900555"), (FIRST.uid, "~erased"),
    ]  # fmt: skip
    assert FIRST.anumber not in {row.number for row in eyes.rows(tables.number)}


def test_a_call_that_can_not_be_held_stops_neither_its_page_nor_those_joined_with_it(
    store: SqlStore, eyes: Eyes, ahead: Ahead
) -> None:
    bad = FIRST._replace(uid=3, duration=2**70)
    saved = store.save(ahead(store, page(FIRST)).joined([ahead(store, page(bad, FIRST._replace(uid=4)))]))
    assert (saved.inserted, saved.rejected) == (2, 1)
    assert [cdr.uid for cdr in eyes.cdrs()] == [4, FIRST.uid]
    assert [row.uid for row in eyes.rows(tables.reject)] == [3]


def facts(number: str) -> NumberFacts:
    return NumberFacts(f"+44{number}", "mobile", "GB", "1")


def test_numbers_noted_meanwhile_and_forgotten_ones_are_in_the_table(
    monkeypatch: pytest.MonkeyPatch, eyes: Eyes, migrated: Database
) -> None:
    """Each distinct number once, however little is remembered."""
    monkeypatch.setattr(known_numbers, "REMEMBERED", 2)
    store = OwnStore(migrated.url, "main", classify=facts)
    store.open()
    cdrs = [call._replace(anumber=f"7921255{n % 9:03}") for n, call in enumerate(calls(40))]
    for call in [*cdrs, *(call._replace(uid=call.uid + 100) for call in cdrs)]:
        store.save(page(call))
    store.close()
    noted = [(row.number, row.e164) for row in eyes.rows(tables.number)]
    expected = {*(f"7921255{n:03}" for n in range(9)), str(FIRST.bnumber), str(FIRST.dialled)}
    assert noted == [(number, f"+44{number}") for number in sorted(expected)]


def test_what_was_known_before_a_connection_was_lost_is_not_known_any_more(store: SqlStore, eyes: Eyes) -> None:
    """Nobody knows what has become of the table meanwhile."""
    first, second = calls(2)
    store.save(page(first))
    with eyes.engine.begin() as connection:
        connection.execute(delete(tables.number))
    store.open()
    store.save(page(second))
    assert {row.number for row in eyes.rows(tables.number)} == {second.anumber, second.bnumber, second.dialled}


@pytest.mark.parametrize("held", [None, "first", "other"])
def test_what_a_page_says_twice_of_a_call_is_kept_as_over_two_pages(
    store: SqlStore, eyes: Eyes, migrated: Database, clock: Clock, ahead: Ahead, held: str | None
) -> None:
    """Both values are in the history, whatever was held before; a flag that is not said keeps its value."""
    first = FIRST._replace(alias="first", has_recorded_call=True)
    second = FIRST._replace(alias="second", duration=99, has_recorded_call=None)
    other = OwnStore(migrated.url, "other", clock=clock)
    other.open()
    if held is not None:
        for one in (store, other):
            one.save(page(FIRST._replace(alias=held)))
    saved = store.save(ahead(store, page(first, FIRST._replace(uid=7), second)))
    for call in (first, FIRST._replace(uid=7), second):
        other.save(page(call))
    other.close()
    assert saved.records == 3
    assert of_account(eyes, "main") == of_account(eyes, "other")
    changes = [(row.column_name, row.old_value, row.new_value) for row in eyes.rows(tables.cdr_change)]
    assert ("alias", "first", "second") in changes


def test_a_row_that_came_between_is_no_fault_of_the_page(
    store: SqlStore, eyes: Eyes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a call that is there although the comparison did not see it: what was written anew, goes well."""
    insert, collisions = store._kind.insert, [1]

    def insert_twice_at_first(*told: Any) -> None:
        insert(*told)
        if collisions:
            collisions.clear()
            insert(*told)

    monkeypatch.setattr(store._kind, "insert", insert_twice_at_first)
    saved = store.save(page(*calls(3)))
    assert (saved.inserted, saved.rejected, len(eyes.rows(tables.cdr))) == (3, 0, 3)
