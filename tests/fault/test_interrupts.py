"""Ctrl-C at random moments: a short run; `python -m tests.fault.interrupts --signals 300` is the long one."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.fault.interrupts import campaign
from tests.support.canary import LOGIN
from tests.support.operator import Settings, World, running
from tests.support.processes import REPOSITORY, environment, until

if TYPE_CHECKING:
    from pathlib import Path

SIGNALS = 10
SECONDS = 10.0
"""In place of the campaign's 2: others use the processors as well, and whoever waited on would do so for 15 or 50."""


def test_interrupted_at_random_moments(tmp_path: Path) -> None:
    """Each sync ends soon, says that the same command goes on, exits as shells expect; nothing is lost."""
    figures = campaign(tmp_path, signals=SIGNALS, seed=3, within=SECONDS)
    assert figures.wrong == []
    assert figures.interrupted > 0
    assert figures.compared > 0


@pytest.mark.parametrize("command", ["sync", "totals", "doctor"])
def test_an_operator_that_does_not_answer_is_not_waited_for(command: str, tmp_path: Path) -> None:
    """Ctrl-C while a request is on the wire."""
    world = World(Settings(latency=50.0), logins=[LOGIN], seed=1)
    with running(world) as url:
        env = environment(url, f"sqlite:///{tmp_path / 'calls.db'}")
        subprocess.run([sys.executable, "-m", "cdrsync", "db", "upgrade"], env=env, cwd=REPOSITORY, check=True)
        took, code, said = _interrupt(command, env, lambda: world.counters()["documents"])
    assert (code, took < SECONDS) == (130, True), (took, said)
    assert "interrupted" in said
    assert "Traceback" not in said


def test_a_database_that_is_locked_is_not_waited_for(tmp_path: Path) -> None:
    """Ctrl-C while a driver waits, in C, for another program's transaction."""
    world = World(Settings(), logins=[LOGIN], seed=1)
    world.add_history(calls=20, days=1)
    file = tmp_path / "calls.db"
    with running(world) as url:
        env = environment(url, f"sqlite:///{file}")
        subprocess.run([sys.executable, "-m", "cdrsync", "db", "upgrade"], env=env, cwd=REPOSITORY, check=True)
        connection = sqlite3.connect(file, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()
        took, code, said = _interrupt("sync", env, lambda: time.monotonic() - begun > 1.5)
        connection.close()
    assert (code, took < SECONDS) == (130, True), (took, said)
    assert "interrupted; the same command goes on" in said


def _interrupt(command: str, env: dict[str, str], when: object) -> tuple[float, int, str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "cdrsync", command],
        env=env,
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert callable(when)
    until(when, command)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    return time.monotonic() - begun, process.returncode, said


ENDED = """
import pathlib, sys, time
from cdrsync.daemon.signals import INTERRUPT
INTERRUPT.patience = 0.1
INTERRUPT.watch()
file, folder = map(pathlib.Path, sys.argv[1:])
with INTERRUPT.removing(file), INTERRUPT.removing(folder):
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_ended_leaves_no_temporary_file(number: int, tmp_path: Path) -> None:
    """As an export in a long piece of work: callers' numbers are in them."""
    file, folder = tmp_path / ".part", tmp_path / "folder"
    file.touch()
    folder.mkdir()
    (folder / "rows").touch()
    program = [sys.executable, "-c", ENDED, str(file), str(folder)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "ready\n"
        run.send_signal(number)
        _, said = run.communicate(timeout=10 * SECONDS)
    assert (run.returncode, said, list(tmp_path.iterdir())) == (128 + number, "interrupted\n", [])
