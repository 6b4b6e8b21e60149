"""Runs a program under a systemd unit's restrictions, without systemd: `python confinement.py UNIT STATE COMMAND …`.

Reads the unit's own lines and does with the kernel what systemd would: seccomp filters for SystemCallFilter=,
RestrictAddressFamilies=, MemoryDenyWriteExecute=, RestrictNamespaces= and RestrictRealtime= (through libseccomp),
no new privileges, no capabilities, the umask; where it runs as root also a read-only file system but for STATE. Linux
only; a stand-alone program, so that nothing of the suite is loaded when the door closes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
from pathlib import Path

ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x00050000 | 1, 0x00050000 | 38
EQUAL, MASKED_EQUAL = 4, 7
PROT_WRITE, PROT_EXEC = 2, 4
NAMESPACES = 0x7E020000 | 0x80  # CLONE_NEW*
PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP = 38, 24
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
CLONE_NEWNS = 0x20000
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}

libc = ctypes.CDLL(None, use_errno=True)


class Comparison(ctypes.Structure):
    """One condition on an argument of a system call (`struct scmp_arg_cmp`)."""

    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


class Filter:
    """A seccomp filter: what is not allowed fails with EPERM."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libseccomp.so.2")
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(EPERM)))

    def rule(self, action: int, call: str, *conditions: Comparison) -> None:
        """Add a rule for a system call, by name; one that this machine does not have is passed over."""
        number = self._library.seccomp_syscall_resolve_name(call.encode())
        if number < 0:
            return
        checked(
            self._library.seccomp_rule_add_array(
                self._context,
                ctypes.c_uint32(action),
                number,
                len(conditions),
                (Comparison * len(conditions))(*conditions),
            )
        )

    def load(self) -> None:
        """From here on it holds, for this process and all that it starts."""
        checked(self._library.seccomp_load(self._context))


def checked(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno() or -result, os.strerror(ctypes.get_errno() or -result))


def directives(unit: Path) -> dict[str, list[str]]:
    """Every directive with its values, in order."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith(("#", ";", "[")):
            found.setdefault(name, []).append(value)
    return found


def expand(names: list[str]) -> set[str]:
    """System calls of `@set`s, as the real tool lists them, and of plain names."""
    calls: set[str] = set()
    for name in names:
        if not name.startswith("@"):
            calls.add(name)
            continue
        listed = subprocess.run(
            ["systemd-analyze", "--no-pager", "syscall-filter", name], capture_output=True, check=True, text=True
        ).stdout
        inside = [line.strip() for line in listed.splitlines()[1:]]
        calls |= expand([line for line in inside if line and not line.startswith("#")])
    return calls


def allowed_calls(unit: dict[str, list[str]]) -> set[str]:
    calls: set[str] = set()
    for value in unit["SystemCallFilter"]:
        if value.startswith("~"):
            calls -= expand(value[1:].split())
        else:
            calls |= expand(value.split())
    return calls


def system_call_filter(unit: dict[str, list[str]]) -> Filter:
    made = Filter()
    special = {"socket", "mmap", "mprotect", "pkey_mprotect", "clone", "clone3", "unshare", "setns"}
    for call in sorted(allowed_calls(unit) - special):
        made.rule(ALLOW, call)
    for family in unit["RestrictAddressFamilies"][0].split():
        made.rule(ALLOW, "socket", Comparison(0, EQUAL, FAMILIES[family], 0))
    writable_and_executable = PROT_WRITE | PROT_EXEC
    for allowed in (0, PROT_WRITE, PROT_EXEC):
        made.rule(ALLOW, "mmap", Comparison(2, MASKED_EQUAL, writable_and_executable, allowed))
    made.rule(ALLOW, "mprotect", Comparison(2, MASKED_EQUAL, PROT_EXEC, 0))
    made.rule(ALLOW, "clone", Comparison(0, MASKED_EQUAL, NAMESPACES, 0))
    made.rule(ENOSYS, "clone3")  # its flags are out of a filter's sight; the C library then uses clone
    return made


def close_file_system(state: Path) -> None:
    """Everything read-only but `state`; for root only. Raises OSError where this machine allows no mounts."""
    checked(libc.unshare(CLONE_NEWNS))
    checked(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
    keep = str(state).encode()
    checked(libc.mount(keep, keep, None, MS_BIND | MS_REC, None))
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        point = line.split()[4]
        if point != str(state) and not point.startswith(("/proc", "/sys", "/dev")):
            libc.mount(b"none", point.encode(), None, MS_REMOUNT | MS_BIND | MS_RDONLY, None)


def drop_capabilities() -> None:
    """None is left after the next program starts, even for root, who then owns files and nothing more."""
    for capability in range(64):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # beyond the last there is nothing to drop


def main(unit_file: str, state: str, *command: str) -> None:
    unit = directives(Path(unit_file))
    made = system_call_filter(unit)
    if os.geteuid() == 0:
        close_file_system(Path(state))
        drop_capabilities()
    os.umask(int(unit["UMask"][0], 8))
    os.chdir(state)
    checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    made.load()
    with contextlib.suppress(BrokenPipeError):
        os.execv(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
