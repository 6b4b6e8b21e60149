"""What holds callers' numbers is its owner's alone, whatever the umask; a file that is not is warned of."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.canary import LOGIN
from tests.support.operator import World, running
from tests.support.processes import REPOSITORY, cdrsync, daemon, environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UNDER_UMASK = (
    "import os, sys; os.umask({umask}); from cdrsync.__main__ import main; sys.argv[1:] = {args}; sys.exit(main())"
)


@pytest.fixture
def env(tmp_path: Path) -> Iterator[dict[str, str]]:
    world = World(logins=[LOGIN], seed=3)
    world.add_history(calls=30, days=1)
    with running(world) as url:
        yield environment(url, f"sqlite:///{tmp_path / 'calls.db'}")


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_new_files_are_private(env: dict[str, str], tmp_path: Path, umask: int) -> None:
    """The file, its write-ahead log and the lock, while a daemon has them open."""
    before = os.umask(umask)
    try:
        with daemon(env) as run:
            run.event("poll done")
            found = modes(tmp_path)
            assert run.stop() == 0
    finally:
        os.umask(before)
    assert "calls.db" in found
    assert {name: oct(mode) for name, mode in found.items() if mode & 0o077} == {}


@pytest.mark.waits
def test_a_demos_folder_is_private(tmp_path: Path) -> None:
    """Made by us, and so are the files in it."""
    code = UNDER_UMASK.format(
        umask=0, args=["demo", "--directory", str(tmp_path / "demo"), "--calls", "20", "--days", "1", "--seconds", "1"]
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert stat.S_IMODE((tmp_path / "demo").stat().st_mode) == 0o700
    assert modes(tmp_path / "demo")["cdrsync.db"] == 0o600


def test_a_looser_file_is_warned_of(env: dict[str, str], tmp_path: Path) -> None:
    """By doctor and by run, with the command that helps; it is used all the same."""
    assert cdrsync("sync", env=env).returncode == 0
    (tmp_path / "calls.db").chmod(0o644)
    assert f"chmod 600 {tmp_path / 'calls.db'}" in cdrsync("doctor", env=env).stdout
    with daemon(env) as run:
        warned = run.event("others may read or change the database's files")
        assert str(tmp_path / "calls.db") in warned["files"]
        assert run.stop() == 0
