"""The suite's credentials, and the alarm that goes off where one of them gets out.

A pytest plugin (`pytest_plugins = ("tests.support.canary",)` in `tests/conftest.py`). Tests take their credentials
from here, and the sandbox's DEMO_LOGIN becomes one of them. The plugin watches every road by which cdrsync could let a
secret out, and fails the test, or the run, in which it did:

    what a test prints or logs     pytest's captured sections, and what `capsys` and its like hand to the test
    the command line in-process    click's CliRunner
    other processes                their arguments (anybody on the machine can read those) and their output
    exceptions                     text and hint of every CdrsyncError, caught or not, when it is made
    pages, metrics, JSON           every answer of our web server, in-process or over HTTP
    files                          everything the tests wrote, in Python or by a process in a temporary directory:
                                   databases, their servers' logs, lock files, exports; looked at before it is deleted

A leak is reported without showing the secret. Files by which tests hand secrets in are known by their names (`INPUTS`).
"""

from __future__ import annotations

import base64
import contextlib
import mmap
import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import wraps
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

from cdrsync.errors import CdrsyncError
from cdrsync.sandbox import DEMO_LOGIN, Login

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

# The tails need quoting in XML and in URLs; what is looked for is the plain part, which no quoting changes.
PASSWORD: Final = "cAnArYpAsSwOrD7Kq2&<é"
VKEY: Final = "cAnArYvKeY9d64e4c3289e7a1"
DATABASE_PASSWORD: Final = "cAnArYdAtAbAsE5Tx8@/"
DOORBELL_TOKEN: Final = "cAnArYdOoRbElL3Mw6"
PSEUDONYM_KEY: Final = "cAnArYpSeUdOnYm4Zr1"
LOGIN: Final = Login("canary@example.com", PASSWORD, VKEY)
PUBLISHED_LOGIN: Final = DEMO_LOGIN
"""What `cdrsync sandbox` and `cdrsync demo` log in with as processes of their own. It opens nothing else."""

CANARIES: Final = {
    "the password": "cAnArYpAsSwOrD",
    "the VKey": "cAnArYvKeY",
    "the database's password": "cAnArYdAtAbAsE",
    "the doorbell's token": "cAnArYdOoRbElL",
    "the pseudonym key": "cAnArYpSeUdOnYm",
    "a session id": "c0ffee5e5510ca9a",  # as the sandbox hands them out to the suite: 32 hex digits, these 16 first
}
INPUTS: Final = (
    "*.toml",
    "*secret*",
    "*password*",
    "*vkey*",
    "*credential*",
    "*.env",
    "*.pyc",
    "test_*.py",
    "canary.py",
    "nodeids",
)
"""Names of files that hold secrets because a test put them there (nodeids: pytest's). cdrsync writes none of these."""


def _in_base64(plain: str) -> list[bytes]:
    """What base64 makes of it wherever it stands in a longer text, without the ends that depend on its neighbours."""
    return [base64.b64encode(b"?" * before + plain.encode())[4 if before else 0 : -4] for before in range(3)]


_NAMES = {plain.encode(): name for name, plain in CANARIES.items()} | {
    form: f"{name} in base64" for name, plain in CANARIES.items() for form in _in_base64(plain)
}
_PATTERN = re.compile(b"|".join(map(re.escape, _NAMES)))
_BY_FIRST_BYTE = [  # a pattern that begins with one byte is looked for ten times as fast as one of several
    re.compile(b"|".join(map(re.escape, names))) for _, names in groupby(sorted(_NAMES), key=lambda name: name[0])
]
_WRITING = os.O_WRONLY | os.O_RDWR


class Watch:
    """Where secrets got out since the last `take`, and the files that are still to be looked at."""

    def __init__(self) -> None:
        self.looked_at = 0  # texts and files
        self.scanning = threading.local()
        self._leaks: list[str] = []
        self._files: set[str] = set()
        self._roots: set[str] = set()

    def look(self, where: str, content: Any) -> None:
        """Note each canary in `content` (text, bytes or a mapped file; anything else is passed over)."""
        if isinstance(content, str):
            content = content.encode("utf-8", "surrogatepass")
        if isinstance(content, (bytes, bytearray, mmap.mmap)):
            self.looked_at += 1
            found = {name for pattern in _BY_FIRST_BYTE for name in pattern.findall(content)}
            self._leaks += [f"{plain} in {where}" for name, plain in _NAMES.items() if name in found]

    def take(self) -> list[str]:
        """The leaks so far, each once; forgets them."""
        leaks, self._leaks = self._leaks, []
        return list(dict.fromkeys(leaks))

    def written(self, path: str) -> None:
        """A file was opened for writing: it is looked at before it is deleted, or at the end of the run."""
        self._files.add(path)

    def root(self, path: str) -> None:
        """Everything below this directory was written by tests."""
        self._roots.add(path)

    def removed(self, path: str) -> None:
        """A file or directory is about to go: the last chance to look into it."""
        if path in self._files or any(f"{path}/".startswith(f"{root}/") for root in self._roots):
            self.scan(path)

    def scan_all(self) -> None:
        """Look into every file and directory that is still there.

        A nameless temporary file is opened by the name of its directory, which others write into as well.
        """
        for path in self._files:
            self._scan_file(path)
        for path in self._roots:
            self.scan(path)

    def scan(self, path: str) -> None:
        """Look into a file, or into every file below a directory."""
        if os.path.isdir(path):  # noqa: PTH112 - called from the audit hook, for every deletion: kept light
            for folder, _, names in os.walk(path):
                for name in names:
                    self._scan_file(os.path.join(folder, name))  # noqa: PTH118
        else:
            self._scan_file(path)

    def _scan_file(self, path: str) -> None:
        if any(fnmatch(os.path.basename(path), pattern) for pattern in INPUTS):  # noqa: PTH119
            return
        self.scanning.active = True
        try:
            # Not a regular file, or gone meanwhile: a server cleans up behind itself.
            with contextlib.suppress(OSError, ValueError):
                if not os.path.isfile(path):  # noqa: PTH113
                    return
                with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:  # noqa: PTH123
                    self.look(f"the file {path}", content)
        finally:
            self.scanning.active = False


WATCH: Final = Watch()


def redacted(text: str) -> str:
    """The text with every canary painted over."""
    return re.sub(_PATTERN.pattern.decode() + r"\S*", "<a secret>", text)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    """Python's own report of what the process does (PEP 578): files written and deleted, processes started."""
    if event == "open" and isinstance(args[0], (str, bytes)):
        if (set("wax+") & set(args[1] or "")) or (args[2] or 0) & _WRITING:
            WATCH.written(os.path.abspath(os.fsdecode(args[0])))  # noqa: PTH100
    elif event == "sqlite3.connect" and isinstance(args[0], (str, bytes)):
        WATCH.written(os.path.abspath(os.fsdecode(args[0])))  # noqa: PTH100
    elif event == "tempfile.mkdtemp":
        WATCH.root(os.path.abspath(args[0]))  # noqa: PTH100
    elif event in {"os.remove", "shutil.rmtree"} and args[1] in {None, -1}:
        WATCH.removed(os.path.abspath(os.fsdecode(args[0])))  # noqa: PTH100
    elif event == "subprocess.Popen":
        WATCH.look("the arguments of a process", "\0".join(map(os.fsdecode, args[1])))


def _after(patch: pytest.MonkeyPatch, owner: Any, name: str, look: Callable[..., None]) -> None:
    """Call `look(self, result)` after each call of a method."""
    method = getattr(owner, name)

    @wraps(method)
    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = method(self, *args, **kwargs)
        look(self, result)
        return result

    patch.setattr(owner, name, watched)


def _look_at_capture(_: Any, captured: Any) -> None:
    WATCH.look("the output", captured.out)
    WATCH.look("the error output", captured.err)


def _look_at_invocation(_: Any, result: Any) -> None:
    WATCH.look("a command's output", result.output)
    WATCH.look("a command's exception", repr(result.exception))


def _look_at_error(error: CdrsyncError, _: None) -> None:
    WATCH.look(f"a {type(error).__name__}", f"{error} {error!r}")


def _is_the_operators(headers: Any) -> bool:
    """The sandbox's answers may carry a session id. Nothing else of ours is XML."""
    return str(headers.get("content-type", "")).startswith("text/xml")


def _look_at_http(_: Any, response: Any) -> None:
    # A streamed answer is read later, by whoever asked for it.
    if response.is_stream_consumed and not _is_the_operators(response.headers):
        WATCH.look(f"an HTTP answer to {response.request.url.path}", response.content)


def _look_at_page(_: Any, response: Any, **__: Any) -> None:
    if not response.is_streamed and not _is_the_operators(response.headers):
        WATCH.look("a page of the web server", response.get_data())
        WATCH.look("a header of the web server", str(response.headers))


class _CanaryIds:
    """In place of the sandbox's dice for session ids."""

    def __init__(self, dice: Any) -> None:
        self._dice = dice

    def getrandbits(self, bits: int) -> int:
        return int(CANARIES["a session id"], 16) << (bits - 64) | int(self._dice.getrandbits(bits - 64))


def _mark_sessions(sessions: Any, _: None) -> None:
    sessions._rng = _CanaryIds(sessions._rng)


def _arm(patch: pytest.MonkeyPatch) -> None:
    """Turn the sandbox's credentials into canaries before any test module imports them."""
    from cdrsync.sandbox import sessions, world

    for name, module in list(sys.modules.items()):
        if name.startswith("cdrsync.sandbox") and hasattr(module, "DEMO_LOGIN"):
            patch.setattr(module, "DEMO_LOGIN", LOGIN)
    patch.setitem(cast("dict[str, Any]", world.World.__init__.__kwdefaults__), "logins", (LOGIN,))
    _after(patch, sessions.Sessions, "__init__", _mark_sessions)


def _only_deals_out(config: pytest.Config) -> bool:
    """Whether this is the process of pytest-xdist that runs no test itself: the others report to it."""
    return config.getoption("dist", "no") != "no" and not hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    """Put the canaries in place and open the ears."""
    config.stash[_FOUND] = Found()
    if _only_deals_out(config):
        return
    import httpx
    from click.testing import CliRunner
    from flask import request_finished

    from tests.support.overheard import Popen

    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    _arm(patch)
    patch.setattr(subprocess, "Popen", Popen)
    _after(patch, pytest.CaptureFixture, "readouterr", _look_at_capture)
    _after(patch, CliRunner, "invoke", _look_at_invocation)
    _after(patch, CdrsyncError, "__init__", _look_at_error)
    _after(patch, httpx.Client, "send", _look_at_http)
    request_finished.connect(_look_at_page)
    config.add_cleanup(lambda: request_finished.disconnect(_look_at_page))
    sys.addaudithook(_audit)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Fail the test in which a secret got out, without showing it."""
    report = yield
    for title, text in report.sections:
        if title.endswith(call.when):
            WATCH.look(title.lower(), text)
    if report.failed:
        WATCH.look("the exception", report.longreprtext)
        if redacted(report.longreprtext) != report.longreprtext:
            report.longrepr = redacted(report.longreprtext)
    report.sections = [(title, redacted(text)) for title, text in report.sections]
    if leaks := WATCH.take():
        report.outcome = "failed"
        report.longrepr = f"{report.longreprtext}\nA secret got out of {item.nodeid}:\n  " + "\n  ".join(leaks)
    return report


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a process of pytest-xdist found. One that crashed has nothing to say."""
    leaks, looked_at = getattr(node, "workeroutput", {}).get("canaries", ([], 0))
    found = node.config.stash[_FOUND]
    found.leaks += leaks
    found.looked_at += looked_at


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Look into all that is left on disk, and fail the run for what is found."""
    config = session.config
    found = config.stash[_FOUND]
    if not _only_deals_out(config):
        factory = getattr(config, "_tmp_path_factory", None)
        if factory is not None and factory._basetemp is not None:
            WATCH.root(str(factory.getbasetemp()))
        WATCH.scan_all()
        found.leaks, found.looked_at = WATCH.take(), WATCH.looked_at
    if hasattr(config, "workeroutput"):
        config.workeroutput["canaries"] = (found.leaks, found.looked_at)
    elif found.leaks:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say what was looked at, and what was found after the last test."""
    found = config.stash[_FOUND]
    for leak in found.leaks:
        terminalreporter.write_line(f"A SECRET GOT OUT: {leak}", red=True, bold=True)
    if not found.leaks:
        terminalreporter.write_line(f"canaries: no secret in {found.looked_at} outputs, errors, pages and files")


@dataclass
class Found:
    """What the whole run has found."""

    leaks: list[str] = field(default_factory=list)  # after the last test
    looked_at: int = 0


_FOUND: Final = pytest.StashKey[Found]()
