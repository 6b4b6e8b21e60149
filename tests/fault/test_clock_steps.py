"""The host's wall clock steps under a running daemon: polls go on, and nothing is said that is not so."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.e2e.one_account import held, uids
from tests.support.canary import LOGIN
from tests.support.operator import Settings, World, running
from tests.support.processes import daemon, environment, until
from tests.support.tools import program

HOUR, DAY = 3600, 86400
AT_ONCE = 60.0  # seconds, on a busy machine: who goes by the wall clock waits for an hour
STEPS = (HOUR, DAY, 3650 * DAY)
SHIM = Path(__file__).with_name("clock_shim.c")


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shim, compiled."""
    library = tmp_path_factory.mktemp("shim") / "clock_shim.so"
    subprocess.run([program("cc"), "-shared", "-fPIC", "-O1", "-o", library, SHIM], check=True)
    return library


@pytest.mark.waits
@pytest.mark.parametrize("way", [-1, 1], ids=["back", "forward"])
def test_a_step_of_the_clock_stops_nothing(way: int, shim: Path, tmp_path: Path) -> None:
    """An hour, a day and ten years, and back each time: calls arrive at once, it is ready, lag is a few seconds."""
    world = World(Settings(), logins=[LOGIN], seed=3)
    world.add_history(calls=50, days=1)
    file, offset = tmp_path / "calls.db", tmp_path / "offset"
    offset.write_bytes(struct.pack("=q", 0))
    with running(world) as url:
        preload = {"LD_PRELOAD": str(shim), "CLOCK_SHIM": str(offset)}
        told = {"poll_interval": "1s", "http_listen": "127.0.0.1:0", "audit_time": "off"}
        env = environment(url, f"sqlite:///{file}", **told) | preload
        with daemon(env, fresh=True) as run:
            page = run.event("started")["page"]
            until(lambda: held(file) == uids(world), "all calls")
            for seconds in (moment for step in STEPS for moment in (way * step, 0)):
                _write(offset, seconds)
                for _ in range(2):
                    world.add()
                    until(lambda: uids(world) <= held(file), "a call after the step", AT_ONCE)
                ready = httpx.get(f"{page}readyz", trust_env=False, timeout=AT_ONCE)
                assert (ready.status_code, ready.text) == (200, "ready\n")
                (lag,) = until(lambda: _figures(f"{page}metrics", "cdrsync_lag_seconds{"), "the lag")
                assert 0 <= lag < AT_ONCE
            run.signal(signal.SIGUSR1)
            assert run.stop() == 0
            troubles = [line for line in run.lines if json.loads(line)["level"] in ("warning", "error")]
            assert [line for line in troubles if "operator's clock" not in line] == []


def _figures(url: str, metric: str) -> list[float]:
    lines = httpx.get(url, trust_env=False, timeout=AT_ONCE).text.splitlines()
    return [float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(metric)]


def _write(file: Path, seconds: int) -> None:
    """In place: the daemon has the file mapped."""
    with os.fdopen(os.open(file, os.O_WRONLY), "wb") as opened:
        opened.write(struct.pack("=q", seconds))
