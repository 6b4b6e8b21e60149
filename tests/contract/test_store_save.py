"""What `store.save` promises, on every database alike."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, text

from cdrsync.errors import SequenceReset
from cdrsync.model import Checkpoint, Origin, Page, PageSaved, Reject, Window
from cdrsync.store.schema import tables
from cdrsync.store.spelling import NumberFacts
from tests.support.examples import FIRST, calls, page
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from cdrsync.store.save import SqlStore
    from tests.conftest import Database
    from tests.support.clock import Clock
    from tests.support.eyes import Eyes

DAY = date(2013, 8, 3)


def test_new_calls_are_stored_as_they_are(store: SqlStore, eyes: Eyes) -> None:
    """Every value comes back equal, and the counts say what was done."""
    cdrs = calls(3)
    saved = store.save(page(*cdrs, checkpoint=Checkpoint("tail", cdrs[-1].uid)))
    assert saved == PageSaved(
        Origin.TAIL, inserted=3, high_water_uid=cdrs[-1].uid, newest_started_at=cdrs[-1].started_at
    )
    assert eyes.cdrs() == cdrs


def test_the_same_page_again_rewrites_nothing(store: SqlStore, eyes: Eyes, clock: Clock, migrated: Database) -> None:
    """Unchanged rows stay as they are: changed_at does not move, and PostgreSQL's row versions are the same."""
    cdrs = calls(10)
    store.save(page(*cdrs))
    before = eyes.rows(tables.cdr)
    versions = row_versions(eyes, migrated)
    clock.advance(hours=1)
    saved = store.save(page(*cdrs))
    assert (saved.inserted, saved.updated, saved.unchanged) == (0, 0, 10)
    assert eyes.rows(tables.cdr) == before
    assert row_versions(eyes, migrated) == versions


@pytest.mark.parametrize("found", [{""}, {"", "0"}, {"7921255043"}, {"V:a\\b@example.com", "it's"}])
def test_every_number_is_noted_once(store: SqlStore, eyes: Eyes, found: set[str]) -> None:
    """Also the caller that is withheld, when it is the only one that is new. An absent element is no number."""
    numbers = sorted(found)
    store.save(
        page(
            *(FIRST._replace(uid=uid, anumber=text, bnumber=None, dialled=None) for uid, text in enumerate(numbers, 1))
        )
    )
    with eyes.engine.connect() as connection:
        noted = connection.execute(select(tables.number.c.number, tables.number.c.kind, tables.number.c.e164)).all()
    assert sorted(map(tuple, noted)) == [(text, None, None) for text in numbers]


def row_versions(eyes: Eyes, database: Database) -> list[tuple[object, ...]]:
    if database.kind != "postgresql":
        return []
    with eyes.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text("SELECT xmin::text, ctid::text FROM cdr ORDER BY uid"))]


def test_only_the_changed_call_is_written(store: SqlStore, eyes: Eyes, clock: Clock) -> None:
    """One call of many is re-rated: it alone moves its changed_at, and the old cost is in the history."""
    cdrs = calls(10)
    begun = clock()
    store.save(page(*cdrs))
    clock.advance(hours=1)
    cdrs[4] = cdrs[4]._replace(user_cost=Decimal("0.126"))
    saved = store.save(page(*cdrs))
    assert (saved.inserted, saved.updated, saved.unchanged) == (0, 1, 9)
    assert eyes.cdrs() == cdrs
    assert [row.changed_at for row in eyes.rows(tables.cdr)] == [begun] * 4 + [clock()] + [begun] * 5
    assert {row.first_seen_at for row in eyes.rows(tables.cdr)} == {begun}
    assert [tuple(row)[2:] for row in eyes.rows(tables.cdr_change)] == [
        (cdrs[4].uid, clock(), "user_cost", "0.125", "0.126")
    ]


def test_a_record_twice_in_a_page(store: SqlStore, eyes: Eyes) -> None:
    """The last word counts, the row is stored once, and the counts still add up."""
    later = FIRST._replace(alias="later")
    saved = store.save(page(FIRST, later))
    assert (saved.inserted, saved.unchanged, saved.records) == (1, 1, 2)
    assert eyes.cdrs() == [later]


def test_a_uid_that_is_another_call_now_overwrites_nothing(store: SqlStore, eyes: Eyes) -> None:
    """The operator's uids have fallen by less than a look-back can tell from late records."""
    old, neighbour = calls(2)
    store.save(page(old, neighbour))
    other = old._replace(ref="A" * 16, started_at=old.started_at + timedelta(hours=1))
    with pytest.raises(SequenceReset, match=f"uid {old.uid} was the call {old.ref} of .* now is AAAAAAAAAAAAAAAA"):
        store.save(page(neighbour._replace(duration=99), other))
    assert eyes.cdrs() == [old, neighbour]


def test_a_person_may_have_another_call_in_the_place_of_the_one_held(store: SqlStore, eyes: Eyes) -> None:
    """What was held stays in the history, and the ledger follows the call to its day."""
    old, neighbour = calls(2)
    store.save(page(old, neighbour))
    later = old.call_date + timedelta(days=1)
    other = old._replace(ref="A" * 16, started_at=old.started_at + timedelta(days=1), call_date=later)
    assert store.save(Page(Origin.PERSON, [other])).updated == 1
    assert eyes.cdrs() == [other, neighbour]
    before = {row.column_name: row.old_value for row in eyes.rows(tables.cdr_change)}
    assert (before["ref"], before["call_date"]) == (old.ref, str(old.call_date))
    assert {row.call_date: row.calls for row in eyes.rows(tables.coverage)} == {old.call_date: 1, later: 1}
    assert store.save(page(other, neighbour)).unchanged == 2


def test_a_uid_of_two_calls_in_a_page_loses_neither(store: SqlStore, eyes: Eyes) -> None:
    """One of them would be written over the other: nothing of the page is, as where they come in two."""
    one, neighbour = calls(2)
    other = one._replace(ref="A" * 16, started_at=one.started_at + timedelta(hours=1))
    with pytest.raises(SequenceReset, match=f"uid {one.uid} was the call {one.ref} of .* now is A{{16}} .*two calls"):
        store.save(page(one, neighbour, other))
    assert eyes.cdrs() == []


def test_an_absent_flag_never_overwrites_a_known_one(store: SqlStore, eyes: Eyes, clock: Clock) -> None:
    """None is "the operator did not say": nothing is written for it."""
    store.save(page(FIRST))
    begun = clock()
    clock.advance(hours=1)
    silent = FIRST._replace(has_recorded_call=None, has_voicemail_recording=None, has_fax_document=None)
    saved = store.save(page(silent))
    assert (saved.updated, saved.unchanged) == (0, 1)
    assert eyes.cdrs() == [FIRST]
    assert eyes.rows(tables.cdr)[0].changed_at == begun


def test_a_flag_that_becomes_known_is_no_change_of_a_known_value(store: SqlStore, eyes: Eyes, clock: Clock) -> None:
    """The row is updated, the history stays empty; a flag that flips later is a change."""
    store.save(page(FIRST))
    clock.advance(hours=1)
    known = FIRST._replace(has_fax_document=True)
    assert store.save(page(known)).updated == 1
    assert eyes.rows(tables.cdr)[0].changed_at == clock()
    assert eyes.rows(tables.cdr_change) == []
    flipped = known._replace(has_fax_document=False, has_recorded_call=None)
    assert store.save(page(flipped)).updated == 1
    assert eyes.cdrs() == [known._replace(has_fax_document=False)]
    assert [tuple(row)[4:] for row in eyes.rows(tables.cdr_change)] == [("has_fax_document", "true", "false")]


def test_the_ledger_counts_what_is_written(store: SqlStore, eyes: Eyes) -> None:
    """Calls, duration and charge of each day, exact; a second reading adds nothing."""
    cdrs = [*calls(3), FIRST._replace(uid=9, call_date=date(2013, 8, 4), duration=0, user_cost=Decimal("0.000001"))]
    for _ in range(2):
        store.save(page(*cdrs))
        assert ledger(eyes) == [
            (DAY, 3, 183, Decimal("0.375")),
            (date(2013, 8, 4), 1, 0, Decimal("0.000001")),
        ]


def test_the_ledger_follows_a_changed_call(store: SqlStore, eyes: Eyes) -> None:
    """A call that moves to another day takes its duration and charge along."""
    store.save(page(*calls(2)))
    moved = FIRST._replace(call_date=date(2013, 8, 5), duration=100, user_cost=Decimal(1))
    store.save(page(moved))
    assert ledger(eyes) == [(DAY, 1, 61, Decimal("0.125")), (date(2013, 8, 5), 1, 100, Decimal(1))]


def ledger(eyes: Eyes) -> list[tuple[object, ...]]:
    return [(row.call_date, row.calls, row.duration, row.charge) for row in eyes.rows(tables.coverage)]


def test_a_day_is_completed_by_the_page_that_ends_it(store: SqlStore, eyes: Eyes, clock: Clock) -> None:
    """With or without calls; and only at or after the moment asked for."""
    empty = date(2013, 8, 4)
    saved = store.save(page(*calls(2), completes=(DAY, empty)))
    assert saved.completed == (DAY, empty)
    window = Window(date(2013, 8, 1), date(2013, 8, 31))
    assert store.days_downloaded(window) == {DAY, empty}
    assert store.days_downloaded(Window(DAY, DAY)) == {DAY}
    assert store.days_downloaded(window, since=clock()) == {DAY, empty}
    assert store.days_downloaded(window, since=clock() + timedelta(microseconds=1)) == set()
    assert [(row.calls, row.verdict) for row in eyes.rows(tables.coverage)] == [(2, "unaudited"), (0, "unaudited")]


def test_a_day_that_changes_after_its_audit_is_unaudited_again(store: SqlStore, eyes: Eyes) -> None:
    """A verdict speaks of what was held then. Reading the day again without a change leaves it."""
    store.save(page(*calls(2)))
    with eyes.engine.begin() as connection:
        connection.execute(tables.coverage.update().values(verdict="complete"))
    store.save(page(*calls(2), completes=(DAY,)))
    assert [row.verdict for row in eyes.rows(tables.coverage)] == ["complete"]
    store.save(page(FIRST._replace(duration=1)))
    assert [row.verdict for row in eyes.rows(tables.coverage)] == ["unaudited"]


def test_the_checkpoint_never_moves_backwards(store: SqlStore) -> None:
    """Whatever a page says; and the page learns the true mark."""
    early, late = datetime(2013, 8, 3, 19, 0, tzinfo=UTC), datetime(2013, 8, 3, 20, 0, 0, 5, tzinfo=UTC)
    assert store.checkpoint("tail") is None
    assert store.save(page(checkpoint=Checkpoint("tail", 100, late))).high_water_uid == 100
    assert store.save(page(checkpoint=Checkpoint("tail", 99, early))).high_water_uid == 100
    assert store.checkpoint("tail") == Checkpoint("tail", 100, late)
    assert store.save(page(checkpoint=Checkpoint("tail"))).high_water_uid == 100
    assert store.save(page(checkpoint=Checkpoint("tail", 101))).high_water_uid == 101
    assert store.checkpoint("tail") == Checkpoint("tail", 101, late)
    later = late + timedelta(microseconds=1)
    assert store.save(page(checkpoint=Checkpoint("tail", 101, later))).high_water_uid == 101
    assert store.checkpoint("tail") == Checkpoint("tail", 101, later)


def test_a_job_is_kept_with_its_window(store: SqlStore) -> None:
    """A backfill can be resumed by whoever comes next."""
    job = Checkpoint("backfill", window=Window(DAY, date(2013, 9, 1)), begun_at=datetime(2026, 1, 1, tzinfo=UTC))
    store.save(page(checkpoint=job))
    assert store.checkpoint("backfill") == job
    done = Checkpoint("backfill", window=job.window, begun_at=job.begun_at, done=True)
    store.save(page(checkpoint=done))
    assert store.checkpoint("backfill") == done


def test_a_reject_seen_again_is_counted_not_repeated(store: SqlStore, eyes: Eyes, clock: Clock) -> None:
    """Kept once as sent, with how often and when."""
    broken = Reject(7, "<CDR><uid>7</uid><duration>x</duration></CDR>", "duration: not a number")
    nameless = Reject(None, "<CDR/>", "uid: missing")
    first = clock()
    assert store.save(page(rejects=[broken, nameless])).rejected == 2
    clock.advance(minutes=1)
    assert store.save(page(rejects=[broken, broken])).rejected == 0
    assert [
        (row.uid, row.raw, row.problem, row.seen, row.first_seen_at, row.last_seen_at, row.resolved_at)
        for row in sorted(eyes.rows(tables.reject), key=lambda row: row.raw)
    ] == [
        (None, "<CDR/>", "uid: missing", 1, first, first, None),
        (7, broken.raw, broken.problem, 3, first, clock(), None),
    ]


def test_a_record_that_can_be_stored_after_all_resolves_its_reject(
    store: SqlStore, eyes: Eyes, clock: Clock, migrated: Database
) -> None:
    """Also by another process than the one that rejected it; should it come broken again, it is open again."""
    broken = Reject(FIRST.uid, "<CDR>broken</CDR>", "broken")
    store.save(page(rejects=[broken]))
    store.close()
    other = OwnStore(migrated.url, "main", clock=clock)
    other.open()
    other.save(page(FIRST))
    assert [row.resolved_at for row in eyes.rows(tables.reject)] == [clock()]
    other.save(page(rejects=[broken]))
    assert [(row.seen, row.resolved_at) for row in eyes.rows(tables.reject)] == [(2, None)]
    other.save(page(FIRST))
    assert [row.resolved_at for row in eyes.rows(tables.reject)] == [clock()]
    other.close()


def test_each_distinct_number_is_noted_once(store: SqlStore, eyes: Eyes) -> None:
    """Callers, numbers called, numbers dialled; texts too long to be a number are left out."""
    store.save(page(FIRST, FIRST._replace(uid=2, anumber="", dialled=None, bnumber="9" * 321)))
    store.save(page(FIRST._replace(uid=3, anumber="7921255043 ")))
    assert [row.number for row in eyes.rows(tables.number)] == ["", "0", "1245830144", "7921255043", "7921255043 "]
    assert {(row.kind, row.rules_version) for row in eyes.rows(tables.number)} == {(None, None)}


def test_numbers_are_classified_where_somebody_can(eyes: Eyes, migrated: Database) -> None:
    """Each distinct number is asked for once, not once per call."""
    asked: list[str] = []

    def classify(number: str) -> NumberFacts:
        asked.append(number)
        return NumberFacts(f"+44{number}", "mobile", "GB", "1/test")

    store = OwnStore(migrated.url, "main", classify=classify)
    store.open()
    store.save(page(*calls(20)))
    store.save(page(*calls(30)))
    store.close()
    assert sorted(asked) == ["0", "1245830144", "7921255043"]
    assert [tuple(row)[:5] for row in eyes.rows(tables.number)][2] == (
        "7921255043", "+447921255043", "mobile", "GB", "1/test",
    )  # fmt: skip


def test_accounts_do_not_see_each_other(store: SqlStore, eyes: Eyes, migrated: Database) -> None:
    """The same uid in two accounts is two calls; checkpoints and ledgers are apart."""
    other = OwnStore(migrated.url, "other")
    other.open()
    store.save(page(FIRST, checkpoint=Checkpoint("tail", FIRST.uid)))
    assert other.checkpoint("tail") is None
    assert other.save(page(FIRST._replace(alias="theirs"))).inserted == 1
    assert [call.alias for call in eyes.cdrs()] == ["", "theirs"]
    other.close()


def test_look_back_finds_the_uid_to_start_from(store: SqlStore) -> None:
    """The highest held uid below the lowest of the calls that had not ended before; a lower one would do no harm."""
    cdrs = calls(50, FIRST._replace(duration=0))
    now = cdrs[-1].started_at + timedelta(hours=1)
    assert store.look_back_uid(cdrs[0].started_at, now) is None
    store.save(page(*cdrs))
    assert store.look_back_uid(cdrs[40].started_at, now) == cdrs[39].uid
    assert store.look_back_uid(cdrs[0].started_at, now) == cdrs[0].uid - 1
    assert store.look_back_uid(cdrs[-1].started_at + timedelta(seconds=1), now) == cdrs[-1].uid


@pytest.mark.parametrize("mistake", [{"started_at": FIRST.started_at.replace(year=2099)}, {"duration": 2**31 - 1}])
def test_look_back_is_not_held_by_a_call_that_ends_in_the_future(store: SqlStore, mistake: dict[str, Any]) -> None:
    """It would make every look-back to come begin at its uid, and read more each time."""
    cdrs = calls(50, FIRST._replace(duration=0))
    cdrs[5] = cdrs[5]._replace(**mistake)
    store.save(page(*cdrs))
    now = cdrs[-1].started_at + timedelta(hours=1)
    assert store.look_back_uid(cdrs[40].started_at, now) == cdrs[39].uid


def test_look_back_knows_durations_to_the_second(store: SqlStore) -> None:
    """A busy account has long calls among any few thousand: by the hour, each would draw in an hour of calls."""
    cdrs = calls(4, FIRST._replace(duration=0))
    begun = cdrs[3].started_at
    for seconds, anchor in ((4_000, 0), (3_999, 2)):
        cdrs[1] = cdrs[1]._replace(started_at=begun - timedelta(seconds=4_000), duration=seconds)
        store.save(page(*cdrs))
        assert store.look_back_uid(begun, begun + timedelta(hours=1)) == cdrs[anchor].uid


def test_a_long_call_does_not_hide_a_short_one_that_ended_before_it(store: SqlStore) -> None:
    """Uids handed out at the end of a call: one that was going on may have a higher uid than a late one begun since."""
    cdrs = calls(4, FIRST._replace(duration=0))
    begun = cdrs[3].started_at
    cdrs[2] = cdrs[2]._replace(started_at=begun - timedelta(minutes=90), duration=3 * 3600)
    store.save(page(*cdrs))
    assert store.look_back_uid(begun, begun + timedelta(hours=2)) == cdrs[1].uid


def test_an_empty_page_changes_nothing(store: SqlStore, eyes: Eyes) -> None:
    """No record, no checkpoint: no row anywhere."""
    assert store.save(page()) == PageSaved(Origin.TAIL)
    assert [len(eyes.rows(table)) for table in (tables.cdr, tables.coverage, tables.checkpoint)] == [0, 0, 0]


@pytest.mark.parametrize("count", [1, 2, 501, 2500])
def test_pages_of_any_size(store: SqlStore, eyes: Eyes, count: int) -> None:
    """One call or thousands take the same road."""
    cdrs = calls(count)
    assert store.save(page(*cdrs)).inserted == count
    assert store.save(page(*[call._replace(reason=2) for call in cdrs])).updated == count
    assert store.save(page(*[call._replace(reason=2) for call in cdrs])).unchanged == count
    assert len(eyes.rows(tables.cdr_change)) == count
