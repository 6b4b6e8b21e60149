"""The cost of reading bytes grows as they do: work counted at n, 2n and 4n, for every reader and kind of growth."""

from __future__ import annotations

import gzip
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cdrsync.errors import BadAnswer
from cdrsync.source.decode import decode, without_noise
from cdrsync.source.masks import Masks
from cdrsync.source.salvage import Salvage, cut
from tests.support.answers import LONDON, envelope, record, records, response

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIZES = (250, 500, 1000)
SLACK = 1.15  # of the growth that is linear

GROWING: dict[str, Callable[[int], bytes]] = {
    "records": lambda n: envelope(response(*records(n))),
    "other form": lambda n: envelope(response(*[one.replace("<uid>", "<uid> ") for one in records(n)])),
    "bare records": lambda n: envelope("<Response name='GetCDRs' Code='200'>" + "<CDR/>" * n + "</Response>"),
    "lists": lambda n: envelope(
        "<Response name='GetCDRs' Code='200'>" + f"<CDRs>{record()}</CDRs>" * n + "</Response>"
    ),
    "rejects": lambda n: envelope(response(*[record(duration="?")] * n)),
    "unknown elements": lambda n: envelope(response(record(**{f"New{i}": "x" for i in range(n)}))),
    "one name": lambda n: envelope(response(record().replace("</CDR>", "<New>x</New>" * n + "</CDR>"))),
    "twice": lambda n: envelope(response(record().replace("</CDR>", "<uid>1</uid>" * n + "</CDR>"))),
    "text": lambda n: envelope(response(record(alias="x" * n * 100))),
    "escapes": lambda n: envelope(response(record(alias="&amp;" * n))),
    "characters": lambda n: envelope(response(record(alias="&#38;" * n))),
    "comments": lambda n: envelope(response("<!-- - -->" * n)),
    "before the root": lambda n: b"<?xml version='1.0'?>" + b"<!-- - - -->" * n + b"<NoveroResponse/>",
    "instructions": lambda n: b"<?x ??>" * n + b"<NoveroResponse/>",
    "white space": lambda n: envelope(response(record() + " \r\n" * n)),
    "totals": lambda n: envelope(
        "<Response name='GetTotals' Code='200'><CDRTotals>" + "<x>1</x>" * n + "</CDRTotals></Response>"
    ),
    "words": lambda n: envelope(
        "<Response Code='500'><ResponseMessage>" + "<b>no</b>" * n + "</ResponseMessage></Response>"
    ),
    "attributes": lambda n: envelope("<Response " + " ".join(f"a{i}='1'" for i in range(n)) + "/>"),
    "opened": lambda n: b"<NoveroResponse>" + b"<CDR>" * n,
    "closed": lambda n: b"<NoveroResponse>" + b"</CDR>" * n,
    "lists opened": lambda n: b"<CDR>" + b"<CDRs>" * n + b"</CDRs>",
    "roots": lambda n: b"<NoveroResponse>" * n + b"</NoveroResponse>",
    "declarations": lambda n: b"<?xml " * n,
}


def _growth(kind: str, read: Callable[[bytes], object]) -> tuple[int, int]:
    """How much more work twice the smallest size takes, and how much more twice that."""
    bodies = [GROWING[kind](n) for n in SIZES]
    _work(read, bodies[0])  # what happens once only: patterns are compiled, modules loaded
    first, second, fourth = (_work(read, body) for body in bodies)
    return second - first, fourth - second


def _work(read: Callable[[bytes], object], body: bytes) -> int:
    """Python's own steps of reading: calls and lines, counted by the interpreter."""
    steps = 0

    def count(*_: object) -> object:
        nonlocal steps
        steps += 1
        return count

    sys.settrace(count)  # type: ignore[arg-type] # a trace function may be any callable
    try:
        read(body)
    except BadAnswer:
        pass
    finally:
        sys.settrace(None)
    return steps


@pytest.mark.parametrize("kind", GROWING)
def test_the_work_of_decoding_is_linear(kind: str) -> None:
    """Twice the bytes cost at most twice the steps."""
    once, twice = _growth(kind, lambda body: decode(body, timezone=LONDON))

    assert twice <= SLACK * 2 * once + 500


@pytest.mark.parametrize("kind", GROWING)
def test_the_work_of_the_lenient_readers_is_linear(kind: str) -> None:
    """So it is for what looks for noise, and for a record to cut out."""
    known = Salvage()
    known.add(b"<CDR>&</CDR>", "x")

    def read(body: bytes) -> None:
        without_noise(body)
        cut(body)
        known.without_known(body)
        Masks("secret").masked(body.decode())

    once, twice = _growth(kind, read)

    assert twice <= SLACK * 2 * once + 500


def _numbered(one: str, count: int) -> list[str]:
    return [one.replace("@", str(n + 1)) for n in range(count)]


LARGE: dict[str, Callable[[], bytes]] = {
    "bare records": lambda: GROWING["bare records"](24_000),
    "small records": lambda: envelope(response(*_numbered(record(uid="@", alias="\U0001f4de"), 20_000))),
    "other form": lambda: envelope(response(*_numbered(record(uid=" @", alias="\U0001f4de" * 40), 18_000))),
    "rejects": lambda: envelope(response(*[record(duration="?", alias="\U0001f4de" * 40)] * 18_000)),
    "leaves": lambda: envelope(response(*["<CDR>" + "<x/>" * 200_000 + "</CDR>"] * 4)),
    "long texts": lambda: envelope(response(*[record(alias="\U0001f4de" + "x" * 1_000_000)] * 15)),
    "attributes": lambda: GROWING["attributes"](60_000),
    "more than is read": lambda: b"<NoveroResponse>" + b"<x/>" * 4_000_000 + b"</NoveroResponse>",
}
PEAK_MB = 250
SECONDS = 20  # of processor time: what is quadratic takes minutes

_READ = """
import os, resource, sys
from datetime import UTC, datetime
from zoneinfo import ZoneInfo
import httpx, sqlalchemy, cdrsync.wiring.accounts
from cdrsync.errors import BadAnswer
from cdrsync.source.exchange import MAX_BYTES
from cdrsync.source.decode import decode
from cdrsync.source.http_answer import read

def peak(path):
    content = httpx.ByteStream(open(path, "rb").read())
    sent = httpx.Response(200, headers={"Content-Encoding": "gzip"}, stream=content)
    try:
        got = read(sent, httpx.URL("http://127.0.0.1/"), datetime.now(UTC), MAX_BYTES)
        decode(got.body, timezone=ZoneInfo("Europe/London"))
    except BadAnswer:
        pass
    print(os.path.basename(path), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, sep=":", flush=True)

for path in sys.argv[2:]:
    if not os.fork():  # each in a process of its own, in which all libraries are loaded
        resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[1]),) * 2)
        peak(path)
        os._exit(0)
    os.wait()
"""

PACKED: dict[str, Callable[[], bytes]] = {
    "members": lambda: gzip.compress(envelope()) + gzip.compress(b"") * 700_000,
    "members of a byte": lambda: gzip.compress(b" ") * 700_000,
    "as many as are read": lambda: gzip.compress(b" ") * 10_000,
    "not packed at all": lambda: gzip.compress(b" " * 15_000_000, 0),
    "zeros behind": lambda: gzip.compress(envelope()) + b"\0" * 15_000_000,
}


def test_no_answer_takes_more_than_its_share_of_memory_and_time(tmp_path: Path) -> None:
    """The largest of each kind, and what is larger still, in a process that has the program's libraries loaded."""
    peaks = _peaks(tmp_path, {kind: gzip.compress(large(), 1) for kind, large in LARGE.items()})
    assert {kind: peak for kind, peak in peaks.items() if peak >= PEAK_MB} == {}
    assert peaks.keys() == LARGE.keys()


def test_no_packing_takes_more_than_its_share_of_memory_and_time(tmp_path: Path) -> None:
    """What is short may be long to unpack."""
    peaks = _peaks(tmp_path, {kind: packed() for kind, packed in PACKED.items()})
    assert {kind: peak for kind, peak in peaks.items() if peak >= PEAK_MB} == {}
    assert peaks.keys() == PACKED.keys()


def _peaks(folder: Path, packed: dict[str, bytes]) -> dict[str, int]:
    """MB of memory that reading each takes at most; what takes too long is missing."""
    for kind, content in packed.items():
        (folder / kind).write_bytes(content)
    # Through a process that has little memory itself: Linux counts that of whoever starts a program into its peak.
    starter = [sys.executable, "-I", "-S", "-c", "import subprocess, sys; subprocess.run(sys.argv[1:], check=True)"]
    paths = [str(folder / kind) for kind in packed]
    done = subprocess.run(
        [*starter, sys.executable, "-c", _READ, str(SECONDS), *paths], capture_output=True, check=True, text=True
    )
    return {kind: int(peak) for kind, peak in (line.split(":") for line in done.stdout.splitlines())}
