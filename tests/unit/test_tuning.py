"""What is there for speed does nothing else: it gives back memory, and writes what Python writes by itself."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, time, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdrsync import tuning

MEASURE = """
import ctypes, gc
from cdrsync import tuning

if not hasattr(ctypes.CDLL(None), "malloc_trim"):
    raise SystemExit("no glibc")

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 // 2**20

tuning.for_pages()
before = resident()
pages = [b"x" * (2**20 - n) for n in range(200)]
last = bytearray(64)  # at the end of the heap: what lies below it is not given back by itself
taken = resident() - before
del pages
gc.collect()
tuning.give_back()
print(taken, resident() - before)
"""


def test_what_pages_needed_is_given_back() -> None:
    """Two hundred megabytes from the heap, freed under something that stays, leave the process."""
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=False)
    if "no glibc" in done.stderr:
        pytest.skip("the C library has no malloc_trim: nothing is kept there")
    assert done.returncode == 0, done.stderr
    taken, left = map(int, done.stdout.split())
    assert taken >= 190
    assert left <= 10


ZONES = st.sampled_from((UTC, timezone(timedelta(hours=1)), timezone(-timedelta(hours=9, minutes=30))))
MOMENTS = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=ZONES)  # noqa: DTZ001 - given a zone there


@given(st.lists(st.one_of(MOMENTS, MOMENTS.map(lambda moment: moment.replace(microsecond=0)))))
def test_instants_are_written_as_python_writes_them(moments: list[datetime]) -> None:
    """Whatever their zone and fraction: the text that `str` makes of them in UTC."""
    assert tuning.instants(moments) == [str(moment.astimezone(UTC).replace(tzinfo=None)) for moment in moments]


@given(st.lists(st.one_of(st.times(), st.times().map(lambda clock: clock.replace(microsecond=0)))))
def test_times_of_day_are_written_as_python_writes_them(clocks: list[time]) -> None:
    """The text that `str` makes of them."""
    assert tuning.clocks(clocks) == list(map(str, clocks))


def test_a_library_is_imported_without_what_it_can_do_without() -> None:
    """And whoever wants that module afterwards has it."""
    program = """
import sys
from cdrsync.monitor import logs
logs.set_up("json", "info")
assert "structlog" in sys.modules and "rich" not in sys.modules
import rich
"""
    subprocess.run([sys.executable, "-c", program], check=True)
