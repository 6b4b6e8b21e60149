"""`cdrsync db`, `doctor` and `healthcheck` as a user types them: whether all is set up and well."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.processes import Daemon, answer, cdrsync, daemon, environment, until

if TYPE_CHECKING:
    from tests.conftest import Database


def test_db_commands(api: str, database: Database) -> None:
    """Nothing there, upgraded, as needed: on each database."""
    env = environment(api, database.url)
    if database.kind == "sqlite":
        for command in ("current", "check"):
            run = cdrsync("db", command, env=env)
            assert (run.returncode, run.stderr[:28]) == (69, "error: there is no database ")
        path = Path(database.url.removeprefix("sqlite:///"))
        assert not path.exists()  # looking made none
        path.touch()
    needed = answer("db", "current", env=env)["needed"]
    assert answer("db", "current", env=env)["current"] is None
    run = cdrsync("db", "check", env=env)
    assert (run.returncode, "Run: cdrsync db upgrade" in run.stderr) == (78, True)
    assert answer("db", "upgrade", env=env) == {"version": 1, "command": "db upgrade", "before": None, "after": needed}
    assert answer("db", "check", env=env)["ok"] is True


def test_doctor_finds_all_well(api: str, database: Database) -> None:
    """Exit 0, each step named."""
    env = environment(api, database.url)
    assert cdrsync("db", "upgrade", env=env).returncode == 0
    found = answer("doctor", env=env)
    states = {check["check"]: check["state"] for check in found["checks"]}
    assert set(states) >= {
        "configuration",
        "DNS",
        "connection",
        "login default",
        "clock",
        "database",
        "schema",
        "permissions",
    }
    assert set(states.values()) <= {"ok", "skipped"}


def test_doctor_says_what_to_do(env: dict[str, str]) -> None:
    """A refused login: exit 77 and the allow-list."""
    run = cdrsync("doctor", env={**env, "CDRSYNC_VKEY": "another"})
    assert run.returncode == 77
    assert "FAIL  login default" in run.stdout
    assert "allow-list" in run.stdout


def test_healthcheck_asks_the_daemon(env: dict[str, str]) -> None:
    """69 without one, 0 once it is current."""
    listen = "127.0.0.1:0"
    assert cdrsync("healthcheck", env={**env, "CDRSYNC_HTTP_LISTEN": "127.0.0.1:9"}).returncode == 69
    with daemon({**env, "CDRSYNC_HTTP_LISTEN": listen}) as run:
        page = _page(run)
        asked = {**env, "CDRSYNC_HTTP_LISTEN": page}
        until(lambda: cdrsync("healthcheck", env=asked).returncode == 0, "readiness")
        assert cdrsync("healthcheck", "--live", env=asked).stdout == "alive\n"
        assert run.stop() == 0


def _page(run: Daemon) -> str:
    url: str = run.event("started")["page"]
    return url.removeprefix("http://").rstrip("/")
