"""What goes wrong around a daemon, one trouble after the other: its database, its clock, the way to the operator."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import struct
import subprocess
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.conftest import Database
from tests.fault.road import Road, State
from tests.fault.trouble import cut
from tests.support.tools import program

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.databases import DatabaseServer

HOUR, DAY = 3600, 86400
STEPS = (-HOUR, HOUR, -DAY, DAY)
PAUSE = (10.0, 30.0)  # seconds of fair weather between two troubles
LENGTH = (3.0, 25.0)  # seconds that a trouble lasts
SHIM = Path(__file__).with_name("clock_shim.c")


def shim(folder: Path) -> Path:
    """The library that a process preloads for a clock that can be set."""
    library = folder / "clock_shim.so"
    subprocess.run([program("cc"), "-shared", "-fPIC", "-O1", "-o", library, SHIM], check=True)
    return library


def set_clock(file: Path, seconds: int) -> None:
    """Say how far the clock of the processes is off. In place: they have the file mapped."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT), "wb") as opened:
        opened.write(struct.pack("=q", seconds))


class Storm:
    """Troubles in a thread of its own while the context lasts; then all is well again. `blown` counts them."""

    def __init__(self, server: DatabaseServer, url: str, road: Road, folder: Path, seed: int) -> None:
        self.blown: Counter[str] = Counter()
        self._server = server
        self._database = Database(url, server.kind, server)
        self._road = road
        self._rng = random.Random(seed)
        self._clock = folder / "clock"
        self._shim = shim(folder)
        set_clock(self._clock, 0)
        self._over = threading.Event()
        self._failure: list[Exception] = []
        self._thread = threading.Thread(target=self._blow)

    def environment(self) -> dict[str, str]:
        """What a process in the storm needs."""
        return {**self._road.environment(), "LD_PRELOAD": str(self._shim), "CLOCK_SHIM": str(self._clock)}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._failure:
            raise self._failure[0]

    def _blow(self) -> None:
        try:
            while True:
                turn = self._troubles()
                self._rng.shuffle(turn)
                for name, trouble in turn:
                    if self._over.wait(self._rng.uniform(*PAUSE)):
                        return
                    trouble(self._rng.uniform(*LENGTH))
                    self.blown[name] += 1
        except Exception as error:  # noqa: BLE001 - a trouble that can't be made is told by who waits for the end
            self._failure.append(error)

    def _troubles(self) -> list[tuple[str, Callable[[float], None]]]:
        """One turn of all kinds."""
        roads = [(f"proxy {state}", self._blocked(state)) for state in State if state is not State.OPEN]
        clocks = [("clock", self._stepped(seconds)) for seconds in STEPS]
        return [*roads, *clocks, *self._of_database()]

    def _blocked(self, state: State) -> Callable[[float], None]:
        def block(seconds: float) -> None:
            self._road.be(state)
            self._over.wait(seconds)
            self._road.be(State.OPEN)

        return block

    def _stepped(self, step: int) -> Callable[[float], None]:
        def set_for(seconds: float) -> None:
            set_clock(self._clock, step)
            self._over.wait(seconds)
            set_clock(self._clock, 0)

        return set_for

    def _of_database(self) -> list[tuple[str, Callable[[float], None]]]:
        if self._server.kind == "sqlite":
            return [("file locked", self._locked), ("file locked", self._locked)]
        return [
            ("database killed", self._stopped(signal.SIGKILL)),
            ("database stopped", self._stopped(signal.SIGTERM)),
            ("sessions cut", lambda _: cut(self._database)),
        ]

    def _stopped(self, how: signal.Signals) -> Callable[[float], None]:
        def stop(seconds: float) -> None:
            self._server.stop(how)
            self._over.wait(seconds)
            self._server.start()

        return stop

    def _locked(self, seconds: float) -> None:
        """Another program writes and does not come to an end."""
        with contextlib.closing(
            sqlite3.connect(self._database.url.removeprefix("sqlite:///"), isolation_level=None, timeout=60)
        ) as connection:
            connection.execute("BEGIN IMMEDIATE")
            self._over.wait(seconds)
            connection.execute("ROLLBACK")
