"""Numbers are classified with the page that brings them, and anew when the rules change, while others write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cdrsync.store import numbering
from cdrsync.store.numbering import RULES_VERSION, classify
from cdrsync.store.schema import tables
from cdrsync.store.spelling import NumberFacts
from tests.support.examples import FIRST, calls, page
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from cdrsync.store.save import SqlStore
    from tests.conftest import Database
    from tests.support.clock import Clock
    from tests.support.eyes import Eyes

MANY = [call._replace(anumber=f"79212550{n:02}") for n, call in enumerate(calls(25))]


def facts(eyes: Eyes, *numbers: str) -> list[tuple[str | None, ...]]:
    rows = {row.number: row for row in eyes.rows(tables.number)}
    return [(rows[n].e164, rows[n].kind, rows[n].region, rows[n].rules_version) for n in numbers]


def test_a_page_brings_its_numbers_classified(migrated: Database, eyes: Eyes, clock: Clock) -> None:
    """Caller, number called and destination, in the transaction of their calls."""
    store = OwnStore(migrated.url, "main", classify=classify, clock=clock)
    store.open()
    store.save(page(FIRST._replace(anumber="", dialled="33142685300")))
    store.close()
    assert facts(eyes, "", "1245830144", "33142685300") == [
        (None, "withheld", None, RULES_VERSION),
        ("+441245830144", "landline", "GB", RULES_VERSION),
        ("+33142685300", "landline", "FR", RULES_VERSION),
    ]


def test_other_rules_are_worked_out_anew_in_batches(store: SqlStore, eyes: Eyes) -> None:
    """Every number of other rules or of none, the empty one too, once; what is up to date is left alone."""
    store.save(page(*MANY, FIRST._replace(uid=1, anumber="")))  # this store classifies nothing
    assert numbering.refresh(eyes.engine, classify, RULES_VERSION, batch=10) == 28
    assert facts(eyes, "7921255003", "", "0") == [
        ("+447921255003", "mobile", "GB", RULES_VERSION),
        (None, "withheld", None, RULES_VERSION),
        (None, "none", None, RULES_VERSION),
    ]
    assert numbering.refresh(eyes.engine, classify, RULES_VERSION) == 0
    newer = lambda number: NumberFacts(None, "newer", None, "2/x")  # noqa: ARG005, E731 - the rules of tomorrow
    assert numbering.refresh(eyes.engine, newer, "2/x", batch=27) == 28
    assert {row.kind for row in eyes.rows(tables.number)} == {"newer"}


def test_other_rules_than_asked_for_are_refused(store: SqlStore, eyes: Eyes) -> None:
    """Rows that never become what was asked for would be worked out for ever."""
    store.save(page(FIRST))
    with pytest.raises(ValueError, match="asked for rules 2/x"):
        numbering.refresh(eyes.engine, classify, "2/x")


def test_a_writer_goes_on_during_a_refresh(store: SqlStore, eyes: Eyes) -> None:
    """While a batch is being worked out, a page with known and new numbers is saved, and nothing is lost or left."""
    store.save(page(*MANY))
    saved: list[int] = []

    def interrupted(number: str) -> NumberFacts:
        if not saved:
            more = [call._replace(uid=call.uid + 100, anumber=f"{call.anumber}9") for call in MANY[:3]]
            saved.append(store.save(page(*MANY, *more)).inserted)
        return classify(number)

    assert numbering.refresh(eyes.engine, interrupted, RULES_VERSION, batch=10) == 30
    assert saved == [3]
    assert {row.rules_version for row in eyes.rows(tables.number)} == {RULES_VERSION}


def test_where_the_plans_know_nothing_the_operators_words_do(migrated: Database, eyes: Eyes, clock: Clock) -> None:
    """With their source; new rules that still know nothing leave what it said."""
    store = OwnStore(migrated.url, "main", classify=classify, clock=clock)
    store.open()
    store.save(page(FIRST._replace(anumber="7700900770", anumber_location="UK O2 Mobile", dialled="447921255043")))
    store.close()
    for _ in range(2):
        rows = {row.number: (row.kind, row.kind_source, row.national) for row in eyes.rows(tables.number)}
        assert rows["7700900770"] == ("mobile", "operator", "07700900770")
        assert rows["447921255043"] == ("mobile", "plan", "07921255043")
        later = lambda number: classify(number)._replace(rules_version="later")  # noqa: E731
        numbering.refresh(eyes.engine, later, "later")
