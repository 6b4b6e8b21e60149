"""The systemd unit, judged by systemd's own tools, and cdrsync run under the unit's own restrictions."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.canary import LOGIN
from tests.support.confinement import directives
from tests.support.operator import World, running
from tests.support.tools import missing, program

if TYPE_CHECKING:
    from tests.support.servers import Servers

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy/systemd/cdrsync.service"
CONFINEMENT = ROOT / "tests/support/confinement.py"

# What must fail inside, and the imports of every wheel with compiled code in it.
PROBE = """
import mmap, socket

def refused(what, attempt):
    try:
        attempt()
    except OSError:
        return
    print("allowed:", what)

for family in ("AF_NETLINK", "AF_PACKET", "AF_VSOCK"):
    refused(family, lambda: socket.socket(getattr(socket, family), socket.SOCK_DGRAM))
refused("writable code", lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC))
import alembic, apscheduler, ctypes, flask, greenlet, httpx, lxml.etree, phonenumbers, prometheus_client, psycopg
import psycopg_binary, pymysql, sqlalchemy, structlog, waitress
refused("mount", lambda: exec("raise OSError" if ctypes.CDLL(None).mount(b"a", b"/tmp", b"tmpfs", 0, None) else "1"))
with open("state", "w") as own:
    own.write("mine")
print("done")
"""


def confined(state: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python under the unit's restrictions, to its end."""
    program("systemd-analyze")
    try:
        ctypes.CDLL("libseccomp.so.2")
    except OSError:
        missing("libseccomp is not installed (Debian: apt-get install libseccomp2)")
    return subprocess.run(
        [sys.executable, "-P", str(CONFINEMENT), str(UNIT), str(state), sys.executable, *command],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def over_tcp(url: str) -> str:
    """The test server's Unix socket lies in a directory that only privileges open."""
    return re.sub(r"@/(\w+)\?host=.*&port=(\d+)", r"@127.0.0.1:\2/\1", url)


def test_exposure_is_small() -> None:
    """`systemd-analyze security`: 1.1 at most, of 10."""
    done = subprocess.run(
        [program("systemd-analyze"), "--no-pager", "security", "--offline=true", "--threshold=11", str(UNIT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-200:]


def test_unit_is_valid(tmp_path: Path) -> None:
    """`systemd-analyze verify` has nothing to say; only the program's path is another one here."""
    installed = tmp_path / "cdrsync.service"
    installed.write_text(UNIT.read_text().replace("/opt/cdrsync/bin/cdrsync", sys.executable))
    done = subprocess.run(
        [program("systemd-analyze"), "verify", "--recursive-errors=no", "--man=no", str(installed)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_promises_of_the_unit() -> None:
    unit = directives(UNIT)
    promised = {
        "Type": ["notify"],
        "ExecStart": ["/opt/cdrsync/bin/cdrsync run"],
        "ExecReload": ["/bin/sh -c 'kill -s HUP $MAINPID'"],
        "Restart": ["always"],
        "TimeoutStopSec": ["20"],
        "DynamicUser": ["yes"],
        "StateDirectory": ["cdrsync"],
    }
    assert {name: unit.get(name) for name in promised} == promised
    assert [value.partition(":")[0] for value in unit["LoadCredential"]] == ["password", "vkey"]


def test_every_hardening_line_is_explained() -> None:
    """A comment stands above each group of lines, so that whoever has to loosen one knows what it was for."""
    service = UNIT.read_text().split("[Service]")[1].split("[Install]")[0]
    groups = re.split(r"(?m)^#.*\n", service.replace("\n\n", "\n"))
    assert [group for group in groups if len(group.strip().splitlines()) > 6] == []  # the kernel's six belong together


def test_restrictions_hold_and_every_library_works_under_them(tmp_path: Path) -> None:
    """What the unit forbids does fail, every compiled wheel loads, the state directory is writable."""
    done = confined(tmp_path, "-c", PROBE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make the file system read-only for a program")
def test_file_system_is_read_only(tmp_path: Path) -> None:
    done = confined(tmp_path, "-c", f"open({str(CONFINEMENT)!r}, 'a')")
    assert "Read-only file system" in done.stderr


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "mariadb"])
def test_sync_runs_under_the_restrictions(kind: str, servers: Servers, tmp_path: Path) -> None:
    """The whole job: API, database of each kind, its schema, 500 calls."""
    world = World(logins=[LOGIN])
    world.add_history(calls=500, days=2)
    server = servers.get(kind)
    database = "sqlite:///cdrsync.db" if kind == "sqlite" else over_tcp(server.create())
    with running(world) as url:
        done = confined(
            tmp_path, "-m", "cdrsync", "sync",
            CDRSYNC_API_URL=url, CDRSYNC_USERNAME=LOGIN.username, CDRSYNC_PASSWORD=LOGIN.password,
            CDRSYNC_VKEY=LOGIN.vkey, CDRSYNC_DATABASE_URL=database, CDRSYNC_START_DATE="all",
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "500 new" in done.stdout
