"""`cdrsync backfill`, `fetch`, `totals` and `audit` as a user types them: the operator is asked for certain things."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING

from tests.support.processes import answer, cdrsync, environment

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.operator import World


def test_backfill_reads_the_days_asked_for(api: str, world: World, tmp_path: Path) -> None:
    """And says how many; a second time nothing is doubled."""
    env = environment(api, f"sqlite:///{tmp_path / 'calls.db'}")
    days = sorted({call.calldate for call in world.records()})
    some = {call.uid for call in world.records() if days[0] <= call.calldate <= days[1]}
    found = answer("backfill", "--since", days[0], "--until", days[1], env=env)
    assert (found["since"], found["until"]) == (days[0], days[1])
    with closing(sqlite3.connect(tmp_path / "calls.db")) as connection:
        held = {uid for (uid,) in connection.execute("SELECT uid FROM cdr")}
    assert some <= held
    again = answer("backfill", "--since", days[0], "--until", days[1], env=env)["accounts"][0]
    assert (again["inserted"], again["updated"], again["unchanged"] >= len(some)) == (0, 0, True)


def test_fetch_stores_and_prints_one_record(env: dict[str, str], world: World) -> None:
    """By uid and by ref; exit 1 where the operator has none."""
    call = world.records()[7]
    found = answer("fetch", "--uid", str(call.uid), env=env)
    assert (found["record"]["uid"], found["record"]["user_cost"], found["stored"]) == (
        call.uid,
        str(call.user_cost),
        "inserted",
    )
    assert answer("fetch", "--ref", str(call.ref), env=env)["stored"] == "unchanged"
    assert answer("fetch", "--uid", "5", env=env, code=1)["record"] is None


def test_a_call_that_the_operator_has_replaced_is_taken_over_on_a_persons_word(
    env: dict[str, str], world: World
) -> None:
    """A uid that is another call stops everything, in a line that names both and the command; with that it goes on."""
    old = world.records()[7]
    answer("fetch", "--uid", str(old.uid), env=env)
    world.change(old.uid, ref="A" * 16, calltime="00:00:01")
    refused = cdrsync("fetch", "--uid", str(old.uid), env=env)
    assert refused.returncode == 1
    assert str(old.ref) in refused.stderr
    assert "A" * 16 in refused.stderr
    assert "--replace" in refused.stderr
    assert answer("fetch", "--uid", str(old.uid), "--replace", env=env)["stored"] == "updated"
    assert answer("fetch", "--uid", str(old.uid), env=env)["record"]["ref"] == "A" * 16


def test_fetch_prints_what_is_kept(env: dict[str, str], world: World) -> None:
    """A number that was erased is in no word of it, as in no column; a record that retention has deleted is none."""
    env |= {"CDRSYNC_PSEUDONYM_KEY": "a long random text", "CDRSYNC_RETENTION_POLICY": "delete"}
    recent = world.add(anumber="7921255043", dialled="447921255043", alias="for 07921 255043")
    old = world.add(started=time.time() - 90 * 86_400)
    assert answer("fetch", "--uid", str(recent.uid), env=env)["record"]["anumber"] == "7921255043"
    assert answer("fetch", "--uid", str(old.uid), env=env)["stored"] == "inserted"
    assert cdrsync("erase", "--number", "07921255043", "--yes", env=env).returncode == 0
    env["CDRSYNC_RETENTION_MONTHS"] = "1"
    assert cdrsync("erase", "--expired", "--yes", env=env).returncode == 0
    record = answer("fetch", "--uid", str(recent.uid), env=env)["record"]
    assert (record["anumber"], record["dialled"], record["alias"]) == ("~erased", "~erased", "for ~erased")
    shown = cdrsync("fetch", "--uid", str(recent.uid), env=env)
    assert (shown.returncode, "255043" in shown.stdout + shown.stderr) == (0, False)
    nothing = answer("fetch", "--uid", str(old.uid), env=env, code=1)
    assert (nothing["record"], nothing["stored"]) == (None, None)
    assert "retention" in cdrsync("fetch", "--uid", str(old.uid), env=env).stdout


def test_money_is_exact_in_json(env: dict[str, str], world: World) -> None:
    """A text with its decimals, not a binary fraction."""
    uid = world.add(user_cost=Decimal("0.123"), duration=60).uid
    assert answer("fetch", "--uid", str(uid), env=env)["record"]["user_cost"] == "0.123"


def test_totals_are_printed_as_sent_and_kept(env: dict[str, str], world: World) -> None:
    """GetTotals, in the operator's own words."""
    assert cdrsync("sync", env=env).returncode == 0
    (account,) = answer("totals", "--period", "all", env=env)["accounts"]
    expected = world.totals("all")
    assert (account["answered"], account["missed"], account["voicemail"]) == (
        expected.answered,
        expected.missed,
        expected.voicemail,
    )
    assert set(account["texts"]) >= {"AnsweredTotal", "MinsTotal", "ChargeTotal"}
    path = env["CDRSYNC_DATABASE_URL"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT period, answered FROM operator_totals").fetchall() == [
            ("all", expected.answered)
        ]


def test_totals_are_kept_of_an_account_that_was_never_synced(env: dict[str, str]) -> None:
    """The account's row is made first; the sync afterwards begins as ever."""
    assert cdrsync("totals", env=env).returncode == 0
    path = env["CDRSYNC_DATABASE_URL"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT period FROM operator_totals").fetchall() == [("day",)]
    assert answer("sync", env=env)["accounts"][0]["inserted"] == 400


def test_audit_proves_and_finds_and_heals(env: dict[str, str]) -> None:
    """Exit 0 when equal; 1 naming the day when a row was deleted behind its back; 0 again once healed."""
    assert cdrsync("sync", env=env).returncode == 0
    (account,) = answer("audit", env=env)["accounts"]
    assert (account["clean"], account["proven"], account["gaps"]) == (True, True, [])
    path = env["CDRSYNC_DATABASE_URL"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as connection:
        uid, day = connection.execute("SELECT uid, call_date FROM cdr ORDER BY uid LIMIT 1 OFFSET 5").fetchone()
        connection.execute("DELETE FROM cdr WHERE uid = ?", (uid,))
        connection.commit()
    run = cdrsync("audit", env=env)
    assert run.returncode == 1
    assert f"gap: {day}" in run.stdout
    (account,) = answer("audit", "--heal", env=env)["accounts"]
    assert (account["clean"], account["healed"], account["records_healed"]) == (True, [day], 1)
