"""Erasing a number means the person: every way of writing it, in every column and text, no digit left in a file."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, insert

from cdrsync.errors import ConfigError
from cdrsync.model import Reject
from cdrsync.store.numbering import classify
from cdrsync.store.privacy.eraser import Erased, Eraser
from cdrsync.store.privacy.rules import Key
from cdrsync.store.schema import tables
from tests.support.examples import FIRST, page
from tests.support.stores import OwnStore, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdrsync.store.save import SqlStore
    from tests.conftest import Database
    from tests.support.clock import Clock
    from tests.support.eyes import Eyes

SECRET = "a long random text"
NUMBER = "7921255043"
SPELLINGS = (
    "7921255043",
    "07921255043",
    "447921255043",
    "+447921255043",
    "00447921255043",
    "07921 255043",
    "+44 (0)7921 255 043",
    "0044-7921-255043",
    "(07921) 255043",
    "٠٧٩٢١٢٥٥٠٤٣",
)
OTHERS = ("7921255044", "17921255043", "79212550431", "447700900123", "+337921255043")
"""Numbers of other people that look like it."""

DIGITS = (b"7921255043", b"921 255", b"921-255")


@pytest.fixture
def store(migrated: Database, clock: Clock) -> Iterator[SqlStore]:
    store = OwnStore(migrated.url, "main", classify=classify, pseudonym_key=SECRET, clock=clock)
    store.open()
    yield store
    store.close()


@pytest.fixture
def eraser(store: SqlStore, eyes: Eyes, clock: Clock) -> Eraser:
    return Eraser(eyes.engine, store.account, Key(SECRET), clock=clock)


def everything(eyes: Eyes) -> str:
    """Every value of every table."""
    return "\n".join(str(tuple(row)) for table in tables.metadata.sorted_tables for row in eyes.rows(table))


def spelt() -> list[Any]:
    """A call from each spelling, to each, and with each in its other texts."""
    calls: list[Any] = []
    for n, text in enumerate(SPELLINGS):
        calls += [
            FIRST._replace(uid=100 + n, anumber=text),
            FIRST._replace(uid=200 + n, anumber=OTHERS[n % len(OTHERS)], dialled=text),
            FIRST._replace(uid=300 + n, anumber="", alias=f"for {text}, call back"),
            FIRST._replace(uid=400 + n, anumber="", extra=f'{{"Note":"ring {text} at 9","Tag":["a","b"]}}'),
            FIRST._replace(uid=500 + n, anumber="", bnumber=text),
            FIRST._replace(uid=600 + n, anumber="", anumber_location=f"UK {text}", dialled_location=text, ref=text),
        ]
    return calls


@pytest.mark.parametrize("given", ["07921255043", "+44 7921 255043"])
def test_no_spelling_is_left_in_any_table(store: SqlStore, eraser: Eraser, eyes: Eyes, given: str) -> None:
    """Calls, history, quarantine, runs, audits: and none comes back when all of it is read again."""
    calls = spelt()
    strangers = [FIRST._replace(uid=700 + n, anumber=text, alias=text) for n, text in enumerate(OTHERS)]
    rejects = [
        Reject(900, f"<CDR><uid>900</uid><anumber>{NUMBER}</anumber></CDR>", "bad"),
        Reject(901, "<CDR><uid>901</uid><Note>+44 7921 255043 &amp; co</Note></CDR>", "bad"),
        Reject(902, "<CDR><uid>902</uid><x>&#55;&#57;21255043</x></CDR>", "bad"),
        Reject(903, "<CDR><uid>903</uid></CDR>", f"user_cost: '0{NUMBER}' is no amount"),
        Reject(904, "<CDR><uid>904</uid></CDR>", "user_cost: '5' is no amount"),
    ]
    store.save(page(*(call._replace(alias="before") for call in calls)))
    store.save(page(*calls, *strangers, rejects=rejects))
    store.save(page(FIRST._replace(uid=300, anumber="", alias="after")))  # what it was stays in the history
    with eyes.engine.begin() as connection:
        run = {"account_id": 1, "origin": "tail", "started_at": FIRST.started_at, "outcome": "ok"}
        counts = dict.fromkeys(("inserted", "updated", "unchanged", "rejected"), 0)
        connection.execute(insert(tables.sync_run).values(**run, **counts, message=f"asked for 0{NUMBER}"))
    before = len(eyes.cdrs())
    done = eraser.erase_number(given)
    assert (done.calls >= len(calls) - 1, done.rejects) == (True, 4)
    assert {"cdr.anumber", "cdr.dialled", "cdr.bnumber", "cdr.alias", "cdr.extra", "cdr.ref"} <= done.found.keys()
    assert {"cdr_change.old_value", "reject.raw", "number.number", "sync_run.message"} <= done.found.keys()
    for _ in range(2):
        left = everything(eyes)
        assert [text for text in SPELLINGS if re.search(rf"(?<!\d){re.escape(text)}(?!\d)", left)] == []
        assert len(eyes.cdrs()) == before
        held = {call.uid: call for call in eyes.cdrs()}
        assert [held[700 + n].alias for n in range(len(OTHERS))] == list(OTHERS)
        assert [row.uid for row in eyes.rows(tables.reject) if row.raw.endswith("<uid>904</uid></CDR>")] == [904]
        store.save(page(*calls, *strangers, rejects=rejects))  # nothing comes back
    (log,) = eyes.rows(tables.erasure)
    assert "cdr.anumber" in log.found


@pytest.mark.parametrize("moment", ["SELECT number.number", "SELECT cdr.uid", "SELECT DISTINCT cdr.dialled"])
def test_a_page_that_is_read_again_meanwhile(store: SqlStore, eraser: Eraser, eyes: Eyes, moment: str) -> None:
    """No long look keeps a writer waiting. The rule holds already: what a call was before stays in no change."""
    calls = spelt()
    store.save(page(*calls))
    met: list[str] = []

    @event.listens_for(eyes.engine, "before_cursor_execute")
    def _read_again(_: object, cursor: object, said: str, *more: object) -> None:
        del cursor, more
        if not met and moment in said:
            met.append(said)
            store.save(page(*calls))

    eraser.erase_number(NUMBER)
    assert met
    left = everything(eyes)
    assert [text for text in SPELLINGS if re.search(rf"(?<!\d){re.escape(text)}(?!\d)", left)] == []


@pytest.mark.parametrize(
    ("given", "written"),
    [("+44 7921 255043", SPELLINGS), ("V:Desk@Example.com", ("V:desk@example.com", "V:DESK@example.com"))],
)
def test_what_retention_made_of_the_number_goes_too(
    store: SqlStore, eraser: Eraser, eyes: Eyes, given: str, written: tuple[str, ...]
) -> None:
    """However it was written it has one pseudonym, in calls, history and quarantine. Read again, nothing changes."""
    calls = [FIRST._replace(uid=100 + n, anumber="7700900123", dialled=text) for n, text in enumerate(written)]
    before = [call._replace(dialled="447700900124") for call in calls]
    rejects = [Reject(900, f"<CDR><calldate>{FIRST.call_date}</calldate><dialled>{written[0]}</dialled></CDR>", "bad")]
    store.save(page(*before))
    list(eraser.prune(FIRST.call_date + timedelta(days=1), "pseudonymise"))
    store.save(page(*calls, rejects=rejects))
    store.save(page(*before))
    store.save(page(*calls))
    (pseudonym,) = {call.dialled for call in eyes.cdrs()}
    assert pseudonym is not None
    assert everything(eyes).count(pseudonym) > 3 * len(calls)
    done = eraser.erase_number(given)
    assert done == Erased(len(calls), 1)
    assert {"cdr.dialled", "cdr_change.old_value", "reject.raw", "number.number"} <= done.found.keys()
    assert pseudonym not in everything(eyes)
    assert store.save(page(*calls, rejects=rejects)).unchanged == len(calls)
    assert pseudonym not in everything(eyes)
    assert {call.anumber for call in eyes.cdrs()} == {Key(SECRET).pseudonym("7700900123")}  # somebody else's stays


def test_what_retention_made_of_another_country_s_number_stays(store: SqlStore, eraser: Eraser, eyes: Eyes) -> None:
    """+7 921 255043 has the digits that a UK number has as the operator writes it: each is a person's own."""
    store.save(page(FIRST._replace(uid=1, anumber=NUMBER), FIRST._replace(uid=2, anumber=f"+{NUMBER}")))
    list(eraser.prune(FIRST.call_date + timedelta(days=1), "pseudonymise"))
    british, russian = (call.anumber for call in eyes.cdrs())
    assert british != russian
    eraser.erase_number(f"+{NUMBER}")
    assert [call.anumber for call in eyes.cdrs()] == [british, "~erased"]


@pytest.mark.parametrize("how", ["another account", "read anew", "under the name of one that is gone"])
def test_what_is_erased_stays_so_in_whatever_account_comes(
    store: SqlStore, eraser: Eraser, migrated: Database, eyes: Eyes, clock: Clock, how: str
) -> None:
    """One that is new, the same one after it was forgotten, and one that takes its name."""
    keyed = {"classify": classify, "pseudonym_key": SECRET, "clock": clock}
    if how == "under the name of one that is gone":
        with opened(migrated.url, "other", **keyed):
            pass
    store.save(page(*spelt()))
    eraser.erase_number(NUMBER)
    name = "main"
    if how != "another account":
        assert store.forget() == len(spelt())
        assert eyes.cdrs() == []
    store.close()
    if how == "another account":
        name = "another"
    if how == "under the name of one that is gone":
        with opened(migrated.url, "other", **keyed) as other:
            other.rename("main")
    with opened(migrated.url, name, **keyed) as again:
        again.save(page(*spelt()))
    left = everything(eyes)
    assert [text for text in SPELLINGS if re.search(rf"(?<!\d){re.escape(text)}(?!\d)", left)] == []


def test_what_is_erased_in_one_of_several_accounts_is_no_rule_of_a_new_one(
    store: SqlStore, migrated: Database, eyes: Eyes, clock: Clock
) -> None:
    """As with --account: the others go on holding the number."""
    for name in ("sold", "third"):
        with opened(migrated.url, name, pseudonym_key=SECRET, clock=clock):
            if name == "sold":
                Eraser(eyes.engine, "sold", Key(SECRET), clock=clock).erase_number(NUMBER)
    with opened(migrated.url, "third", pseudonym_key=SECRET, clock=clock) as third:
        third.save(page(FIRST._replace(anumber=NUMBER)))
    assert [call.anumber for call in eyes.cdrs()] == [NUMBER]
    assert store.account == "main"


def test_not_a_digit_is_left_in_a_file(store: SqlStore, eraser: Eraser, migrated: Database) -> None:
    """SQLite's file and its write-ahead log hold nothing of it at once, also of rows that were changed before."""
    if migrated.kind != "sqlite":
        pytest.skip("what a server keeps until its vacuum is its own (the guide says what)")
    for n in range(5):
        many = [FIRST._replace(uid=uid, anumber=NUMBER if uid % 3 else "1", duration=n) for uid in range(1, 2000)]
        store.save(page(*many, rejects=[Reject(n + 5000, f"<CDR><uid>{n}</uid><a>0{NUMBER}</a></CDR>", "bad")]))
    eraser.erase_number(NUMBER)
    file = Path(migrated.url.removeprefix("sqlite:///"))
    for path in file.parent.iterdir():
        content = path.read_bytes()
        assert [digits for digits in DIGITS if digits in content] == [], path.name


@pytest.mark.parametrize("wrong", ["another key, as random as the first", SECRET.upper()])
def test_another_key_is_refused_before_anything_is_written(
    store: SqlStore, eraser: Eraser, eyes: Eyes, wrong: str
) -> None:
    """And the account goes on under the right one."""
    store.save(page(FIRST))
    eraser.erase_number("7700900999")
    before = everything(eyes)
    with pytest.raises(ConfigError, match="is not the one"):
        Eraser(eyes.engine, store.account, Key(wrong)).erase_number(NUMBER)
    with pytest.raises(ConfigError, match="is not the one"):
        list(Eraser(eyes.engine, store.account, Key(wrong)).prune(FIRST.call_date, "pseudonymise"))
    assert everything(eyes) == before
    assert store.save(page(FIRST._replace(uid=7))).inserted == 1
    eraser.erase_number(NUMBER)
    assert {call.anumber for call in eyes.cdrs()} == {"~erased"}


@pytest.mark.parametrize("policy", ["pseudonymise", "delete"])
def test_retention_treats_the_quarantine_like_calls(store: SqlStore, eraser: Eraser, eyes: Eyes, policy: str) -> None:
    """A record of an old day that came today, on a day that has no call; one of a new day stays as sent."""
    old = f"<CDR><uid>9</uid><calldate>2013-01-02</calldate><anumber>{NUMBER}</anumber><duration>x</duration></CDR>"
    new = f"<CDR><uid>10</uid><calldate>2013-08-03</calldate><anumber>{NUMBER}</anumber><duration>x</duration></CDR>"
    store.save(page(rejects=[Reject(9, old, f"duration: '{NUMBER}'"), Reject(10, new, "bad")]))
    (*_, last) = eraser.prune(FIRST.call_date, policy)
    assert last.rejects == 1
    kept = {row.uid: row for row in eyes.rows(tables.reject)}
    assert kept[10].raw == new
    if policy == "delete":
        assert 9 not in kept
    else:
        assert NUMBER not in kept[9].raw + kept[9].problem
    store.save(page(rejects=[Reject(9, old, f"duration: '{NUMBER}'")]))  # it does not come back
    assert [row.uid for row in eyes.rows(tables.reject) if NUMBER in row.raw] == [10]
    assert list(eraser.prune(FIRST.call_date, policy)) == []
