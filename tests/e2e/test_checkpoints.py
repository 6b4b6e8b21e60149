"""`cdrsync checkpoint`, and what history is wanted, as a person meets them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from tests.support.canary import LOGIN
from tests.support.operator import Settings, World, running
from tests.support.processes import answer, cdrsync, environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAYS = 6


@pytest.fixture
def world() -> World:
    made = World(Settings(), logins=[LOGIN], seed=11)
    made.add_history(calls=400, days=DAYS)
    return made


@pytest.fixture
def env(world: World, file: Path) -> Iterator[dict[str, str]]:
    with running(world) as url:
        yield environment(url, f"sqlite:///{file}", start_date="today")


def held(env: dict[str, str]) -> set[int]:
    path = env["CDRSYNC_DATABASE_URL"].removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as connection:
        return {uid for (uid,) in connection.execute("SELECT uid FROM cdr")}


def test_while_wanted_history_is_unread_everything_says_so(env: dict[str, str], world: World) -> None:
    """A person wants more days: status counts them, audit ends with 1; after the next sync both are content."""
    assert cdrsync("sync", env=env).returncode == 0
    assert cdrsync("audit", env=env).returncode == 0
    start = (datetime.now(ZoneInfo("Europe/London")) - timedelta(days=DAYS + 1)).date()
    said = cdrsync("checkpoint", "set", "--start", str(start), "--reason", "the boss asks", env=env)
    assert (said.returncode, said.stderr) == (0, "")
    assert f"is {start}" in said.stdout
    assert f"0 of {DAYS + 1} days read" in cdrsync("status", env=env).stdout
    audit = cdrsync("audit", env=env)
    assert audit.returncode == 1
    assert f"history: 0 of {DAYS + 1} days read; cdrsync sync reads the rest" in audit.stdout
    assert cdrsync("sync", env=env).returncode == 0
    assert cdrsync("audit", env=env).returncode == 0
    (account,) = answer("status", env=env)["accounts"]
    assert account["history"] == {"first": str(start), "wanted": DAYS + 1, "read": DAYS + 1}
    assert held(env) == {call.uid for call in world.records()}
    assert any("the boss asks" in (run["message"] or "") for run in account["runs"])


def test_a_start_that_the_configuration_would_widen_again_is_refused(env: dict[str, str]) -> None:
    """Narrowing needs both: the configuration, and a person's word."""
    assert cdrsync("sync", "--set", "start_date=all", env=env).returncode == 0
    wide = {**env, "CDRSYNC_START_DATE": "all"}
    refused = cdrsync("checkpoint", "set", "--start", "2024-05-01", "--reason", "less", env=wide)
    assert refused.returncode == 2
    assert "start_date is all: set it to 2024-05-01 first" in refused.stderr
    today = datetime.now(UTC).date()
    assert cdrsync("checkpoint", "set", "--start", str(today), "--reason", "less", env=env).returncode == 0
    (account,) = answer("status", env=env)["accounts"]
    assert account["history"]["first"] == str(today)


def test_a_mark_that_a_garbled_uid_has_carried_away_is_set_back(env: dict[str, str], world: World) -> None:
    """The way back: new calls come again, and why it was done is kept."""
    assert cdrsync("sync", env=env).returncode == 0
    mark = max(call.uid for call in world.records())
    poisoned = ("checkpoint", "set", "--uid", str(4 * 10**14), "--reason", "a test")
    assert cdrsync(*poisoned, env=env).returncode == 0
    fresh = world.add().uid
    assert cdrsync("sync", env=env).returncode == 0
    assert fresh not in held(env)
    (before,) = [one for one in answer("checkpoint", "show", env=env)["checkpoints"] if one["stream"] == "tail"]
    assert before["high_water_uid"] == 4 * 10**14
    set_back = answer("checkpoint", "set", "--uid", str(mark), "--reason", "the mark was garbled", env=env)
    assert (set_back["before"]["high_water_uid"], set_back["after"]["high_water_uid"]) == (4 * 10**14, mark)
    assert cdrsync("sync", env=env).returncode == 0
    assert fresh in held(env)
    (account,) = answer("status", env=env)["accounts"]
    assert account["tails"] == [{"stream": "tail", "high_water_uid": fresh}]
    assert f"tail: uid {4 * 10**14}, now uid {mark}: the mark was garbled" in str(account["runs"])


@pytest.mark.parametrize("given", [(), ("--uid", "1", "--start", "all"), ("--start", "soon")])
def test_what_makes_no_sense_is_a_usage_error(given: tuple[str, ...], env: dict[str, str]) -> None:
    run = cdrsync("checkpoint", "set", *given, "--reason", "x", env=env)
    assert (run.returncode, "Traceback" in run.stderr) == (2, False)
