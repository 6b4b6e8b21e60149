"""`cdrsync demo`, as a person runs it: a process of its own that ends well, and leaves nothing running."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import insert, update

from cdrsync.cli.demo_report import aligned, chart, differences
from cdrsync.sandbox import Call, World
from cdrsync.store.admin import migrate
from cdrsync.store.databases.engine import open_engine
from cdrsync.store.schema import tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Start = Callable[..., subprocess.Popen[str]]

REPOSITORY = Path(__file__).parents[2]
DEADLINE = 120.0  # seconds; the machine may be busy
SMALL = ("--calls", "2000", "--days", "5", "--seconds", "2")


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a demo in a process group of its own, as a shell does. No group outlives its test."""
    started: list[subprocess.Popen[str]] = []

    def begin(directory: Path, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "cdrsync", "demo", "--directory", str(directory), *options]
        demo = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        started.append(demo)
        return demo

    yield begin
    for demo in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(demo.pid, signal.SIGKILL)
        demo.wait()


def _wait_until_gone(group: int) -> None:
    """Until no process of the group is left. Raises TimeoutError."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise TimeoutError(f"processes of group {group} are still running")


@pytest.mark.waits
def test_the_demo_ends_equal_and_may_be_run_again(tmp_path: Path, start: Start) -> None:
    """Exit 0, everything that a person wants to see on a plain stream, and no process left behind.

    The next demo replaces the database; nothing else in the directory is touched.
    """
    directory = tmp_path / "demo"
    demo = start(directory, *SMALL)
    output, _ = demo.communicate(timeout=DEADLINE)
    assert demo.returncode == 0, output
    _wait_until_gone(demo.pid)
    assert "\x1b" not in output, "escape sequences without a terminal"
    assert "All equal, every column of every row" in output
    counts = re.search(r"stand-in has ([\d,]+) calls, the database ([\d,]+)", output)
    assert counts is not None
    assert counts[1] == counts[2]
    caught = re.search(r"It caught (\d+) new calls", output)
    assert caught is not None
    assert int(caught[1]) > 0
    for heading in ("Calls per day", "Checkpoint", "The file to open", "Three queries to try"):
        assert heading in output
    ours = output.replace(str(tmp_path), "/tmp/x")  # a temporary folder's name may be as long as it likes
    assert [line for line in ours.splitlines() if len(line) > 100] == []

    (directory / "mine.txt").write_text("mine")
    demo = start(directory, *SMALL)
    output, _ = demo.communicate(timeout=DEADLINE)
    assert demo.returncode == 0, output
    assert (directory / "mine.txt").read_text() == "mine"


def test_a_database_that_is_no_demo_is_left_alone(tmp_path: Path, start: Start) -> None:
    """cdrsync.db is the real one's name too: exit 2, not a byte changed, and what to do."""
    database = tmp_path / "cdrsync.db"
    engine = open_engine(f"sqlite:///{database}")
    migrate.upgrade(engine)
    engine.dispose()
    lock = tmp_path / "cdrsync.db.default.lock"
    lock.touch()
    before = database.read_bytes()
    demo = start(tmp_path, *SMALL)
    output, _ = demo.communicate(timeout=DEADLINE)
    assert (demo.returncode, output) == (
        2, f"error: {database} was not made by this demo, and is left alone. Give another --directory\n"
    )  # fmt: skip
    assert (database.read_bytes(), set(tmp_path.iterdir())) == (before, {database, lock})


def test_a_folder_that_can_not_be_made_is_one_line(tmp_path: Path, start: Start) -> None:
    (tmp_path / "file").touch()
    demo = start(tmp_path / "file/demo", *SMALL)
    output, _ = demo.communicate(timeout=DEADLINE)
    assert demo.returncode == 2
    assert output.startswith(f"error: can't write {tmp_path / 'file/demo/cdrsync.db'}: Not a directory. ")
    assert output.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["$ cdrsync sync", "$ cdrsync run"])
def test_an_interrupted_demo_leaves_nothing_running(
    tmp_path: Path, start: Start, number: signal.Signals, moment: str
) -> None:
    """Ctrl-C, SIGTERM and a closed terminal end it in the middle of either part, with every process of it."""
    demo = start(tmp_path / "demo", "--calls", "5000", "--days", "5", "--seconds", "100")
    assert demo.stdout is not None
    for line in demo.stdout:
        if line.startswith(moment):
            break
    os.killpg(demo.pid, number) if number == signal.SIGINT else demo.send_signal(number)
    demo.communicate(timeout=DEADLINE)
    assert demo.returncode == 128 + number
    _wait_until_gone(demo.pid)


def _row(call: Call) -> dict[str, object]:
    """A call of the stand-in as a row of `cdr`."""
    same = set(tables.cdr.c.keys()) & set(Call._fields)
    seen = datetime(2024, 5, 23, 8, 31, tzinfo=UTC)
    return {name: getattr(call, name) for name in same - {"extra"}} | {
        "account_id": 1,
        "call_date": date.fromisoformat(call.calldate),
        "call_time": time_of_day.fromisoformat(call.calltime),
        "started_at": datetime.fromtimestamp(call.started, UTC),
        "first_seen_at": seen,
        "changed_at": seen,
    }


def test_every_difference_is_found(tmp_path: Path) -> None:
    """The comparison is worth something: a missing call, a strange one and a changed value are each named."""
    world = World(seed=3)
    world.add_history(calls=5, days=1)
    calls = world.records()
    database = tmp_path / "calls.db"
    engine = open_engine(f"sqlite:///{database}")
    migrate.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(insert(tables.cdr), [_row(call) for call in calls])
    assert differences(database, calls) == []
    with engine.begin() as connection:
        gone, changed = tables.cdr.c.uid == calls[0].uid, tables.cdr.c.uid == calls[1].uid
        connection.execute(update(tables.cdr).where(gone).values(uid=7))
        connection.execute(update(tables.cdr).where(changed).values(user_cost=calls[1].user_cost + Decimal("0.000001")))
    engine.dispose()
    cost = calls[1].user_cost
    assert differences(database, calls) == [
        f"uid {calls[0].uid} is missing",
        f"uid {calls[1].uid}: user_cost Decimal('{cost + Decimal('0.000001')}') != Decimal('{cost}')",
        "uid 7 is not the operator's",
    ]


def test_the_chart_has_a_column_for_each_day() -> None:
    """Full height for the busiest day, its count and the first and last day beside it."""
    first = date(2024, 5, 1)
    per_day = [(first + timedelta(days=n), 1000 * (n + 1)) for n in range(24)]
    assert chart(per_day) == [
        "24,000                     ▂▄▆█",
        "                       ▂▄▆█████",
        "                   ▂▄▆█████████",
        "               ▂▄▆█████████████",
        "           ▂▄▆█████████████████",
        "     0 ▂▄▆█████████████████████",
        "       2024-05-01    2024-05-24",
    ]
    assert chart([]) == ["none"]


def test_the_chart_needs_no_more_than_ascii() -> None:
    """Where the output's encoding has no block characters, the chart is coarser and still there."""
    assert chart([(date(2024, 5, 1), 1), (date(2024, 5, 2), 2)], blocks=" .:#")[:6] == [
        "2  #", "   #", "   #", "  ##", "  ##", "0 ##",
    ]  # fmt: skip


def test_numbers_of_a_table_stand_to_the_right() -> None:
    """Columns are as wide as their widest value; NULL is empty."""
    assert aligned(["name", "calls"], [("a", 10), (None, 2000)]) == ["name  calls", "a        10", "       2000"]
