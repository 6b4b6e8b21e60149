"""The figures of many accounts, and `cdrsync status` of one, three and three hundred of them."""

from __future__ import annotations

import contextlib
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import event, insert, update

from cdrsync.cli import main
from cdrsync.config import Listen
from cdrsync.model import utc_now
from cdrsync.monitor.activity import Activity
from cdrsync.monitor.metrics import Metrics
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.reads import status
from cdrsync.store.reads.ledger import SqlLedger
from cdrsync.store.schema.tables import account, checkpoint, coverage, sync_run
from cdrsync.sync.ports import SyncSettings
from cdrsync.sync.position import Position
from cdrsync.wiring import page
from tests.support.configuration import settings
from tests.support.processes import until

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.engine import Engine

    from tests.conftest import Database

LONDON = ZoneInfo("Europe/London")
DAYS = 10


def fill(engine: Engine, count: int) -> None:
    """Accounts of ten days. Every tenth has a gap, every tenth another failure, one has days unread."""
    now = utc_now()
    today = now.astimezone(LONDON).date()
    first = today - timedelta(days=DAYS)
    with engine.begin() as connection:
        for n in range(1, count + 1):
            connection.execute(insert(account).values(id=n, name=f"customer-{n:03}", created_at=now, erasures=0))
            connection.execute(insert(checkpoint), _marks(n, first, now))
            connection.execute(insert(coverage), [_day(n, first + timedelta(days=k), k, now) for k in range(DAYS + 1)])
            if n % 10 == 4:
                connection.execute(insert(sync_run), _failures(n, now))


def _marks(n: int, first: date, now: datetime) -> list[dict[str, object]]:
    nothing = {"high_water_uid": None, "window_first": None, "window_last": None, "begun_at": None, "done": True}
    read = now - timedelta(hours=2)
    base = {**nothing, "account_id": n, "updated_at": read}
    return [
        {**base, "stream": "tail", "high_water_uid": 1000 + n},
        {**base, "stream": "start", "window_first": first, "window_last": first},
    ]


def _day(n: int, day: date, place: int, now: datetime) -> dict[str, object]:
    unread = n == 2 and place < 4
    gap = n % 10 == 3 and place == 5
    return {
        "account_id": n, "call_date": day, "calls": 0 if unread else 7, "duration": 60, "charge": Decimal("0.5"),
        "downloaded_at": None if unread else now - timedelta(hours=3), "verdict": "gap" if gap else "complete",
    }  # fmt: skip


def _failures(n: int, now: datetime) -> list[dict[str, object]]:
    counts = dict.fromkeys(("inserted", "updated", "unchanged", "rejected"), 0)
    return [
        {
            **counts, "account_id": n, "origin": "sync", "started_at": now - timedelta(minutes=ago, seconds=5),
            "ended_at": now - timedelta(minutes=ago), "outcome": outcome, "message": words,
        }
        for ago, outcome, words in (
            (90, "ok", None),
            (60, "LoginRefused", "the operator refused the login: Code 401"),
            (30, "LoginRefused", "the operator refused the login: Code 401"),
        )
    ]  # fmt: skip


def test_an_overview_says_what_the_accounts_say(migrated: Database) -> None:
    """Gaps, failures and history of each, on every database, as its own page and the position have them."""
    engine = open_engine(migrated.url)
    fill(engine, 12)
    found = {one.name: one for one in status.overview(engine)}
    today = utc_now().astimezone(LONDON).date()
    assert len(found) == 12
    assert found["customer-001"].calls == 7 * (DAYS + 1)
    assert found["customer-003"].gaps == (today - timedelta(days=DAYS - 5),)
    failure = found["customer-004"].failure
    assert failure is not None
    assert (failure.kind, failure.words) == ("LoginRefused", "the operator refused the login: Code 401")
    assert 59 < (utc_now() - failure.since).total_seconds() / 60 < 62
    assert "allow-list" in failure.hint
    assert found["customer-001"].failure is None
    for name in ("customer-001", "customer-002"):
        wanted = SyncSettings(timezone=LONDON, start="today", numbers=())
        assert found[name].history == Position(SqlLedger(engine, name), wanted).history()
        one = status.one_account(engine, name, now=utc_now(), timezone=LONDON)
        assert (one.history, one.calls, one.read_at) == (found[name].history, found[name].calls, found[name].read_at)
    assert str(found["customer-002"].history) == "6 of 10 days read"
    engine.dispose()


@pytest.mark.parametrize("migrated", ["sqlite"], indirect=True)
def test_metrics_tell_what_the_database_holds_of_the_configured_accounts(
    migrated: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whichever replica an account is worked on: a gap that a person answers for is none on any. While the database
    is away they tell what it said last, and of an account that left the configuration nothing.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(page, "METRICS_SECONDS", 0.0)
    engine = open_engine(migrated.url)
    fill(engine, 13)
    gaps = settings("[accounts.customer-003]", CDRSYNC_DATABASE_URL=migrated.url)
    metrics, labels = Metrics(activity := Activity()), {"account": "customer-003"}
    server = page.serve(
        Listen("127.0.0.1", 0), settings=lambda: gaps, activity=activity, metrics=metrics, ring=lambda _: None
    )

    def shown(name: str, labels: dict[str, str] = labels) -> float | None:
        return metrics.registry.get_sample_value(f"cdrsync_{name}", labels)

    with contextlib.closing(server):
        assert (shown("gaps"), shown("rejects_open"), shown("last_audit_timestamp_seconds")) == (1, 0, None)
        assert shown("gaps", {"account": "customer-013"}) is None
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE coverage RENAME TO away")
        assert shown("gaps") == 1
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE away RENAME TO coverage")
            connection.execute(update(coverage).values(verdict="accepted"))
        until(lambda: shown("gaps") == 0, "the gap to be none")
    engine.dispose()


def test_an_overview_costs_as_many_statements_for_three_hundred(migrated: Database) -> None:
    """Whatever the number of accounts."""
    engine = open_engine(migrated.url)
    asked: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: asked.append(args[2]))
    counts = []
    for count in (1, 40):
        if count == 1:
            fill(engine, 1)
        else:
            with engine.begin() as connection:
                connection.exec_driver_sql("DELETE FROM coverage")
                connection.exec_driver_sql("DELETE FROM checkpoint")
                connection.exec_driver_sql("DELETE FROM account")
            fill(engine, count)
        asked.clear()
        assert len(status.overview(engine)) == count
        counts.append(len(asked))
    engine.dispose()
    assert counts[0] <= counts[1] <= 10  # two more where any has a gap or a failure


@pytest.mark.parametrize("migrated", ["sqlite"], indirect=True)
@pytest.mark.parametrize("count", [1, 3, 300])
def test_status_fits(
    count: int, migrated: Database, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No line is longer than the terminal; with several accounts the overview comes first, the troubled on top."""
    engine = open_engine(migrated.url)
    fill(engine, count)
    engine.dispose()
    for columns in (60, 80, 100):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert main(["status", "--database-url", migrated.url]) == 0
        said = capsys.readouterr()
        lines = said.out.splitlines()
        assert said.err == ""
        assert [line for line in lines if len(line) > columns] == []
        assert len(lines) < 320 if count > 5 else len(lines) < 90
        if count == 1:
            assert lines[0] == "customer-001"
        else:
            assert lines[0].split()[:2] == ["ACCOUNT", "STATE"]
        if count == 3:
            assert [line.split()[0] for line in lines[1:4]] == ["customer-002", "customer-003", "customer-001"]
        if count == 300:
            assert "login refused" in lines[1]
            assert lines[-1] == "cdrsync status --account NAME shows one of them in full"
