"""`cdrsync demo`: the real job against the stand-in of the operator, ending in a comparison value by value.

The stand-in runs in this process and is spoken to over HTTP. `cdrsync sync` and `cdrsync run` are the programs that
would speak to the real operator, as processes of their own, told what to do through their environment.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cdrsync.cli import demo_report
from cdrsync.daemon.signals import INTERRUPT
from cdrsync.errors import EXIT_BUG, EXIT_FOUND, EXIT_OK, OutputFailed
from cdrsync.sandbox import DEMO_LOGIN, World, running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

DATABASE = "cdrsync.db"  # the real one's default name too
MARK = 0x63646D6F  # "cdmo", SQLite's application_id: in the file itself: none that is real has it
MARK_AT = slice(68, 72)  # bytes of an SQLite file
CALLS_PER_SECOND = 4.0  # live ones, enough to watch
LATE = (1.0, 3.0)  # seconds by which some records appear after younger ones
CHANGED = (1.0, 3.0)  # seconds after which some records change
LONGEST_SYNC = 120.0  # seconds
CATCH_UP = 30.0  # seconds for the daemon to start, to hold everything, and to stop
LAST_WORDS = 10.0  # seconds that a process gets to end when the demo is interrupted
TICK = 0.2  # seconds between two looks


class DemoFailed(Exception):
    """The demo did not end as it should: one line for the person who watches."""


@dataclass(frozen=True)
class Demo:
    """One demonstration: its stand-in operator, its database, and how much of it."""

    console: Console
    world: World
    directory: Path
    days: int
    seconds: float

    @property
    def database(self) -> Path:
        return self.directory / DATABASE

    def environment(self, api_url: str) -> dict[str, str]:
        """What the processes are told. The user's own settings, perhaps real credentials, stay out of it."""
        since = demo_report.today() - timedelta(days=self.days + 1)
        settings = {
            "API_URL": api_url,
            "USERNAME": DEMO_LOGIN.username,
            "PASSWORD": DEMO_LOGIN.password,
            "VKEY": DEMO_LOGIN.vkey,
            "DATABASE_URL": f"sqlite:///{self.database.resolve()}",
            "START_DATE": since.isoformat(),
            "POLL_INTERVAL": "1s",
            "LOOKBACK_INTERVAL": "2s",
            "LOOKBACK": "4h",
            "AUDIT_TIME": "off",
            "HTTP_LISTEN": "",
            "CONFIG": os.devnull,
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CDRSYNC_")}
        return inherited | {f"CDRSYNC_{key}": value for key, value in settings.items()}


@click.command("demo")
@click.option("--directory", type=click.Path(path_type=Path, file_okay=False), default=Path("demo"), show_default=True,
              help="Where the database goes; an earlier demo's is replaced.")  # fmt: skip
@click.option("--calls", type=click.IntRange(1), default=50_000, show_default=True, help="Calls in the history.")
@click.option("--days", type=click.IntRange(1, 3650), default=60, show_default=True, help="Days of history.")
@click.option("--seconds", type=click.FloatRange(1), default=10.0, show_default=True, help="How long the daemon runs.")
def demo(directory: Path, calls: int, days: int, seconds: float) -> int:
    """Watch the real job run: log in, download by date, poll, and stay current, into SQLite.

    The operator is a stand-in on this machine, with made-up calls of invented people. At the end every column of every
    row is compared with the stand-in's own records. Exit 0: all equal; 1: not.
    """
    from rich.console import Console

    if "?" in str(directory.resolve()):
        raise click.BadParameter("a database URL can't hold a question mark", param_hint="--directory")
    signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))  # a closed terminal ends its processes, too
    INTERRUPT.patience += 2 * LAST_WORDS
    _clear(directory / DATABASE)
    console = Console(highlight=False, soft_wrap=True)
    started = time.monotonic()
    console.print(f"A stand-in of the operator with {calls:,} made-up calls of the last {days} days")
    world = World(seed=7)
    world.add_history(calls=calls, days=days)
    world.configure(rate=CALLS_PER_SECOND, late_share=0.25, late_delay=LATE, change_share=0.25, change_delay=CHANGED)
    show = Demo(console, world, directory, days, seconds)
    try:
        with running(world) as api_url:
            environment = show.environment(api_url)
            _sync(show, environment)
            _stay_current(show, environment)
        differences = demo_report.differences(show.database, world.records())
        demo_report.show(console, show.database, world, differences, time.monotonic() - started)
    except DemoFailed as failure:
        console.print(f"[red]The demo failed:[/] {failure}")
        return EXIT_BUG
    return EXIT_FOUND if differences else EXIT_OK


def _clear(database: Path) -> None:
    """Make the directory and an empty database with our mark, in place of an earlier demo's: of nothing else.

    Raises OutputFailed where the database is not a demo's, OutputFailed and DatabaseUnavailable where nothing can be
    written.
    """
    from cdrsync.store.databases.errors import translated
    from cdrsync.wiring.database import engine

    try:
        database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if database.exists():
            with database.open("rb") as earlier:
                mark = earlier.read(MARK_AT.stop)[MARK_AT]
            if mark != MARK.to_bytes(4):
                raise OutputFailed(
                    f"{database} was not made by this demo, and is left alone", hint="Give another --directory"
                )
        for pattern in (database.name, f"{database.name}-wal", f"{database.name}-shm", f"{database.name}*.lock"):
            for file in database.parent.glob(pattern):
                file.unlink()
    except OSError as error:
        raise OutputFailed(f"can't write {database}: {error.strerror or error}") from error
    with translated(), engine(f"sqlite:///{database}") as opened, opened.begin() as connection:
        connection.exec_driver_sql(f"PRAGMA application_id = {MARK}")


def _sync(show: Demo, environment: dict[str, str]) -> None:
    """`cdrsync sync`, with its own progress bar on our terminal."""
    show.console.print(f"\n[bold]$ cdrsync sync[/]  (into {show.database})")
    show.console.file.flush()
    began = time.monotonic()
    with _process("sync", environment) as sync:
        code = _ended(sync, LONGEST_SYNC)
    if code is None:
        raise DemoFailed(f"cdrsync sync was not done after {LONGEST_SYNC:.0f} s")
    if code != EXIT_OK:
        raise DemoFailed(f"cdrsync sync ended with exit code {code}")
    held = demo_report.count(show.database)
    show.console.print(f"{held:,} calls in {time.monotonic() - began:.1f} s, processes' start and all.")


def _stay_current(show: Demo, environment: dict[str, str]) -> None:
    """`cdrsync run` while calls go on arriving, until it holds them all; then SIGTERM."""
    log = show.directory / "daemon.log"
    show.console.print(f"\n[bold]$ cdrsync run[/]  (its log: {log})")
    with log.open("wb") as sink, _process("run", environment, stdout=sink, stderr=sink) as daemon:
        held_before = demo_report.count(show.database)
        _watch(show, daemon, held_before)
        daemon.send_signal(signal.SIGTERM)
        code = _ended(daemon, CATCH_UP)
    if code is None:
        raise DemoFailed(f"the daemon did not stop within {CATCH_UP:.0f} s of SIGTERM; see {log}")
    if code != EXIT_OK:
        raise DemoFailed(f"the daemon ended with exit code {code}; see {log}")
    seen = show.world.counters()
    caught = demo_report.count(show.database) - held_before
    show.console.print(f"It caught {caught:,} new calls, and stopped on SIGTERM. Since the demo began, records")
    show.console.print(
        f"that appeared late, after younger ones: {seen['appeared_later']}; that changed: {seen['changed']}."
    )


def _watch(show: Demo, daemon: subprocess.Popen[Any], held_before: int) -> None:
    """Show what comes in for `seconds`; then let no more calls come, and wait until the daemon has the last one."""
    began = time.monotonic()
    quiet_at: float | None = None  # when the last call had arrived, and the last late or changed one with it
    settled = sum(LATE[1:] + CHANGED[1:])
    with show.console.status("") as status:
        while True:
            if daemon.poll() is not None:
                INTERRUPT.event.wait(TICK)
                INTERRUPT.check()
                raise DemoFailed(f"the daemon ended by itself with exit code {daemon.returncode}")
            now = time.monotonic()
            held, visible = demo_report.count(show.database), show.world.counters()["visible"]
            status.update(f"{visible:,} calls at the operator, {held:,} held, {held - held_before} new")
            if quiet_at is None and now - began > show.seconds and held > held_before:
                show.world.configure(rate=0)
                quiet_at = now + settled
            if quiet_at and now > quiet_at and not demo_report.differences(show.database, show.world.records()):
                return
            if now - began > show.seconds + settled + CATCH_UP:
                return  # the comparison that follows says what is missing
            INTERRUPT.event.wait(TICK)
            INTERRUPT.check()


@contextmanager
def _process(command: str, environment: dict[str, str], **files: Any) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m cdrsync COMMAND`, certainly gone afterwards."""
    process = subprocess.Popen([sys.executable, "-m", "cdrsync", command], env=environment, **files)  # noqa: S603 - ourselves
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(LAST_WORDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ended(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """Wait for a process; its exit code, None where it takes longer. Raises Interrupted."""
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        INTERRUPT.check()
        with suppress(subprocess.TimeoutExpired):
            process.wait(TICK)
    if process.returncode:  # Ctrl-C reaches the process as well, which may be gone first
        INTERRUPT.event.wait(TICK)
        INTERRUPT.check()
    return process.returncode
