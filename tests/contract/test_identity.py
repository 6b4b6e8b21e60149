"""An account is one login: under a second name it is refused, and there is a way to another name."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import update

from cdrsync.errors import ConfigError
from cdrsync.model import Checkpoint
from cdrsync.store import forgetting
from cdrsync.store.databases import port
from cdrsync.store.schema import tables
from tests.support import stores
from tests.support.examples import FIRST, calls, page

if TYPE_CHECKING:
    from tests.conftest import Database
    from tests.support.eyes import Eyes

LOGIN = "boss@example.com at api.example.com"
OTHER = "clerk@example.com at api.example.com"

opened = partial(stores.opened, login=LOGIN)


def names(eyes: Eyes) -> list[str]:
    return sorted(row.name for row in eyes.rows(tables.account))


def test_a_login_under_another_name_is_refused_with_the_remedy(migrated: Database, eyes: Eyes) -> None:
    """Not a call is saved under the second name; the first goes on."""
    with opened(migrated.url, "sales") as store:
        store.save(page(*calls(3)))
    with pytest.raises(ConfigError, match="in this database already, as account sales") as refused:
        opened(migrated.url, "verkauf").__enter__()
    assert "cdrsync account rename sales verkauf" in str(refused.value.hint)
    with opened(migrated.url, "sales") as store:
        assert store.save(page(*calls(3))).unchanged == 3
    assert len(eyes.rows(tables.cdr)) == 3


@pytest.mark.parametrize("login", [LOGIN, LOGIN.upper(), OTHER])
def test_the_same_name_goes_on_whatever_became_of_its_login(migrated: Database, login: str) -> None:
    """The username in other letters, or a new one for the same account: nobody else has it here."""
    for one in (LOGIN, login, LOGIN):
        with opened(migrated.url, "sales", login=one):
            pass


def test_two_logins_that_change_places_are_refused(migrated: Database) -> None:
    """What one holds must not go on as the other's."""
    for name, login in (("sales", LOGIN), ("support", OTHER)):
        with opened(migrated.url, name, login=login):
            pass
    for name, login in (("sales", OTHER), ("support", LOGIN)):
        with pytest.raises(ConfigError, match="in this database already"):
            opened(migrated.url, name, login=login).__enter__()


def test_a_database_made_before_learns_it_at_the_next_login(migrated: Database, eyes: Eyes) -> None:
    with opened(migrated.url, "sales", login=None) as store:
        store.save(page(FIRST))
    assert [row.login for row in eyes.rows(tables.account)] == [None]
    with opened(migrated.url, "sales"):
        pass
    (row,) = eyes.rows(tables.account)
    assert row.login is not None
    assert "boss" not in row.login
    with pytest.raises(ConfigError, match="as account sales"):
        opened(migrated.url, "verkauf").__enter__()


def test_a_rename_keeps_all_that_is_held(migrated: Database, eyes: Eyes) -> None:
    """Calls, checkpoints and ledger are the new name's, also where it was tried before and refused."""
    with opened(migrated.url, "default") as store:
        store.save(page(*calls(3), checkpoint=Checkpoint("tail", FIRST.uid + 2)))
    with pytest.raises(ConfigError):
        opened(migrated.url, "sales").__enter__()
    with opened(migrated.url, "default", login=None) as store:
        store.rename("sales")
    assert names(eyes) == ["sales"]
    with opened(migrated.url, "sales") as store:
        assert store.checkpoint("tail") == Checkpoint("tail", FIRST.uid + 2)
        assert store.save(page(*calls(3))).unchanged == 3
    assert ("rename", "was default") in [(run.origin, run.message) for run in eyes.rows(tables.sync_run)]


def test_a_rename_onto_an_account_with_calls_is_refused(migrated: Database, eyes: Eyes) -> None:
    for name, login in (("sales", LOGIN), ("support", OTHER)):
        with opened(migrated.url, name, login=login) as store:
            store.save(page(FIRST))
    with opened(migrated.url, "sales") as store, pytest.raises(ConfigError, match="account support is there already"):
        store.rename("support")
    assert names(eyes) == ["sales", "support"]
    assert len(eyes.rows(tables.cdr)) == 2


def test_forget_deletes_one_account_and_nothing_of_another(migrated: Database, eyes: Eyes) -> None:
    """Numbers that only its calls had go as well; those that another account has stay."""
    shared, own = FIRST, FIRST._replace(uid=FIRST.uid + 1, anumber="7700900123")
    with opened(migrated.url, "support", login=OTHER) as store:
        store.save(page(shared))
    with opened(migrated.url, "sales") as store:
        store.save(page(shared, own, checkpoint=Checkpoint("tail", own.uid)))
        store.save(page(own._replace(duration=99)))
        store.begin_run("tail")
    with opened(migrated.url, "sales", login=None) as store:
        assert store.forget() == 2
    assert names(eyes) == ["support"]
    (kept,) = eyes.rows(tables.account)
    for table in tables.metadata.sorted_tables:
        if "account_id" in table.c:
            assert {row.account_id for row in eyes.rows(table)} <= {kept.id, tables.SCHEMA_ID}, table.name
    assert {row.number for row in eyes.rows(tables.number)} >= {shared.anumber}
    assert "7700900123" not in {row.number for row in eyes.rows(tables.number)}


def test_of_two_that_come_at_once_one_is_refused(migrated: Database, eyes: Eyes) -> None:
    """Both have looked before either has written: the database itself keeps a login once."""
    with opened(migrated.url, "sales"):
        pass
    with opened(migrated.url, "verkauf", login=None):
        (login,) = {row.login for row in eyes.rows(tables.account) if row.login}
        with pytest.raises(Exception, match=r"(?i)unique|duplicate"), eyes.engine.begin() as connection:
            connection.execute(update(tables.account).where(tables.account.c.name == "verkauf").values(login=login))


def test_a_retired_account_keeps_its_calls_and_frees_its_login(migrated: Database, eyes: Eyes) -> None:
    """For a new sequence of uids: another name may have the login, the old one may not come back to it."""
    with opened(migrated.url, "sales") as store:
        store.save(page(*calls(3)))
        store.retire("the operator began anew")
    with opened(migrated.url, "sales-2") as store:
        assert store.save(page(*calls(3))).inserted == 3
    assert names(eyes) == ["sales", "sales-2"]
    assert len(eyes.rows(tables.cdr)) == 6
    assert [run.message for run in eyes.rows(tables.sync_run)] == ["the operator began anew"]
    with pytest.raises(ConfigError, match="as account sales-2"):
        opened(migrated.url, "sales").__enter__()


SLOW_DELETES = (
    "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.002); RETURN OLD; END $$",
    "CREATE TRIGGER slowly BEFORE DELETE ON cdr FOR EACH ROW EXECUTE FUNCTION slowly()",
)


@pytest.mark.parametrize("migrated", ["postgresql"], indirect=True)
def test_an_account_of_any_size_is_forgotten_within_the_limit_of_a_statement(
    migrated: Database, eyes: Eyes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To delete all of it at once would take twice as long as one statement may."""
    monkeypatch.setattr(port, "STATEMENT_SECONDS", 2)
    monkeypatch.setattr(forgetting, "PIECE", 200)  # too large at first
    gone: list[int] = []
    with opened(migrated.url, "sales") as store:
        store.save(page(*calls(2000)))
        with eyes.engine.begin() as connection:
            for statement in SLOW_DELETES:
                connection.exec_driver_sql(statement)
        assert store.forget(gone.append) == sum(gone) == 2000
    assert max(gone) == 200
    assert min(gone) <= 100
    assert names(eyes) == []


@pytest.mark.parametrize("sync_again", [False, True])
def test_a_forgetting_that_was_cut_off(
    migrated: Database, eyes: Eyes, monkeypatch: pytest.MonkeyPatch, *, sync_again: bool
) -> None:
    """The ledger counts what is left, the position is gone: the next run goes on, and a sync reads all of it again."""
    monkeypatch.setattr(forgetting, "PIECE", 10)
    held = [call._replace(call_date=FIRST.call_date + timedelta(days=call.uid % 3)) for call in calls(50)]

    def interrupt(gone: int) -> None:
        assert gone == 10
        raise KeyboardInterrupt

    with opened(migrated.url, "sales") as store:
        store.save(page(*held, checkpoint=Checkpoint("tail", held[-1].uid), completes=[FIRST.call_date]))
        store.save(page(held[-1]._replace(duration=99)))
        with pytest.raises(KeyboardInterrupt):
            store.forget(interrupt)
        assert store.checkpoint("tail") is None
    left = eyes.cdrs()
    assert len(left) == 40
    days = {row.call_date: row for row in eyes.rows(tables.coverage)}
    for day, row in days.items():
        of_day = [call for call in left if call.call_date == day]
        figures = (len(of_day), sum(call.duration for call in of_day), sum(call.user_cost for call in of_day))
        assert (row.calls, row.duration, row.charge) == figures
        assert row.downloaded_at is None
    with opened(migrated.url, "sales") as store:
        if sync_again:
            assert store.save(page(*held)).inserted == 10
            assert sum(row.calls for row in eyes.rows(tables.coverage)) == 50
        assert store.forget() == (50 if sync_again else 40)
    assert names(eyes) == []
    for table in (tables.cdr, tables.cdr_change, tables.call_day, tables.coverage):
        assert eyes.rows(table) == []
