"""What `cdrsync doctor` finds about files: who else may read a secret, and whether SQLite's file can be written."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cdrsync.config import read
from cdrsync.config.values import url_password
from cdrsync.errors import EXIT_OK, EXIT_UNREACHABLE
from cdrsync.wiring.database import open_to_others

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cdrsync.config import Inputs, Value


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `state`: ok, warning, failed, skipped."""

    check: str
    state: str
    detail: str
    remedy: str = ""
    exit_code: int = EXIT_OK


def configuration(inputs: Inputs) -> Iterator[Finding]:
    """Warn of files of the configuration that others may read although a secret stands in them, or may change."""
    reading = read(inputs)
    values = [v for found in (reading.shared, *reading.accounts.values()) for v in found.values()]
    secret = {value.file for value in values if value.file and _is_secret(value)}
    plain = {value.file for value in values if value.file} - secret
    for path in sorted(secret | plain):
        try:
            found = path.stat()
        except OSError:
            continue  # that it can't be read, the configuration's own problems say
        readers, writers = _others(found, 4), _others(found, 2)
        what = "holds a secret" if path in secret else "is configuration"
        if writers:
            yield Finding(
                "configuration file", "warning", f"{path} {what} and {writers} may change it", _remedy(path, found)
            )
        elif readers and path in secret:
            yield Finding(
                "configuration file", "warning", f"{path} {what} and {readers} may read it", _remedy(path, found)
            )


def _is_secret(value: Value) -> bool:
    """Whether what stands in the file is a secret: a database's URL is one only with a password in it."""
    if not value.key.secret or not value.value:
        return False
    return value.key.name != "database_url" or url_password(str(value.value)) is not None


def _others(found: os.stat_result, permission: int) -> str:
    """Who beside its owner has a permission (4: to read, 2: to write) on a file; empty: nobody that matters."""
    if found.st_mode & permission:
        return "everybody"
    if not found.st_mode & permission << 3:
        return ""
    # Where the file is root's, and its group this user's, that is how this user reads it.
    ours = found.st_uid != os.geteuid() and found.st_gid in (os.getegid(), *os.getgroups())
    return "" if ours and permission == stat.S_IROTH else "its group"


def _remedy(path: Path, found: os.stat_result) -> str:
    return f"chmod {'600' if found.st_uid == os.geteuid() else '640'} {path}"


def sqlite(path: Path) -> Finding:
    """Whether this user may write SQLite's file, and beside it."""
    folder = path.absolute().parent
    if not os.access(folder, os.F_OK):
        return Finding("permissions", "failed", f"there is no folder {folder}", f"mkdir -p {folder}", EXIT_UNREACHABLE)
    for target in (folder, path):
        if os.access(target, os.F_OK) and not os.access(target, os.W_OK):
            remedy = f"Let this user write in {folder}"
            return Finding("permissions", "failed", f"{target} is read-only for this user", remedy, EXIT_UNREACHABLE)
    if loose := open_to_others(path):
        told = " ".join(map(str, loose))
        return Finding("permissions", "warning", f"others may read or change {told}", f"chmod 600 {told}")
    return Finding("permissions", "ok", f"{path if os.access(path, os.F_OK) else folder} can be written")
