"""This process, described so that another one on the same machine can see whether it still runs."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

_START = 19  # of the fields behind the name in /proc/PID/stat: clock ticks from the machine's start to the process's
_DEAD = ("Z", "X")  # states: ended, and not yet asked for by its parent


@dataclass(frozen=True, slots=True)
class Process:
    """A process on some machine. `machine` and `started` are None where the system does not tell them."""

    host: str
    machine: str | None  # machine id, boot id, pid namespace: with the same three, `pid` means the same
    pid: int
    started: int | None  # clock ticks after the machine's start: a number that is used again is another process's

    def __str__(self) -> str:
        """As messages name it."""
        return f"process {self.pid} on {self.host}"

    def is_gone(self) -> bool:
        """Whether it surely runs no more. False for a process of another machine: that can't be seen from here."""
        here = this_process()
        if self.machine is None or self.machine != here.machine:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            """It is there, and somebody else's."""
        found = _state(self.pid)
        return found is not None and (found[0] in _DEAD or found[1] != self.started)

    def is_here(self) -> bool:
        """Whether it runs on this machine, as far as can be seen."""
        return self.machine is not None and self.machine == this_process().machine and not self.is_gone()


def this_process() -> Process:
    pid = os.getpid()
    found = _state(pid)
    return Process(socket.gethostname(), _machine() if found else None, pid, found[1] if found else None)


def _state(pid: int) -> tuple[str, int] | None:
    """State and start of a process; None where it may not be seen."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(") ")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[_START])


def _machine() -> str | None:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116 - the link's target, which has no path
    except OSError:
        return None
    try:
        machine = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except OSError:  # a container may have none; the boot's id is the machine's own as well
        machine = ""
    return f"{machine}/{boot}/{namespace}"
