"""The views say the same on every database, to the last digit, and what they say was worked out by hand."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text, update

from cdrsync.store.admin import dictionary
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.numbering import classify
from cdrsync.store.schema import tables
from tests.conftest import KINDS
from tests.support.clock import Clock
from tests.support.examples import page
from tests.support.eyes import Eyes, seen
from tests.support.small_account import ABROAD, ANSWERED, VOICEMAIL, fill
from tests.support.stores import OwnStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdrsync.store.save import SqlStore
    from tests.support.servers import Servers

NOW = "2026-01-05 12:00:00.000250"
FIGURES = ("calls", "answered", "voicemail", "missed", "unknown", "duration", "cost", "cost_micros")


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=["counted anew", "summed"])
def views(request: pytest.FixtureRequest, servers: Servers, kind: str) -> Iterator[Eyes]:
    """The same for all who only look."""
    server = servers.get(kind)
    url = servers.migrated(server)
    store = OwnStore(url, "main", classify=classify, clock=Clock(datetime(2026, 1, 5, 12, 0, 0, 250, tzinfo=UTC)))
    store.open()
    fill(store, request.param)
    store.close()
    engine = open_engine(url)
    yield Eyes(engine)
    engine.dispose()
    server.drop(url)


def call(eyes: Eyes, uid: int, *columns: str) -> tuple[Any, ...]:
    (row,) = seen(eyes.engine, f"SELECT * FROM calls WHERE uid = {uid}")
    return tuple(row[column] for column in columns)


def test_an_answered_call(views: Eyes) -> None:
    """Every column of a plain call: numbers as sent and in E.164, what they are, times in three ways, exact cost."""
    (row,) = seen(views.engine, "SELECT * FROM calls WHERE uid = 102")
    assert row == {
        **dict.fromkeys(row),  # a newer column is NULL in an older call
        "account_id": 1,
        "account": "main",
        "uid": 102,
        "ref": "A2",
        "started_at": "2013-08-03 19:59:58",
        "ended_at": "2013-08-03 20:00:19",
        "started_local": "2013-08-03 20:59:58",
        "call_date": "2013-08-03",
        "call_time": "20:59:58",
        "call_hour": 20,
        "wall_clock": None,
        "outcome": "answered",
        "answered": 1,
        "forwarded_to": "number",
        "caller_number": "7921255043",
        "caller_e164": "+447921255043",
        "caller_national": "07921255043",
        "caller_kind": "mobile",
        "caller_kind_source": "plan",
        "caller_withheld": 0,
        "caller": "7921255043",
        "caller_region": "GB",
        "caller_location": "UK O2 Mobile",
        "called_number": "1245830144",
        "called_e164": "+441245830144",
        "called_kind": "landline",
        "alias": "Sales",
        "destination_number": "447512345678",
        "destination_e164": "+447512345678",
        "destination_kind": "mobile",
        "destination_region": "GB",
        "destination_location": "UK O2 Mobile",
        "duration": 21,
        "ring_time": 14,
        "cost": "0.026",
        "cost_micros": 26000,
        "reason": 1,
        "reason_label": "completed",
        "reason_q805": 1,
        "reason_q805_label": "completed",
        "has_recorded_call": 1,
        "has_voicemail_recording": None,
        "has_fax_document": None,
        "extra": None,
        "first_seen_at": NOW,
        "changed_at": NOW,
    }


OUTCOME = ("outcome", "answered", "forwarded_to", "destination_kind", "reason_label", "reason_q805_label")
CALLER = ("caller_number", "caller_e164", "caller_kind", "caller_region", "caller_location")


def test_outcomes(views: Eyes) -> None:
    """Answered, missed, to voicemail, and not said: codes without a published meaning are unknown."""
    assert call(views, 101, *OUTCOME) == ("missed", 0, "nowhere", "none", "unknown", "unknown")
    assert call(views, 103, *OUTCOME) == ("voicemail", 0, "voicemail", "voicemail", "completed", "completed")
    assert call(views, 104, *OUTCOME) == (
        "answered", 1, "number", "international", "completed", "request terminated (SIP)",
    )  # fmt: skip
    assert call(views, 105, *OUTCOME) == ("unknown", None, "unknown", "unknown", None, None)


def test_callers(views: Eyes) -> None:
    """Withheld, from abroad, and not said at all."""
    assert call(views, 103, *CALLER) == ("", None, "withheld", None, None)
    assert call(views, 104, *CALLER) == ("33142685300", "+33142685300", "international", "FR", "France")
    assert call(views, 105, *CALLER) == (None, None, "unknown", None, None)


def test_times_where_the_clocks_change(views: Eyes) -> None:
    """The second 01:30 of an autumn night, and a time that no clock showed, are flagged; the UTC instant is plain."""
    columns = ("started_local", "started_at", "ended_at", "call_hour", "wall_clock")
    assert call(views, 104, *columns) == (
        "2013-10-27 01:30:00", "2013-10-27 01:30:00", "2013-10-27 02:30:00", 1, "repeated-second",
    )  # fmt: skip
    assert call(views, 105, *columns) == (
        "2014-03-30 01:15:00", "2014-03-30 01:15:00", "2014-03-30 01:15:01", 1, "skipped",
    )  # fmt: skip


def test_an_alias_of_nothing_is_null(views: Eyes) -> None:
    """The operator's `-`, an empty text and an absent element all mean that there is no name."""
    assert [row["alias"] for row in seen(views.engine, "SELECT alias FROM calls ORDER BY uid")] == [
        "Old name", "Sales", None, None, None,
    ]  # fmt: skip


def test_costs_are_exact(views: Eyes) -> None:
    """A millionth of a pound, below nothing and beside a million, is kept by the call and by every sum."""
    assert [tuple(row.values()) for row in seen(views.engine, "SELECT cost, cost_micros FROM calls ORDER BY uid")] == [
        ("0", 0), ("0.026", 26000), ("0.005", 5000), ("1234567.000001", 1234567000001), ("-0.000001", -1),
    ]  # fmt: skip
    assert seen(views.engine, "SELECT SUM(cost_micros) AS micros FROM calls") in (
        [{"micros": 1234567031000}],
        [{"micros": "1234567031000"}],  # PostgreSQL and MySQL answer a decimal
    )


def test_days(views: Eyes) -> None:
    """Three days of calls by hand."""
    rows = seen(views.engine, "SELECT * FROM calls_daily ORDER BY call_date")
    assert [(row["account"], row["call_date"], *(row[name] for name in FIGURES)) for row in rows] == [
        ("main", "2013-08-03", 3, 1, 1, 1, 0, 36, "0.031", 31000),
        ("main", "2013-10-27", 1, 1, 0, 0, 0, 3600, "1234567.000001", 1234567000001),
        ("main", "2014-03-30", 1, 0, 0, 0, 1, 1, "-0.000001", -1),
    ]


def test_hours(views: Eyes) -> None:
    """The hour is that of the UK wall clock."""
    rows = seen(views.engine, "SELECT * FROM calls_hourly ORDER BY call_date, call_hour")
    assert [(row["call_date"], row["call_hour"], *(row[name] for name in FIGURES)) for row in rows] == [
        ("2013-08-03", 20, 2, 1, 0, 1, 0, 21, "0.026", 26000),
        ("2013-08-03", 21, 1, 0, 1, 0, 0, 15, "0.005", 5000),
        ("2013-10-27", 1, 1, 1, 0, 0, 0, 3600, "1234567.000001", 1234567000001),
        ("2014-03-30", 1, 1, 0, 0, 0, 1, 1, "-0.000001", -1),
    ]


def test_numbers(views: Eyes) -> None:
    """Each number called, with the newest name that is one, though its newest call has none."""
    rows = seen(views.engine, "SELECT * FROM numbers WHERE called_number IS NOT NULL ORDER BY called_number")
    who = ("called_number", "called_e164", "called_kind", "called_region", "alias", "first_call_at", "last_call_at")
    assert [tuple(row[name] for name in (*who, *FIGURES)) for row in rows] == [
        (
            "1245830144", "+441245830144", "landline", "GB", "Sales", "2013-08-03 19:48:40", "2013-08-03 20:00:00",
            3, 1, 1, 1, 0, 36, "0.031", 31000,
        ),
        (
            "8001111111", "+448001111111", "freephone", "GB", None, "2013-10-27 01:30:00", "2013-10-27 01:30:00",
            1, 1, 0, 0, 0, 3600, "1234567.000001", 1234567000001,
        ),
    ]  # fmt: skip
    (nobody,) = seen(views.engine, "SELECT * FROM numbers WHERE called_number IS NULL")
    assert (nobody["calls"], nobody["called_kind"]) == (1, "unknown")


def test_the_calendar_has_every_day(views: Eyes) -> None:
    """Whole years, two of them here, with ISO weeks, weekends and both clock changes."""
    rows = seen(views.engine, "SELECT * FROM calendar ORDER BY call_date")
    assert [row["call_date"] for row in rows] == [f"{_day(n)}" for n in range(730)]
    days = {row["call_date"]: tuple(row.values())[1:] for row in rows}
    assert days["2013-08-03"] == (
        2013, 3, 8, "August", "2013-08-01", 2013, 31, "2013-07-29", 3, 6, "Saturday", 1, None,
    )  # fmt: skip
    assert days["2013-12-30"] == (
        2013, 4, 12, "December", "2013-12-01", 2014, 1, "2013-12-30", 30, 1, "Monday", 0, None,
    )  # fmt: skip
    assert [(day, row[-1]) for day, row in days.items() if row[-1]] == [
        ("2013-03-31", "forward"), ("2013-10-27", "back"), ("2014-03-30", "forward"), ("2014-10-26", "back"),
    ]  # fmt: skip
    assert sum(row[-2] for row in days.values()) == 208


def _day(number: int) -> str:
    return str(date(2013, 1, 1) + timedelta(days=number))


def test_a_calendar_of_nothing_is_empty(eyes: Eyes) -> None:
    """Before the first call there is no year to show."""
    assert seen(eyes.engine, "SELECT * FROM calendar") == []


def test_changes(filled: SqlStore, eyes: Eyes, clock: Clock) -> None:
    """What the operator changed, beside the call that it changed."""
    clock.advance(days=1)
    filled.save(page(ANSWERED._replace(alias="Support")))
    assert seen(eyes.engine, "SELECT * FROM changes") == [
        {
            "id": 1,
            "account_id": 1,
            "account": "main",
            "uid": 102,
            "changed_at": "2026-01-06 12:00:00.000250",
            "column_name": "alias",
            "old_value": "Sales",
            "new_value": "Support",
            "call_date": "2013-08-03",
            "started_at": "2013-08-03 19:59:58",
            "called_number": "1245830144",
        }
    ]


def test_the_ledger_of_days(filled: SqlStore, eyes: Eyes, clock: Clock) -> None:
    """What is held of each day beside what the operator stated."""
    filled.save(page(completes=(VOICEMAIL.call_date,)))
    with eyes.engine.begin() as connection:
        stated = {"operator_calls": 3, "operator_charge": ABROAD.user_cost, "audited_at": clock(), "verdict": "gap"}
        connection.execute(update(tables.coverage).where(tables.coverage.c.calls > 1).values(note="why", **stated))
    assert seen(eyes.engine, "SELECT * FROM coverage_daily WHERE calls = 3") == [
        {
            "account_id": 1,
            "account": "main",
            "call_date": "2013-08-03",
            "calls": 3,
            "duration": 36,
            "cost": "0.031",
            "cost_micros": 31000,
            "downloaded_at": NOW,
            "audited_at": NOW,
            "verdict": "gap",
            "operator_calls": 3,
            "operator_duration": None,
            "operator_cost": "1234567.000001",
            "operator_cost_micros": 1234567000001,
            "note": "why",
            "pruned": None,
        }
    ]


def test_what_is_spelled_otherwise_is_found_by_its_number(views: Eyes) -> None:
    """Joined the other way round, MariaDB sorts all calls for the newest hundred."""
    if views.engine.dialect.name not in ("mysql", "mariadb"):
        pytest.skip("other databases keep the order of an index")
    with views.engine.connect() as connection:
        plan = connection.execute(text("EXPLAIN SELECT * FROM calls ORDER BY uid DESC LIMIT 2")).mappings().all()
    assert [step["key"] for step in plan if step["table"] == "usually"] == ["PRIMARY"]


def test_the_hours_of_a_day(views: Eyes) -> None:
    """All 24, with what stands on an axis."""
    rows = seen(views.engine, "SELECT * FROM hours ORDER BY call_hour")
    assert [(row["call_hour"], row["label"]) for row in rows] == [(n, f"{n:02}:00") for n in range(24)]


def test_a_client_of_another_collation_may_filter_by_every_text(kind: str, views: Eyes) -> None:
    """MySQL and MariaDB compare no text of a view with a client's where both have a mere default collation."""
    with views.engine.connect() as connection:
        if kind == "mariadb":
            connection.execute(text("SET NAMES utf8mb4 COLLATE utf8mb4_unicode_ci"))
        for view in dictionary.views():
            for column in view.columns:
                if column.type == "text":
                    connection.execute(text(f"SELECT count(*) FROM {view.name} WHERE {column.name} = 'answered'"))
        assert connection.scalar(text("SELECT count(*) FROM calls WHERE outcome = 'answered'")) == 2
        assert connection.scalar(text("SELECT count(*) FROM calls WHERE caller_kind = 'withheld'")) == 1
