"""Writes the manual page from the program's own help, so that it can't say anything else.

python -m tests.support.manual > deploy/man/cdrsync.1
"""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING

import click

from cdrsync import errors
from cdrsync.cli import cdrsync
from cdrsync.config.keys import KEYS

if TYPE_CHECKING:
    from collections.abc import Iterator

EXIT_CODES = (
    (errors.EXIT_OK, "done"),
    (errors.EXIT_FOUND, "found something: gaps, rejects"),
    (errors.EXIT_USAGE, "wrong usage"),
    (errors.EXIT_UNREACHABLE, "the API or the database can't be reached"),
    (errors.EXIT_BUG, "a bug of cdrsync"),
    (errors.EXIT_LEASE_HELD, "another instance is at work"),
    (errors.EXIT_LOGIN_REFUSED, "the operator refused the login"),
    (errors.EXIT_CONFIG, "the configuration is wrong"),
)
SIGNALS = (
    ("TERM, INT", "finish the page in hand and exit; a second one exits at once"),
    ("HUP", "read the configuration again; a bad one is refused and the old one kept"),
    ("USR1", "poll now"),
)


def page() -> str:
    """The manual page, troff with the man macros."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield '.TH CDRSYNC 1 "" "cdrsync" "User Commands"'
    yield from (".SH NAME", "cdrsync \\- keep a SQL database current with a TTNC account's call data records")
    yield from (".SH SYNOPSIS", ".B cdrsync", "[\\fB\\-\\-config\\fR \\fIFILE\\fR] \\fICOMMAND\\fR [\\fIOPTION\\fR]...")
    yield ".SH DESCRIPTION"
    yield from _text(cdrsync.help or "")
    yield ".SH COMMANDS"
    yield from _commands(cdrsync, "")
    yield from (".SH CONFIGURATION", "A flag (\\-\\-set KEY=VALUE) beats the environment (CDRSYNC_KEY), which beats")
    yield "the file (TOML: \\-\\-config, CDRSYNC_CONFIG, ./cdrsync.toml, /etc/cdrsync/cdrsync.toml). A secret may be"
    yield "the name of a file too, under KEY_file, or a file KEY in the folder CREDENTIALS_DIRECTORY. Tables"
    yield "[accounts.NAME] of the file describe several logins; the one above them is then no account any more."
    yield "CDRSYNC_DEBUG=1 shows the traceback of an internal error."
    for key in KEYS.values():
        default = key.show(key.default) if key.default not in (None, "", ()) else ""
        told = f"{key.help} (default: {default})" if default else key.help
        yield from (".TP", f"\\fB{_plain(key.name)}\\fR", _plain(told))
    for title, rows in (("EXIT STATUS", EXIT_CODES), ("SIGNALS", SIGNALS)):
        yield f".SH {title}"
        for name, meaning in rows:
            yield from (".TP", f"\\fB{name}\\fR", _plain(meaning))
    yield from (".SH SEE ALSO", "README.md and deploy/README.md of the source archive; \\fBcdrsync db describe\\fR")


def _commands(group: click.Group, before: str) -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None or command.hidden:
            continue
        called = f"{before}{name}"
        if isinstance(command, click.Group) and not command.invoke_without_command:
            yield from _commands(command, f"{called} ")
            continue
        with click.Context(command, info_name=called) as context_of_command:
            usage = " ".join(command.collect_usage_pieces(context_of_command))
            yield from (".SS", f"{_plain(called)} {_plain(usage)}")
            yield from _text(command.help or "")
            for parameter in command.get_params(context_of_command):
                record = parameter.get_help_record(context_of_command)
                if record is not None and "--help" not in record[0]:
                    yield from (".TP", f"\\fB{_plain(record[0])}\\fR", _plain(" ".join(record[1].split())))
        if isinstance(command, click.Group):
            yield from _commands(command, f"{called} ")


def _text(told: str) -> Iterator[str]:
    """Paragraphs; those behind a backspace keep their line breaks, as in the program's own help."""
    for paragraph in inspect.cleandoc(told).split("\n\n"):
        yield ".PP"
        lines = paragraph.splitlines()
        if lines and lines[0] == "\b":
            yield ".nf"
            yield from map(_plain, lines[1:])
            yield ".fi"
        else:
            yield from map(_plain, lines)


def _plain(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped[:1] in {".", "'"} else escaped


if __name__ == "__main__":
    sys.stdout.write(page())
