"""`cdrsync config`: every value with its source, every problem at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cdrsync.cli import output
from cdrsync.cli.options import report_options
from cdrsync.config import KEYS, read
from cdrsync.errors import EXIT_CONFIG, EXIT_OK, ConfigError
from cdrsync.monitor import words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cdrsync.config import Inputs, Reading, Value


@click.group("config")
def config_group() -> None:
    """Show every value with its source, or check everything at once.

    \b
    A value comes from the first of these that has it:
      a flag            --database-url …, --set page_size=500
      the environment   CDRSYNC_PAGE_SIZE; secrets also CDRSYNC_PASSWORD_FILE
      a credential      $CREDENTIALS_DIRECTORY/password (systemd)
      the TOML file     --config FILE, else ./cdrsync.toml or /etc/cdrsync/cdrsync.toml
      its default
    """


@config_group.command("show", short_help="Print every value with its source, secrets masked")
@report_options
def show(inputs: Inputs, *, as_json: bool) -> int:
    """Print every value with its source, secrets masked. Problems are printed too (exit 78).

    That a login is not set is none here, since not every command needs one: cdrsync config check tells.

    JSON: {"file", "values": {key: {"value", "source", "help"}}, "accounts": {name: {key: …}}, "problems": []}.
    """
    reading = read(inputs)
    if as_json:
        output.emit(
            "config show",
            file=reading.file,
            values=_shown(reading.shared),
            accounts={name: _shown(found) for name, found in reading.accounts.items()},
            problems=reading.problems,
        )
    else:
        _print(reading)
    for problem in [] if as_json else reading.problems:
        output.note(f"error: {problem}")
    return EXIT_CONFIG if reading.problems else EXIT_OK


@config_group.command("check", short_help="Report every problem of the configuration at once")
@report_options
def check(inputs: Inputs, *, as_json: bool) -> int:
    """Report every problem of the configuration at once. Exit 0: good; 78: problems.

    JSON: {"ok": true, "file", "accounts": [names], "problems": []}.
    """
    reading = read(inputs)
    problems: list[str] = []
    try:
        reading.settings(credentials=True)
    except ConfigError as error:
        problems = error.problems
    names = list(reading.accounts)
    if as_json:
        output.emit("config check", ok=not problems, file=reading.file, accounts=names, problems=problems)
    elif not problems:
        output.line(f"configuration is good: {_origin(reading)}, accounts: {words.some(names)}")
    for problem in [] if as_json else problems:
        output.note(f"error: {problem}")
    return EXIT_CONFIG if problems else EXIT_OK


def _origin(reading: Reading) -> str:
    return str(reading.file) if reading.file else "no file, environment and defaults only"


def _shown(found: Mapping[str, Value]) -> dict[str, Any]:
    keys = ((KEYS[name], one) for name, one in found.items())
    return {key.name: {"value": key.show(one.value), "source": one.source, "help": key.help} for key, one in keys}


def _print(reading: Reading) -> None:
    only = len(reading.accounts) == 1
    found = [("" if only else f"accounts.{name}.", _shown(keys)) for name, keys in reading.accounts.items()]
    found.append(("", _shown(reading.shared)))
    output.line(f"# {_origin(reading)}")
    rows = [(prefix + key, one["value"], one["source"]) for prefix, shown in found for key, one in shown.items()]
    output.table(rows, ("KEY", "VALUE", "SOURCE"))
