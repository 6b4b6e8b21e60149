"""What `--account` may name, in a command and in a daemon whose configuration changes."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
from typing import TYPE_CHECKING

import pytest

from tests.benchmarks.fleet_operator import Operator, login
from tests.support.canary import LOGIN
from tests.support.operator import Settings, World, running
from tests.support.processes import cdrsync, daemon, environment, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ACCOUNTS = 20


@pytest.fixture
def env(file: Path, tmp_path: Path) -> Iterator[dict[str, str]]:
    """One account, `sales`, by name in a file, and a database beside it."""
    config = tmp_path / "cdrsync.toml"
    config.write_text("[accounts.sales]\n", encoding="utf-8")
    with running(World(Settings(), logins=[LOGIN], seed=3)) as url:
        yield environment(url, f"sqlite:///{file}", config=str(config))


def test_a_daemon_keeps_an_account_that_its_configuration_lost(env: dict[str, str], tmp_path: Path) -> None:
    """Renamed away: refused, the old configuration stays; a name that is not there at the start is a usage error."""
    with daemon(env, "--account", "sales") as run:
        run.event("lease taken")
        (tmp_path / "cdrsync.toml").write_text("[accounts.sold]\n", encoding="utf-8")
        run.signal(signal.SIGHUP)
        problems = run.event("configuration refused, the old one stays")["problems"]
        assert problems == "no account 'sales'; the configuration has sold"
        assert run.stop() == 0
    assert cdrsync("run", "--account", "sales", env=env).returncode == 2


def test_sighup_touches_only_the_accounts_that_changed(tmp_path: Path) -> None:
    """One file more, one less, one changed: the others go on with their lease, and ask nothing again."""
    folder, file = tmp_path / "accounts.d", tmp_path / "calls.db"
    folder.mkdir()
    (tmp_path / "cdrsync.toml").touch()
    for number in range(ACCOUNTS):
        write(folder, number)
    with Operator(None) as operator:
        told = environment(
            operator.url, f"sqlite:///{file}", config=str(tmp_path / "cdrsync.toml"), start_date="today",
            poll_interval="1d", lookback_interval="0", audit_time="off", sweep_days="0",
        )  # fmt: skip
        for name in ("USERNAME", "PASSWORD", "VKEY"):
            del told[f"CDRSYNC_{name}"]
        with daemon(told) as run:
            run.event("poll done", ACCOUNTS)
            (folder / "a0.toml").unlink()
            write(folder, 1, "page_size = 500")
            write(folder, ACCOUNTS)
            before = operator.told("all")["now"]
            run.signal(signal.SIGHUP)
            run.event("configuration read again")
            taken = [event["account"] for event in (run.event("lease taken", ACCOUNTS + 2), *run.events("lease taken"))]
            assert sorted(taken[-2:]) == ["a1", f"a{ACCOUNTS}"]
            until(lambda: holder(file, "a0") is None, "the lease of the account that is gone is free")
            until(lambda: {1, ACCOUNTS} == asked_since(operator, before), "the two are polled, no other")
            assert run.stop() == 0


def write(folder: Path, number: int, *lines: str) -> None:
    """The file of an account."""
    username, password, vkey = login(number)
    keys = (f'username = "{username}"', f'password = "{password}"', f'vkey = "{vkey}"', *lines)
    file = folder / f"a{number}.toml"
    file.write_text("\n".join(keys), encoding="utf-8")
    file.chmod(0o600)


def holder(file: Path, name: str) -> str | None:
    """The replica that has an account's lease."""
    query = "SELECT replica_id FROM lease JOIN account ON account.id = account_id WHERE name = ?"
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        found: str | None = connection.execute(query, (name,)).fetchone()[0]
        return found


def asked_since(operator: Operator, moment: float) -> set[int]:
    """The logins that have asked for calls since then."""
    return {number for at, number, _ in operator.told("all")["asked"] if at > moment}


@pytest.mark.parametrize("command", [["status"], ["rejects", "list"], ["rejects", "retry"], ["export"]])
def test_a_name_that_nobody_has_is_a_usage_error(command: list[str], env: dict[str, str]) -> None:
    """Nothing found of a misspelt account is not nothing."""
    assert cdrsync("sync", env=env).returncode == 0
    run = cdrsync(*command, "--account", "nosuch", env=env)
    assert (run.returncode, "no account 'nosuch'" in run.stderr) == (2, True)


@pytest.mark.parametrize("named", [(), ("--account", "sales", "--account", "support")], ids=["none", "two"])
@pytest.mark.parametrize(
    "command",
    [
        ["fetch", "--uid", "1"],
        ["checkpoint", "set", "--uid", "1", "--reason", "a test"],
        ["audit", "accept", "2024-05-21", "--note", "a test"],
    ],
    ids=lambda command: command[0],
)
def test_what_is_for_one_account_is_done_for_none_of_two(
    command: list[str], named: tuple[str, ...], env: dict[str, str], tmp_path: Path
) -> None:
    """It says that one has to be named, and takes none by itself."""
    username = env.pop("CDRSYNC_USERNAME")
    two = f'[accounts.sales]\nusername = "{username}"\n[accounts.support]\nusername = "another"\n'
    (tmp_path / "cdrsync.toml").write_text(two, encoding="utf-8")
    run = cdrsync(*command, *named, env=env)
    assert (run.returncode, "say which account with --account: sales, support" in run.stderr) == (2, True)


@pytest.mark.parametrize("command", [["status"], ["rejects", "list"]])
def test_what_is_held_is_shown_although_the_configuration_lost_it(
    command: list[str], env: dict[str, str], tmp_path: Path
) -> None:
    """By its name in the database; that of an account that was never synced is known as well."""
    assert cdrsync("sync", env=env).returncode == 0
    (tmp_path / "cdrsync.toml").write_text("[accounts.sold]\n", encoding="utf-8")
    for name in ("sales", "sold"):
        assert cdrsync(*command, "--account", name, env=env).returncode == 0
