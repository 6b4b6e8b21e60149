"""What commands print: tables and lines for people, one JSON object with `--json` for programs.

Every JSON object begins `{"version": 1, "command": "…"}`. Within version 1 keys are only ever added. Money is a text
with its exact decimals, a time an ISO 8601 text with its offset, a missing value null. A failure prints
`{"version": 1, "command": "…", "error": {"kind": "LoginRefused", "message": "…", "hint": "…", "exit_code": 77}}`.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import shutil
import sys
import textwrap
from dataclasses import asdict, is_dataclass
from dataclasses import fields as dataclass_fields
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from cdrsync.errors import EXIT_OK, OutputFailed
from cdrsync.monitor import logs
from cdrsync.monitor.words import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cdrsync.errors import CdrsyncError

JSON_VERSION = 1
FEWEST_COLUMNS = 3  # of a table that has to fit


LIKE = {
    "…": "...",
    "→": "->",
    "\u2013": "-",
    "·": ".",
    "■": "#",
    "◆": "+",
    "□": "o",
    "✗": "X",
    "▸": ">",
}  # in plain ASCII


def spell_out() -> None:
    """Let a terminal that lacks a character show one like it, in place of an error."""
    codecs.register_error("cdrsync", _like)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="cdrsync")


def _like(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(LIKE.get(c, "?") for c in error.object[error.start : error.end]), error.end


def emit(command: str, **payload: Any) -> None:
    """Print the one JSON object of a command."""
    document = {"version": JSON_VERSION, "command": command, **payload}
    escaped = "utf" not in (getattr(sys.stdout, "encoding", None) or "").lower()  # or what can't be shown is lost
    _print(json.dumps(document, default=plain, indent=2 if sys.stdout.isatty() else None, ensure_ascii=escaped))


def answer(command: str, text: str, *, as_json: bool, code: int = EXIT_OK, **payload: Any) -> int:
    """Print a command's answer, as text or as its JSON object, and return its exit code."""
    if as_json:
        emit(command, **payload)
    else:
        for one in text.splitlines():
            line(one)
    return code


def plain(value: Any) -> Any:
    """Return what JSON has no type for as something it has: exact decimals and ISO times as texts, spans as seconds."""
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return format(value, "f")
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)


def fields(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass, not copied."""
    return {field.name: getattr(value, field.name) for field in dataclass_fields(value)}


def error_object(error: CdrsyncError) -> dict[str, Any]:
    return {
        "kind": type(error).__name__,
        "message": logs.redact(error.message),
        "hint": error.hint,
        "exit_code": error.exit_code,
    }


def _print(text: str) -> None:
    """Print on standard output. Raises OutputFailed where it can't be written, BrokenPipeError where nobody reads."""
    try:
        click.echo(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputFailed(f"can't write to standard output: {error.strerror or error}") from error


def document(text: str) -> None:
    """Print a text of many lines on standard output, as it is."""
    _print(text.removesuffix("\n"))


def line(text: str = "") -> None:
    """Print one line on standard output."""
    _print(visible(text))


def note(text: str) -> None:
    """Print one line on standard error, for people beside a machine-readable output."""
    try:
        click.echo(visible(text), err=True)
    except OSError:  # nobody reads it: the work goes on
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def width() -> int:
    """Columns that people see: the terminal's, COLUMNS where it is set, 100 where neither is known."""
    return max(40, shutil.get_terminal_size((100, 24)).columns)


def wrapped(text: str, *, first: str = "", then: str = "") -> None:
    """Print a text in lines that fit; `first` and `then` stand before its first and its other lines."""
    lines = textwrap.wrap(visible(text), max(20, width()), initial_indent=first, subsequent_indent=then)
    for one in lines or [first.rstrip()]:
        _print(one)


def table(
    rows: Iterable[Sequence[object]], headings: Sequence[str], *, right: Sequence[int] = (), fit: bool = False
) -> None:
    """Print rows as `aligned`."""
    for one in aligned(rows, headings, right=right, fit=fit):
        _print(one)


def aligned(
    rows: Iterable[Sequence[object]], headings: Sequence[str], *, right: Sequence[int] = (), fit: bool = False
) -> list[str]:
    """Lines of aligned columns; `right`: indexes of the columns aligned to the right.

    `fit`: the last columns are left out where there is no room, and the second is cut.
    """
    texts = [[visible("" if cell is None else cell) for cell in row] for row in rows]
    widths = [max(len(row[n]) for row in [list(headings), *texts]) for n in range(len(headings))]
    shown = len(headings)
    if fit:
        widths[1] = min(widths[1], max(16, width() // 3))
        while shown > FEWEST_COLUMNS and sum(widths[:shown]) + 2 * (shown - 1) > width():
            shown -= 1
    return [
        "  ".join(_cell(cell, widths[n], right=n in right) for n, cell in enumerate(row[:shown])).rstrip()
        for row in [list(headings), *texts]
    ]


def _cell(text: str, wide: int, *, right: bool) -> str:
    if len(text) > wide:
        text = text[: wide - 1] + "…"
    return text.rjust(wide) if right else text.ljust(wide)


def facts(pairs: Mapping[str, object], *, wrap: bool = False) -> None:
    """Print `name  value` lines, names aligned; `wrap`: values in lines that fit."""
    longest = max((len(name) for name in pairs), default=0)
    for name, value in pairs.items():
        shown = visible("-" if value is None else value)
        if wrap:
            wrapped(shown, first=f"{visible(name):<{longest}}  ", then=" " * (longest + 2))
        else:
            _print(f"{visible(name):<{longest}}  {shown}")


def when(instant: datetime | None) -> str:
    """Return a UTC instant as `2024-05-23 09:30:00Z`, `never` for None."""
    return f"{instant:%Y-%m-%d %H:%M:%S}Z" if instant else "never"
