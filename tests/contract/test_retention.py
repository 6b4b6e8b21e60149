"""What was erased is gone, stays gone whatever is read again, and counts in the ledger as before."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from cdrsync.errors import ConfigError
from cdrsync.model import Cdr, Checkpoint, Reject
from cdrsync.store import numbering
from cdrsync.store.numbering import RULES_VERSION, classify
from cdrsync.store.privacy.eraser import Erased, Eraser, months_before
from cdrsync.store.privacy.person import normal_form
from cdrsync.store.privacy.rules import Key
from cdrsync.store.reads.ledger import SqlLedger
from cdrsync.store.schema import tables
from tests.support.examples import FIRST, page
from tests.support.eyes import Eyes, seen
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdrsync.store.save import SqlStore
    from tests.conftest import Database
    from tests.support.clock import Clock

SECRET = "a long random text"
CALLER, OTHER, ABROAD = "7921255043", "7700900123", "33142685300"


def call(uid: int, days: int, **values: Any) -> Cdr:
    shift = timedelta(days=days)
    return FIRST._replace(uid=uid, call_date=FIRST.call_date + shift, started_at=FIRST.started_at + shift, **values)


CALLS = [
    call(1, 0, anumber=CALLER, dialled="447512345678", extra='{"Name":"Jo"}'),
    call(2, 0, anumber="", dialled="0"),
    call(3, 1, anumber=ABROAD, dialled="V:user@domain.com"),
    call(4, 9, anumber=CALLER, dialled="0"),
    call(5, 9, anumber=OTHER, dialled=f"44{CALLER}"),
]
HORIZON = FIRST.call_date + timedelta(days=5)


@pytest.fixture
def store(migrated: Database, clock: Clock) -> Iterator[SqlStore]:
    store = OwnStore(migrated.url, "main", classify=classify, pseudonym_key=SECRET, clock=clock)
    store.open()
    store.save(page(*CALLS, checkpoint=Checkpoint("tail", 5), completes=tuple({c.call_date for c in CALLS})))
    yield store
    store.close()


@pytest.fixture
def eraser(store: SqlStore, eyes: Eyes, clock: Clock) -> Eraser:
    return Eraser(eyes.engine, store.account, Key(SECRET), clock=clock)


def parties(eyes: Eyes) -> list[tuple[int, str | None, str | None]]:
    return [(cdr.uid, cdr.anumber, cdr.dialled) for cdr in eyes.cdrs()]


def everything(eyes: Eyes) -> str:
    """Every value of every table as one text."""
    return repr([eyes.rows(table) for table in tables.metadata.sorted_tables])


def ledger(eyes: Eyes) -> list[tuple[Any, ...]]:
    return [(row.call_date, row.calls, row.duration, row.charge) for row in eyes.rows(tables.coverage)]


KEY = Key(SECRET)
PSEUDONYMISED = [
    (1, KEY.pseudonym(CALLER), KEY.pseudonym("447512345678")),
    (2, "", "0"),
    (3, KEY.pseudonym(ABROAD), KEY.pseudonym("V:user@domain.com")),
    (4, CALLER, "0"),
    (5, OTHER, f"44{CALLER}"),
]


def test_old_calls_get_pseudonyms(store: SqlStore, eraser: Eraser, eyes: Eyes, clock: Clock) -> None:
    """Caller and destination, and elements that may name anybody; nobody's numbers and younger calls stay."""
    before = ledger(eyes)
    steps = list(eraser.prune(HORIZON, "pseudonymise"))
    assert [(step.calls, step.day) for step in steps] == [(1, CALLS[0].call_date), (2, CALLS[2].call_date), (2, None)]
    assert parties(eyes) == PSEUDONYMISED
    assert [cdr.extra for cdr in eyes.cdrs()] == [None] * 5
    assert ledger(eyes) == before
    assert {row.changed_at for row in eyes.rows(tables.cdr)} == {clock()}
    (log,) = eyes.rows(tables.erasure)
    assert (log.what, log.before_day, log.calls, log.ended_at) == ("pseudonymise", HORIZON, 2, clock())
    assert ABROAD not in everything(eyes)
    assert "447512345678" not in everything(eyes)
    assert store.checkpoint("tail") == Checkpoint("tail", 5)


def test_pseudonyms_join_and_keep_their_kind(store: SqlStore, eraser: Eraser, eyes: Eyes) -> None:
    """The same number has the same pseudonym, in the views with its kind and country; new rules leave it so."""
    store.save(page(call(6, 1, anumber=CALLER)))
    list(eraser.prune(HORIZON, "pseudonymise"))
    numbering.refresh(eyes.engine, lambda number: classify(number)._replace(rules_version="other"), "other")
    numbering.refresh(eyes.engine, classify, RULES_VERSION)
    rows = seen(eyes.engine, "SELECT caller_number, caller_e164, caller_kind, caller_region FROM calls ORDER BY uid")
    assert [tuple(row.values()) for row in rows[:3]] == [
        (KEY.pseudonym(CALLER), None, "mobile", "GB"),
        ("", None, "withheld", None),
        (KEY.pseudonym(ABROAD), None, "international", "FR"),
    ]
    assert rows[5] == rows[0]
    assert seen(eyes.engine, "SELECT outcome FROM calls WHERE uid = 3") == [{"outcome": "voicemail"}]


@pytest.mark.parametrize("policy", ["pseudonymise", "delete"])
def test_a_sweep_brings_nothing_back(store: SqlStore, eraser: Eraser, eyes: Eyes, policy: str) -> None:
    """Every page is read again, with a late call of an old day: what was erased stays erased."""
    list(eraser.prune(HORIZON, policy))
    held, figures = parties(eyes), ledger(eyes)
    saved = store.save(page(*CALLS, completes=(CALLS[0].call_date,)))
    assert (saved.inserted, saved.updated, saved.unchanged) == (0, 0, 5)
    assert (parties(eyes), ledger(eyes)) == (held, figures)
    store.save(page(call(7, 0, anumber="7700900999")))
    assert "7700900999" not in everything(eyes)
    assert len(eyes.cdrs()) == {"pseudonymise": 6, "delete": 2}[policy]


RECORD = (
    "<CDR><uid>{uid}</uid><calldate>{day}</calldate><anumber>7700900999</anumber><dialled>447700900998</dialled>"
    "<dialled_location>UK</dialled_location><alias/><duration>long</duration><Name>7700900997 &amp; Jo</Name></CDR>"
)


@pytest.mark.parametrize("policy", ["pseudonymise", "delete"])
def test_an_unreadable_record_brings_nothing_back(store: SqlStore, eraser: Eraser, eyes: Eyes, policy: str) -> None:
    """A record of an old day that goes to quarantine is treated as a call would be; a new one is kept as sent."""
    list(eraser.prune(HORIZON, policy))
    raws = [RECORD.format(uid=11, day=CALLS[0].call_date), RECORD.format(uid=12, day=HORIZON)]
    rejects = [Reject(11 + n, raw, "bad") for n, raw in enumerate(raws)]
    new = {"pseudonymise": 2, "delete": 1}[policy]
    assert [store.save(page(rejects=rejects)).rejected for _ in range(2)] == [new, 0]
    kept = {row.uid: row for row in eyes.rows(tables.reject)}
    assert (kept[12].raw, kept[12].seen) == (raws[1], 2)
    if policy == "delete":
        assert kept.keys() == {12}
        return
    key = Key(SECRET)
    assert kept[11].raw == (
        f"<CDR><uid>11</uid><calldate>{CALLS[0].call_date}</calldate><anumber>{key.pseudonym('7700900999')}</anumber>"
        f"<dialled>{key.pseudonym('447700900998')}</dialled><dialled_location>UK</dialled_location>"
        "<alias></alias><duration>long</duration></CDR>"
    )
    assert kept[11].seen == 2


def test_a_writer_that_starts_later_keeps_to_it(
    store: SqlStore, eraser: Eraser, eyes: Eyes, migrated: Database
) -> None:
    """The rule is in the database, not in a process."""
    list(eraser.prune(HORIZON, "pseudonymise"))
    store.close()
    later = OwnStore(migrated.url, "main", pseudonym_key=SECRET)
    later.open()
    assert later.save(page(*CALLS)).updated == 0
    later.close()
    assert parties(eyes) == PSEUDONYMISED


@pytest.mark.parametrize("key", [None, "another key"])
def test_without_the_key_nothing_is_saved(
    store: SqlStore, eraser: Eraser, eyes: Eyes, migrated: Database, key: str | None
) -> None:
    """A writer that could not tell what was erased stops, and says what it needs."""
    list(eraser.prune(HORIZON, "pseudonymise"))
    store.close()
    later = OwnStore(migrated.url, "main", pseudonym_key=key)
    later.open()
    with pytest.raises(ConfigError, match="pseudonym_key"):
        later.save(page(*CALLS))
    later.close()
    assert parties(eyes) == PSEUDONYMISED


def test_old_calls_are_deleted(store: SqlStore, eraser: Eraser, eyes: Eyes) -> None:
    """Rows, their history and their numbers; the ledger keeps the days' figures, and an audit counts them."""
    store.save(page(CALLS[0]._replace(anumber=OTHER)))
    store.save(page(CALLS[0]))
    before = ledger(eyes)
    everything_held = SqlLedger(eyes.engine, "main").holdings()
    assert list(eraser.prune(HORIZON, "delete"))[-1] == Erased(3, 0)
    assert [cdr.uid for cdr in eyes.cdrs()] == [4, 5]
    assert ledger(eyes) == before
    assert eyes.rows(tables.cdr_change) == []
    assert sorted(row.number for row in eyes.rows(tables.number)) == [
        "", "0", "1245830144", f"44{CALLER}", OTHER, CALLER,
    ]  # fmt: skip
    audited = SqlLedger(eyes.engine, "main")
    left = audited.holdings()
    assert left == replace(everything_held, deleted=left.deleted)
    assert len(left.deleted) == 2
    audited.recount([CALLS[0].call_date])
    assert ledger(eyes) == before
    pruned = seen(eyes.engine, "SELECT pruned, calls FROM coverage_daily ORDER BY call_date")
    assert [tuple(row.values()) for row in pruned] == [("delete", 2), ("delete", 1), (None, 2)]


def test_pseudonyms_first_deleted_later(eraser: Eraser, eyes: Eyes) -> None:
    """A stricter policy treats the days again; a second run of the same finds nothing to do."""
    list(eraser.prune(HORIZON, "pseudonymise"))
    assert list(eraser.prune(HORIZON, "pseudonymise")) == []
    list(eraser.prune(HORIZON, "delete"))
    assert [cdr.uid for cdr in eyes.cdrs()] == [4, 5]
    assert list(eraser.prune(HORIZON, "pseudonymise")) == []


def test_a_run_that_was_cut_off_is_completed(eraser: Eraser, eyes: Eyes) -> None:
    """Stopped after its first day, it goes on with the second, and forgets the first's numbers too."""
    for _ in eraser.prune(HORIZON, "pseudonymise"):
        break
    assert parties(eyes)[2] == (3, ABROAD, "V:user@domain.com")
    list(eraser.prune(HORIZON, "pseudonymise"))
    assert parties(eyes) == PSEUDONYMISED
    assert "447512345678" not in everything(eyes)
    assert all(row.ended_at for row in eyes.rows(tables.erasure))


@pytest.mark.parametrize("form", ["+44 7921 255043", "07921255043", CALLER, f"0044{CALLER}"])
def test_one_person_is_forgotten(store: SqlStore, eraser: Eraser, eyes: Eyes, form: str) -> None:
    """As caller and as destination, in the history and in quarantine, however the number is said; and for good."""
    store.save(page(CALLS[4]._replace(anumber=CALLER)))
    store.save(page(CALLS[4]))
    store.save(page(rejects=[Reject(9, f"<CDR><uid>9</uid><anumber>{CALLER}</anumber></CDR>", "bad")]))
    assert eraser.erase_number(form) == Erased(3, 1)
    assert parties(eyes) == [
        (1, "~erased", "447512345678"),
        (2, "", "0"),
        (3, ABROAD, "V:user@domain.com"),
        (4, "~erased", "0"),
        (5, OTHER, "~erased"),
    ]
    assert CALLER not in everything(eyes)
    assert store.save(page(*CALLS, call(8, 20, anumber=f"0{CALLER}"))).inserted == 1
    store.save(page(rejects=[Reject(9, f"<CDR><uid>9</uid><dialled>44{CALLER}</dialled></CDR>", "bad")]))
    assert CALLER not in everything(eyes)
    assert eyes.rows(tables.reject)[-1].raw == "<CDR><uid>9</uid><dialled>~erased</dialled></CDR>"
    rows = seen(eyes.engine, "SELECT caller_kind FROM calls WHERE uid IN (1, 3, 8) ORDER BY uid")
    assert [row["caller_kind"] for row in rows] == ["erased", "international", "erased"]


def test_a_page_under_way_waits_for_no_rule_to_be_late(store: SqlStore, eraser: Eraser, eyes: Eyes) -> None:
    """A rule that is put down between two pages holds for the second, with no restart in between."""
    store.save(page(call(20, 0, anumber=OTHER)))
    eraser.erase_number(OTHER)
    store.save(page(call(21, 0, anumber=OTHER), call(22, 30, anumber="7700900555")))
    assert [(cdr.uid, cdr.anumber) for cdr in eyes.cdrs()][-3:] == [
        (20, "~erased"), (21, "~erased"), (22, "7700900555"),
    ]  # fmt: skip


def test_accounts_are_apart(eraser: Eraser, eyes: Eyes, migrated: Database) -> None:
    """What one account erases another keeps, and with it the number's row."""
    other = OwnStore(migrated.url, "other", classify=classify)
    other.open()
    other.save(page(CALLS[2]))
    list(eraser.prune(HORIZON, "delete"))
    other.save(page(*CALLS[:3]))
    other.close()
    assert [cdr.uid for cdr in eyes.cdrs()] == [4, 5, 1, 2, 3]
    assert ABROAD in {row.number for row in eyes.rows(tables.number)}


def test_what_is_missing_is_said(store: SqlStore, eyes: Eyes) -> None:
    """No key, no such account, no number."""
    keyless = Eraser(eyes.engine, store.account, None)
    with pytest.raises(ConfigError, match="needs a pseudonym_key"):
        keyless.erase_number(CALLER)
    with pytest.raises(ConfigError, match="needs a pseudonym_key"):
        list(keyless.prune(HORIZON, "pseudonymise"))
    assert list(keyless.prune(HORIZON, "delete"))[-1].calls == 3
    with pytest.raises(ConfigError, match="no account 'mian'"):
        Eraser(eyes.engine, "mian", None)
    with pytest.raises(ConfigError, match=r"'Jo' is no number\. Write it as 07921255043"):
        normal_form("Jo")


def test_months() -> None:
    """The same day of an earlier month, or that month's last."""
    assert months_before(date(2026, 3, 31), 1) == date(2026, 2, 28)
    assert months_before(date(2026, 1, 15), 12) == date(2025, 1, 15)
    assert months_before(date(2024, 5, 29), 27) == date(2022, 2, 28)


def test_pseudonyms_are_keyed() -> None:
    """Another key makes others; a pseudonym is not made into another; a mailbox is still one."""
    assert KEY.pseudonym(CALLER) != Key("another").pseudonym(CALLER)
    assert KEY.pseudonym(KEY.pseudonym(CALLER)) == KEY.pseudonym(CALLER)
    mailbox = KEY.pseudonym("V:user@domain.com")
    assert mailbox is not None
    assert mailbox.startswith("V:~")
    assert KEY.pseudonym(mailbox) == mailbox
    assert (KEY.pseudonym(""), KEY.pseudonym("0"), KEY.pseudonym(None)) == ("", "0", None)
