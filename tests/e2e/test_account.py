"""`cdrsync account`: a login that got another name in the configuration, as a user meets it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.support.canary import LOGIN
from tests.support.operator import World, running
from tests.support.processes import cdrsync, environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def env(file: Path) -> Iterator[dict[str, str]]:
    world = World(logins=[LOGIN], seed=3)
    world.add_history(calls=300, days=3)
    with running(world) as url:
        yield environment(url, f"sqlite:///{file}")


def named(env: dict[str, str], folder: Path, *names: str) -> dict[str, str]:
    """The same environment with a configuration of its own that names these accounts."""
    config = folder / f"{'-'.join(names) or 'none'}.toml"
    config.write_text("".join(f"[accounts.{name}]\n" for name in names), encoding="utf-8")
    return env | {"CDRSYNC_CONFIG": str(config)}


def held(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "calls.db")) as connection:
        (count,) = connection.execute("SELECT count(*) FROM calls").fetchone()
        return int(count)


@pytest.mark.parametrize(
    ("before", "after", "old"),
    [(["sales"], "verkauf", "sales"), ([], "sales", "default")],
    ids=["a table is renamed", "the top-level login becomes a table"],
)
def test_a_renamed_account_doubles_no_call(
    env: dict[str, str], tmp_path: Path, before: list[str], after: str, old: str
) -> None:
    """Refused with exit 78 and the command that helps; after that it goes on where it was."""
    assert cdrsync("sync", env=named(env, tmp_path, *before)).returncode == 0
    assert held(tmp_path) == 300
    renamed = named(env, tmp_path, after)
    refused = cdrsync("sync", env=renamed)
    assert refused.returncode == 78
    assert f"cdrsync account rename {old} {after}" in refused.stderr + refused.stdout
    assert held(tmp_path) == 300
    run = cdrsync("account", "rename", old, after, env=renamed)
    assert (run.returncode, run.stdout) == (0, f"account {old} is now {after}\n")
    again = cdrsync("sync", env=renamed)
    assert (again.returncode, again.stdout.startswith(f"{after}: 0 new, 0 changed")) == (0, True), again
    assert held(tmp_path) == 300


def test_two_files_with_two_names_of_one_login(env: dict[str, str], tmp_path: Path) -> None:
    """Each by itself is right; in one database the second is refused."""
    assert cdrsync("sync", env=named(env, tmp_path, "north")).returncode == 0
    assert cdrsync("sync", env=named(env, tmp_path, "south")).returncode == 78
    assert held(tmp_path) == 300


def test_list_and_forget(env: dict[str, str], tmp_path: Path) -> None:
    """What the database has, whether the configuration names it or not, and what is really to go."""
    assert cdrsync("sync", env=named(env, tmp_path, "sales")).returncode == 0
    without = named(env, tmp_path, "other")
    listed = cdrsync("account", "list", env=without).stdout.splitlines()
    assert [line.split()[0::4] for line in listed[1:2]] == [["sales", "no"]]
    assert cdrsync("account", "forget", "sails", "--yes", env=without).returncode == 2
    assert cdrsync("account", "rename", "sales", "no good name", env=without).returncode == 2
    run = cdrsync("account", "forget", "sales", "--yes", env=without)
    assert (run.returncode, run.stdout) == (0, "account sales is gone, with 300 calls\n")
    assert held(tmp_path) == 0
