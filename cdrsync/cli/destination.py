"""Where an export goes: standard output, a device or a pipe, or a file that appears when it is complete."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from cdrsync.daemon.signals import INTERRUPT
from cdrsync.errors import OutputFailed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

MOST_LINKS = 40  # that are followed, as the system does
OPEN_FILES = tuple(map(Path, ("/dev/fd", "/dev/stdout", "/dev/stderr", "/proc/self/fd")))


@contextlib.contextmanager
def written(path: Path | None) -> Iterator[BinaryIO]:
    """Where an export goes, None being standard output. Raises OutputFailed where it can't be written.

    A file appears under its name when it is complete: an export that failed leaves none, or the one before. Links are
    followed where they are ours or root's: another's could lead anywhere, and another's file would show him the calls.
    """
    try:
        if path is None:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
            return
        open_already = any(path.absolute().is_relative_to(place) for place in OPEN_FILES)
        target = path if open_already else _followed(path.absolute())
        held = _held(target)
        special = held is not None and not stat.S_ISREG(held.st_mode)
        if held and not open_already and held.st_uid != os.geteuid() and not stat.S_ISCHR(held.st_mode):
            raise OutputFailed(f"{path} is another user's", hint="Give another name")
        with target.open("wb") if special or open_already else _whole_file(target, held) as file:
            yield file
    except OSError as error:
        if path is None and isinstance(error, BrokenPipeError):
            raise  # its reader has enough: `cdrsync export | head`
        raise OutputFailed(f"can't write {path or 'to standard output'}: {error.strerror or error}") from error


def _followed(path: Path) -> Path:
    """The path with every link in it followed. Raises OutputFailed for a link of another user's, OSError."""
    done, left, links = Path("/"), list(path.parts[1:]), 0
    while left:
        part = left.pop(0)
        here = done.parent if part == ".." else done / part
        if not here.is_symlink():
            done = here
            continue
        if here.lstat().st_uid not in (os.geteuid(), 0):
            raise OutputFailed(
                f"{here} is another user's link", hint="Give the path that it leads to, if you mean that"
            )
        links += 1
        if links > MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        to = here.readlink()
        done, left = (Path("/"), [*to.parts[1:], *left]) if to.is_absolute() else (done, [*to.parts, *left])
    return done


def _held(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _whole_file(path: Path, held: os.stat_result | None) -> Iterator[BinaryIO]:
    """Replace a file at the end. It keeps its mode; a new one is for its owner only, for it holds personal data."""
    if held and not os.access(path, os.W_OK):  # to replace it would be to change it all the same
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    number, name = tempfile.mkstemp(prefix=".cdrsync-", suffix=".part", dir=path.parent)
    part = Path(name)
    try:
        with INTERRUPT.removing(part), open(number, "wb") as file:  # noqa: PTH123 - a file that is open already
            if held:
                with contextlib.suppress(PermissionError):
                    os.chown(number, held.st_uid, held.st_gid)
                os.fchmod(number, stat.S_IMODE(held.st_mode))
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
