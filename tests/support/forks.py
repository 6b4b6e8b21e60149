"""The real program, started over and over without its half second of imports: forked from a process that has them done.

A `Program` is a process of its own, with its own environment, streams and connections; it can be waited for, told to
end and killed like any other. What is about the start itself (imports, LD_PRELOAD, locale) needs a real start instead.

The forking process, `python -m tests.support.forks`, is started with the first program and ends with this process. One
message to it, a JSON object with two descriptors, is one program; its answer is the process id.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdrsync import tuning
from tests.support.canary import WATCH

if TYPE_CHECKING:
    from collections.abc import Mapping

PRELOADED = (
    *("alembic.command", "alembic.config", "alembic.autogenerate", "apscheduler.schedulers.background", "lxml.etree"),
    *("psycopg", "pymysql", "sqlalchemy.dialects.mysql", "sqlalchemy.dialects.postgresql", "rich.table"),
    *("cdrsync.wiring.accounts", "cdrsync.cli.work", "cdrsync.cli.run", "cdrsync.cli.audit", "cdrsync.daemon.service"),
    *("cdrsync.daemon.worker", "cdrsync.sync.steps", "cdrsync.audit.audit", "cdrsync.source.api"),
    *("cdrsync.source.xml_any", "cdrsync.source.xml_fast", "cdrsync.store.save", "cdrsync.store.reads.ledger"),
    *("cdrsync.store.admin.migrate", "cdrsync.store.databases.sqlite", "cdrsync.store.databases.postgresql"),
    *("cdrsync.store.databases.mysql", "cdrsync.monitor.metrics", "cdrsync.web", "cdrsync.daemon.sharing"),
    *("cdrsync.daemon.pool", "cdrsync.store.numbering", "cdrsync.store.privacy.eraser", "cdrsync.store.reads.status"),
    *("prometheus_client", "apscheduler.triggers.cron", "httpcore", "anyio._backends._asyncio", "encodings.idna"),
    *("cdrsync.cli.status", "cdrsync.cli.doctor"),
)
MESSAGE = 1 << 17  # bytes: an environment may be long


class Program:
    """`cdrsync ARGS`, writing to two open files. It is killed when this process ends.

    `prepared` is what the new process calls before the program begins: "module:function" and its arguments.
    """

    def __init__(
        self, args: tuple[str, ...], env: Mapping[str, str], cwd: Path, *, stdout: int, stderr: int,
        prepared: tuple[str, Mapping[str, Any]] | None = None,
    ) -> None:  # fmt: skip
        WATCH.look("the arguments of a process", "\0".join(args))
        self.returncode: int | None = None
        told = {"args": args, "env": dict(env), "cwd": str(cwd), "prepared": prepared}
        self.pid = _FORKS.tell(told, [stdout, stderr])
        self._end = os.pidfd_open(self.pid)

    def poll(self, seconds: float = 0) -> int | None:
        """How it ended: an exit code, minus the signal that killed it, or None where it runs on after so long."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(seconds)
        return self.returncode

    def wait(self, seconds: float) -> int:
        """How it ended. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            watch = select.poll()
            watch.register(self._end, select.POLLIN)
            if not watch.poll(seconds * 1000):
                raise subprocess.TimeoutExpired("cdrsync", seconds)
            self.returncode = _FORKS.tell({"wait": self.pid})
            os.close(self._end)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """As os.kill, but never to another process that has its id by now."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class _Forks:
    """The other end of the forking process."""

    def __init__(self) -> None:
        self._alone = threading.Lock()
        self._socket: socket.socket | None = None

    def tell(self, what: dict[str, Any], descriptors: list[int] | None = None) -> int:
        """Send one message; the number that it is answered with."""
        with self._alone:
            line = self._socket = self._socket or self._start()
            socket.send_fds(line, [json.dumps(what).encode()], descriptors or [])
            return int(line.recv(MESSAGE))

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                cwd=Path(__file__).parents[2],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

        def end() -> None:
            ours.close()
            process.wait(60)

        atexit.register(end)
        return ours


_FORKS = _Forks()


# ── the forking process ────────────────────────────────────────────────────────────────────────────────────────────


def serve(line: socket.socket) -> None:
    """Fork and wait as told, until the other end is gone; then end what still runs."""
    with tuning.without("rich"):  # as the program does
        import_module("structlog")
    for module in PRELOADED:
        import_module(module)
    gc.collect()
    gc.freeze()
    running = set()
    while True:
        message, descriptors, *_ = socket.recv_fds(line, MESSAGE, 2)
        if not message:
            break
        told = json.loads(message)
        if "wait" in told:
            answer = os.waitstatus_to_exitcode(os.waitpid(told["wait"], 0)[1])
            running.discard(told["wait"])
        else:
            answer = os.fork()
            if not answer:
                line.close()
                _become(told, descriptors)
            running.add(answer)
            for descriptor in descriptors:
                os.close(descriptor)
        line.send(str(answer).encode())
    for pid in running:
        os.kill(pid, signal.SIGKILL)


def _become(told: dict[str, Any], descriptors: list[int]) -> None:
    """In the child: the program, as if it had been started by a shell."""
    try:
        random.seed()
        for target, descriptor in enumerate(descriptors, 1):
            os.dup2(descriptor, target)
            os.close(descriptor)
        # The streams of the forking process know of its own files whether one can seek in them.
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - to the end
        sys.stderr = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        os.environ.clear()
        os.environ.update(told["env"])
        time.tzset()
        os.chdir(told["cwd"])
        sys.argv = ["cdrsync", *told["args"]]
        if told["prepared"]:
            where, arguments = told["prepared"]
            module, _, function = where.partition(":")
            getattr(import_module(module), function)(**arguments)
        from cdrsync.__main__ import main

        main()
    except BaseException:  # noqa: BLE001 - as the interpreter would end
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as end:
        serve(end)
