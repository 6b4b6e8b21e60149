"""`cdrsync status` as a user types it: where an account stands, and what keeps its calls away."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING

from tests.support.processes import answer, cdrsync, daemon, environment, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.operator import World


def test_status_tells_where_everything_stands(env: dict[str, str], file: Path, world: World) -> None:
    """Before the first sync, and after it."""
    file.unlink()
    run = cdrsync("status", env=env)
    assert (run.returncode, run.stderr.split(".")[0].startswith("error: there is no database at")) == (69, True)
    assert cdrsync("sync", env=env).returncode == 0
    (account,) = answer("status", env=env)["accounts"]
    assert (account["calls"], account["rejects_open"], account["gaps"]) == (400, 0, [])
    assert account["tails"] == [{"stream": "tail", "high_water_uid": max(call.uid for call in world.records())}]
    assert 0 <= account["lag_seconds"] < timedelta(minutes=5).total_seconds()
    shown = cdrsync("status", env=env).stdout
    assert "calls held       400" in shown
    assert "late up to 2h: every 10m" in shown
    (run,) = account["runs"]
    assert (run["origin"], run["outcome"], run["inserted"], run["message"]) == ("sync", "ok", 400, None)
    assert "last runs        sync " in shown
    assert "ok (400 new, 0 changed, 0 rejected)" in shown


def test_a_refused_login_shows_in_status(env: dict[str, str]) -> None:
    """Kind, words, since when and what to do; gone once the operator was read."""
    assert cdrsync("sync", env={**env, "CDRSYNC_VKEY": "another"}).returncode == 77
    (account,) = answer("status", env=env)["accounts"]
    failure = account["failure"]
    assert (failure["kind"], "refused the login" in failure["words"]) == ("LoginRefused", True)
    assert "allow-list" in failure["hint"]
    assert [run["outcome"] for run in account["runs"]] == ["LoginRefused"]
    shown = cdrsync("status", env=env).stdout
    assert "! the operator refused the login" in shown
    assert ", since 20" in shown
    assert cdrsync("sync", env=env).returncode == 0
    (account,) = answer("status", env=env)["accounts"]
    assert (account["failure"], account["last_success"] is not None) == (None, True)


def test_an_operator_that_never_answered_was_never_read(env: dict[str, str]) -> None:
    """What is wanted is put down before anybody is asked, and is no reading."""
    away = {**env, "CDRSYNC_API_URL": "http://127.0.0.1:9/api/"}
    assert cdrsync("sync", env=away).returncode == 69
    (account,) = answer("status", env=env)["accounts"]
    assert (account["read_at"], account["lag_seconds"]) == (None, None)
    assert account["failure"]["kind"] == "ApiUnreachable"
    assert "last read        never" in cdrsync("status", env=env).stdout
    assert cdrsync("sync", env=env).returncode == 0
    assert answer("status", env=env)["accounts"][0]["read_at"] is not None


def test_a_refused_login_of_a_daemon_shows_in_status(api: str, tmp_path: Path) -> None:
    """Another process sees why no call comes, and that it was mended."""
    env = environment(api, f"sqlite:///{tmp_path / 'calls.db'}", poll_interval="1s", log_format="json", http_listen="")
    with daemon({**env, "CDRSYNC_VKEY": "another"}) as process:
        process.event("account parked")
        (account,) = answer("status", env=env)["accounts"]
        assert account["failure"]["kind"] == "LoginRefused"
        process.stop()
    with daemon(env):
        until(lambda: answer("status", env=env)["accounts"][0]["failure"] is None, "the end of the failure")


def test_polls_that_bring_nothing_leave_a_trace(api: str, tmp_path: Path) -> None:
    """Whoever looks on sees that the operator is asked: once a minute, in a row of its own."""
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    env = environment(api, url, poll_interval="1s", lookback_interval="0", audit_time="off", http_listen="")
    assert cdrsync("sync", env=env).returncode == 0
    before = answer("status", env=env)["accounts"][0]["read_at"]
    with daemon(env):
        until(lambda: answer("status", env=env)["accounts"][0]["read_at"] > before, "a trace of a poll")
    with closing(sqlite3.connect(tmp_path / "calls.db")) as connection:
        rows = connection.execute("SELECT high_water_uid, done FROM checkpoint WHERE stream = 'polled'").fetchall()
    assert rows == [(None, 1)]
