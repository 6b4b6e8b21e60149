"""The views know a caller however the number is spelled: who was missed, and called again or was answered later."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from cdrsync.store.numbering import classify
from tests.support.examples import page
from tests.support.eyes import Eyes, seen
from tests.support.small_account import ABROAD, ANSWERED, MISSED
from tests.support.stores import OwnStore, opened

if TYPE_CHECKING:
    from cdrsync.model import Cdr
    from cdrsync.store.save import SqlStore
    from tests.conftest import Database


def test_callbacks(filled: SqlStore, eyes: Eyes) -> None:
    """A missed call beside the same caller's next answered call; not an earlier one, nor one to voicemail."""
    columns = "uid, caller_number, caller_national, caller_kind, answered_uid, answered_at, seconds_between"
    later = MISSED._replace(uid=106, started_at=ABROAD.started_at, call_date=ABROAD.call_date)
    hidden = [later._replace(uid=107 + n, anumber=caller) for n, caller in enumerate(("", "anonymous", None))]
    filled.save(page(later, *hidden))
    rows = seen(eyes.engine, f"SELECT {columns} FROM callbacks ORDER BY uid")
    assert [tuple(row.values()) for row in rows] == [
        (101, "7921255043", "07921255043", "mobile", 102, "2013-08-03 19:59:58", 678),
        (106, "7921255043", "07921255043", "mobile", None, None, None),
        (107, "", None, "withheld", None, None, None),
        (108, "anonymous", None, "withheld", None, None, None),
        (109, None, None, "unknown", None, None, None),
    ]


SPELLINGS = {
    "a mobile": ("7921255043", "07921255043", "447921255043", "00447921255043", "+447921255043", "+44 (0)7921 255043"),
    "none of the plan's": ("7700900123", "07700900123", "447700900123", "00447700900123", "+447700900123"),
    "abroad": ("33142685300", "0033142685300", "+33142685300", "+33 1 42 68 53 00"),
}


@pytest.mark.parametrize("spellings", SPELLINGS.values(), ids=SPELLINGS)
def test_a_caller_is_one_however_the_number_is_spelled(
    spellings: tuple[str, ...], migrated: Database, eyes: Eyes
) -> None:
    """Missed in any spelling, answered later in any other: no callback is left, and the caller counts as one."""
    store = OwnStore(migrated.url, "main", classify=classify)
    store.open()
    made: list[Cdr] = []
    for missed in spellings:
        for answered in spellings:  # a minute after each other, so that each pair is looked at by itself
            for call, number in ((MISSED, missed), (ANSWERED, answered)):
                moment = MISSED.started_at + timedelta(minutes=len(made))
                made.append(call._replace(uid=1000 + len(made), ref="", anumber=number, started_at=moment))
    store.save(page(*made, MISSED._replace(uid=9999, anumber=spellings[-1][:-1], started_at=MISSED.started_at)))
    store.close()
    rows = seen(eyes.engine, "SELECT uid, answered_uid, seconds_between, caller FROM callbacks ORDER BY uid")
    pairs = [(call.uid, call.uid + 1, 60, spellings[0]) for call in made[::2]]
    assert [tuple(row.values()) for row in rows[:-1]] == pairs
    assert rows[-1]["answered_uid"] is None  # somebody else
    calls_of = "SELECT COUNT(*) AS calls FROM calls GROUP BY caller ORDER BY 1"
    assert [row["calls"] for row in seen(eyes.engine, calls_of)] == [1, len(made)]


@pytest.mark.parametrize("migrated", ["mariadb"], indirect=True)
def test_a_busy_caller_of_two_spellings_is_looked_up_quickly(migrated: Database, eyes: Eyes) -> None:
    """The next answered call is found without a look at all that the caller ever made later, in another spelling."""
    pairs, later = 30, 300
    made = [
        call._replace(uid=1000 + n, ref="", started_at=MISSED.started_at + timedelta(minutes=n))
        for n, call in enumerate([MISSED, ANSWERED] * pairs)
    ]
    other = ANSWERED._replace(anumber="+447921255043", ref="")
    made += [
        other._replace(uid=5000 + n, started_at=MISSED.started_at + timedelta(days=1, minutes=n)) for n in range(later)
    ]
    with opened(migrated.url, classify=classify) as store:
        store.save(page(*made))
    with eyes.engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE TABLE cdr, number").all()
        connection.exec_driver_sql("FLUSH STATUS")
        found = connection.exec_driver_sql("SELECT COUNT(*), SUM(seconds_between) FROM callbacks").one()
        looked = connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Handler_read%%'").all()
    assert [int(figure) for figure in found] == [pairs, pairs * 60]
    assert sum(int(rows) for _, rows in looked) < pairs * later / 2


def test_numbers_of_two_countries_that_read_alike_are_two_callers(migrated: Database, eyes: Eyes) -> None:
    """`+372 5123456` is Estonian; without its + it is a UK number, and nobody has answered that one."""
    store = OwnStore(migrated.url, "main", classify=classify)
    store.open()
    store.save(page(MISSED._replace(anumber="3725123456"), ANSWERED._replace(anumber="+3725123456")))
    store.close()
    assert [row["answered_uid"] for row in seen(eyes.engine, "SELECT answered_uid FROM callbacks")] == [None]
