"""What `--account` may name, in a command and in a daemon whose configuration changes."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.support.canary import LOGIN
from tests.support.operator import Settings, World, running
from tests.support.processes import cdrsync, daemon, environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def env(tmp_path: Path) -> Iterator[dict[str, str]]:
    """One account, `sales`, by name in a file, and a database beside it."""
    config = tmp_path / "cdrsync.toml"
    config.write_text("[accounts.sales]\n", encoding="utf-8")
    with running(World(Settings(), logins=[LOGIN], seed=3)) as url:
        yield environment(url, f"sqlite:///{tmp_path / 'calls.db'}", config=str(config))


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


@pytest.mark.parametrize("command", [["status"], ["rejects", "list"], ["rejects", "retry"], ["export"]])
def test_a_name_that_nobody_has_is_a_usage_error(command: list[str], env: dict[str, str]) -> None:
    """Nothing found of a misspelt account is not nothing."""
    assert cdrsync("sync", env=env).returncode == 0
    run = cdrsync(*command, "--account", "nosuch", env=env)
    assert (run.returncode, "no account 'nosuch'" in run.stderr) == (2, True)


@pytest.mark.parametrize("command", [["status"], ["rejects", "list"]])
def test_what_is_held_is_shown_although_the_configuration_lost_it(
    command: list[str], env: dict[str, str], tmp_path: Path
) -> None:
    """By its name in the database; that of an account that was never synced is known as well."""
    assert cdrsync("sync", env=env).returncode == 0
    (tmp_path / "cdrsync.toml").write_text("[accounts.sold]\n", encoding="utf-8")
    for name in ("sales", "sold"):
        assert cdrsync(*command, "--account", name, env=env).returncode == 0
