"""Values go into every database and come back equal; what a database can't hold becomes a Reject, not a stuck page."""

from __future__ import annotations

import json
import random
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text

from cdrsync.model import COST_PLACES, MAX_UID, Cdr, Checkpoint, Period, Totals, WallClock
from cdrsync.store.reads.ledger import SqlLedger
from cdrsync.store.schema import tables
from tests.support.examples import FIRST, page

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdrsync.store.save import SqlStore
    from tests.conftest import Database
    from tests.support.eyes import Eyes

XML_TEXT = st.text(
    st.one_of(
        st.characters(min_codepoint=0x20, max_codepoint=0xD7FF),
        st.characters(min_codepoint=0xE000, max_codepoint=0xFFFD),
        st.characters(min_codepoint=0x10000, max_codepoint=0x10FFFF),
        st.sampled_from("\t\n\r'\"\\%_`;:${}\x7f\u0301\u200f\u202e"),
    )
)
"""Any text that XML can carry."""

INT32 = st.integers(-(2**31), 2**31 - 1)
POSITIVE = st.integers(0, 2**31 - 1)
FLAG = st.sampled_from([None, True, False])
COST = st.decimals(-(10**9) + 1, 10**9 - 1, places=COST_PLACES, allow_nan=False, allow_infinity=False)
CDRS = st.builds(
    Cdr,
    uid=st.integers(1, MAX_UID),
    ref=st.none() | XML_TEXT,
    call_date=st.dates(date(1990, 1, 1), date(2100, 12, 31)),
    call_time=st.builds(time, st.integers(0, 23), st.integers(0, 59), st.integers(0, 59)),
    started_at=st.datetimes(datetime(1990, 1, 1), datetime(2100, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001
    wall_clock=st.none() | st.sampled_from(list(WallClock)),
    anumber=st.none() | XML_TEXT,
    anumber_location=st.none() | XML_TEXT,
    bnumber=st.none() | XML_TEXT,
    alias=st.none() | XML_TEXT,
    dialled=st.none() | XML_TEXT,
    dialled_location=st.none() | XML_TEXT,
    duration=POSITIVE,
    ring_time=st.none() | POSITIVE,
    user_cost=COST,
    reason=st.none() | INT32,
    reason_q805=st.none() | INT32,
    has_recorded_call=FLAG,
    has_voicemail_recording=FLAG,
    has_fax_document=FLAG,
    extra=st.none()
    | st.dictionaries(XML_TEXT, XML_TEXT | st.lists(XML_TEXT)).map(
        lambda found: json.dumps(found, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    ),
)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(CDRS, min_size=1, max_size=5, unique_by=lambda call: call.uid), st.lists(CDRS, min_size=5, max_size=5))
def test_any_call_comes_back_equal(store: SqlStore, eyes: Eyes, cdrs: list[Cdr], others: list[Cdr]) -> None:
    """Insert, read, see that it is unchanged; overwrite each value of each, read, unchanged again.

    The ref is overwritten by itself: with another start beside it the row would be another call (SequenceReset).
    """
    empty(eyes)
    cdrs.sort(key=lambda call: call.uid)
    assert store.save(page(*cdrs)).inserted == len(cdrs)
    assert eyes.cdrs() == cdrs
    assert store.save(page(*cdrs)).unchanged == len(cdrs)
    changed = [
        other._replace(uid=call.uid, has_recorded_call=True, has_voicemail_recording=True, has_fax_document=False)
        for call, other in zip(cdrs, others, strict=False)
    ]
    renamed = [call._replace(ref=other.ref) for call, other in zip(cdrs, changed, strict=True)]
    store.save(page(*renamed))
    assert eyes.cdrs() == renamed
    store.save(page(*changed))
    assert eyes.cdrs() == changed
    assert store.save(page(*changed)).unchanged == len(cdrs)
    held = {row.call_date: (row.calls, row.duration, row.charge) for row in eyes.rows(tables.coverage) if row.calls}
    days = sorted({call.call_date for call in changed})
    assert held == {day: figures(changed, day) for day in days}


def figures(cdrs: list[Cdr], day: date) -> tuple[int, int, Decimal]:
    of_day = [call for call in cdrs if call.call_date == day]
    return len(of_day), sum(call.duration for call in of_day), sum((call.user_cost for call in of_day), Decimal(0))


def empty(eyes: Eyes) -> None:
    with eyes.engine.begin() as connection:
        for table in (tables.cdr, tables.coverage, tables.cdr_change, tables.reject):
            connection.execute(table.delete())


TEXTS = (
    "x" * 100_000,
    "\U0001f4de" * 50_000,
    "שלום مرحبا \u202eabc",
    "trailing ",
    " leading",
    "Trailing ",
    "\t\r\n",
    "it's 100% \\ %s %(x)s {} ; -- /* \"",
    "\\N",
    "NULL",
    "",
    "e\u0301",
    "\u00e9",
    "\ufeff",
    "\ufffd",
)


@pytest.mark.parametrize("alike", [str.swapcase, "{} ".format, str.strip, lambda _: None])
def test_texts_are_exact(store: SqlStore, eyes: Eyes, alike: Callable[[str], str | None]) -> None:
    """A text differs from another that is merely alike to the database, and comes back as sent."""
    texts = [text for text in TEXTS if alike(text) != text]
    before = [FIRST._replace(uid=uid, alias=alike(text)) for uid, text in enumerate(texts, 1)]
    after = [FIRST._replace(uid=uid, alias=text) for uid, text in enumerate(texts, 1)]
    store.save(page(*before))
    assert store.save(page(*after)).updated == len(texts)
    assert [call.alias for call in sorted(eyes.cdrs(), key=lambda call: call.uid)] == texts
    assert store.save(page(*after)).unchanged == len(texts)


def test_money_adds_up_in_the_database(store: SqlStore, eyes: Eyes) -> None:
    """Ten thousand times a millionth of a pound beside nearly a thousand million: not a digit is lost."""
    large = Decimal("999999999.999999")
    cdrs = [FIRST._replace(uid=uid, user_cost=Decimal("0.000001")) for uid in range(1, 10_001)]
    store.save(page(*cdrs, FIRST._replace(user_cost=large)))
    with eyes.engine.connect() as connection:
        assert connection.scalar(select(func.sum(tables.cdr.c.user_cost))) == large + Decimal("0.01")
    assert eyes.rows(tables.coverage)[0].charge == large + Decimal("0.01")


UNHOLDABLE = {
    "a cost that would be rounded": {"user_cost": Decimal("0.0000001")},
    "a lone surrogate": {"alias": "a\ud800b"},
    "a uid beyond 64 bits": {"uid": 2**63},
}


@pytest.mark.parametrize("values", UNHOLDABLE.values(), ids=UNHOLDABLE)
def test_what_no_database_can_hold_becomes_a_reject(store: SqlStore, eyes: Eyes, values: dict[str, object]) -> None:
    """The rest of the page and its checkpoint are stored; the record is in the quarantine, as XML."""
    bad = FIRST._replace(**{"uid": 1000, **values})  # type: ignore[arg-type]
    good = [FIRST._replace(uid=uid) for uid in (1, 2, 3, 1001, 1002)]
    held = good[2]._replace(alias="before")
    store.save(page(held))
    saved = store.save(page(*good[:3], bad, *good[3:], checkpoint=Checkpoint("tail", 1002)))
    assert (saved.inserted, saved.updated, saved.rejected, saved.records) == (4, 1, 1, 6)
    assert eyes.cdrs() == good
    assert store.checkpoint("tail") == Checkpoint("tail", 1002)
    (row,) = eyes.rows(tables.reject)
    assert row.raw.startswith("<CDR><uid>")
    assert row.problem.startswith("the database can't hold it: ")
    saved = store.save(page(bad))
    assert (saved.inserted, saved.rejected, saved.unchanged) == (0, 0, 1)  # in quarantine already
    assert [row.seen for row in eyes.rows(tables.reject)] == [2]


def test_what_one_database_can_not_hold_becomes_a_reject(store: SqlStore, eyes: Eyes, migrated: Database) -> None:
    """PostgreSQL: NUL, numbers beyond 32 bits, a number too long for its index. MariaDB: beyond its packet and ints."""
    values: dict[str, list[dict[str, object]]] = {
        "sqlite": [],
        "postgresql": [{"alias": "a\0b"}, {"duration": 2**31}, {"anumber": long_and_random()}],
        "mariadb": [{"duration": 2**31}, {"alias": "x" * 17_000_000}, {"user_cost": Decimal(10) ** 12}],
    }
    bad = [FIRST._replace(uid=1000 + n, **found) for n, found in enumerate(values[migrated.kind])]  # type: ignore[arg-type]
    saved = store.save(page(FIRST, *bad))
    assert (saved.inserted, saved.rejected) == (1, len(bad))
    assert saved.unholdable == tuple(call.uid for call in bad)
    assert eyes.cdrs() == [FIRST]
    assert all(len(row.raw) < 300_000 for row in eyes.rows(tables.reject))
    assert sorted(row.uid for row in eyes.rows(tables.reject)) == [call.uid for call in bad]


def long_and_random() -> str:
    """A text that no compression fits into an index page."""
    return "".join(random.Random(1).choices("0123456789abcdef", k=20_000))


def test_instants_are_utc_in_the_table(store: SqlStore, eyes: Eyes, migrated: Database) -> None:
    """Whoever reads the table with other tools finds UTC."""
    store.save(page(FIRST))
    column = "started_at AT TIME ZONE 'UTC'" if migrated.kind == "postgresql" else "started_at"
    with eyes.engine.connect() as connection:
        assert str(connection.scalar(text(f"SELECT {column} FROM cdr"))) == "2013-08-03 19:48:40"


def test_figures_of_the_operator_beyond_all_sense_are_kept_as_texts(store: SqlStore, eyes: Eyes) -> None:
    """The answer to GetTotals is kept, with a word of what no database holds; nothing fails for it."""
    store.save(page(FIRST))
    text = "999999999999999.999999"
    for totals in (
        Totals(Period.ALL, None, 1, 2, 3, Decimal(text), Decimal(text), {"ChargeTotal": text}),
        Totals(Period.DAY, None, 10**15, 2**31, 3, Decimal(1), Decimal("-1.5"), {"AnsweredTotal": str(10**15)}),
    ):
        SqlLedger(eyes.engine, "main").record_totals(totals, FIRST.started_at)
    charge, answered = eyes.rows(tables.operator_totals)
    assert (charge.charge, charge.minutes_no_format, charge.answered) == (None, None, 1)
    assert f"charge: {text} is larger than can be" in charge.unusable
    assert text in charge.texts
    assert (answered.answered, answered.missed, answered.voicemail, answered.charge) == (None, None, 3, Decimal("-1.5"))


def test_a_day_without_calls_gets_no_row_by_being_counted_again(store: SqlStore, eyes: Eyes) -> None:
    """The ledger's own days follow the rows; a day that it does not know stays unknown: it was never read."""
    store.save(page(FIRST))
    with eyes.engine.begin() as connection:
        connection.execute(tables.coverage.update().values(calls=7))
    SqlLedger(eyes.engine, "main").recount([FIRST.call_date, FIRST.call_date + timedelta(days=1)])
    assert [(day.call_date, day.calls) for day in eyes.rows(tables.coverage)] == [(FIRST.call_date, 1)]
