"""`cdrsync erase`: one person's number, or what retention says is too old."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cdrsync.cli import output
from cdrsync.cli.options import account_report_options, settings_of
from cdrsync.errors import EXIT_OK, ConfigError
from cdrsync.wiring import accounts, database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdrsync.config import Inputs, Settings
    from cdrsync.store.privacy.eraser import Erased


@click.command("erase")
@click.option("--number", metavar="N", help="This number, as caller and destination, for good.")
@click.option("--expired", is_flag=True, help="What is older than retention_months, as retention_policy says.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@account_report_options
def erase(
    inputs: Inputs, number: str | None, names: tuple[str, ...], *, expired: bool, yes: bool, as_json: bool
) -> int:
    """Erase one person's number, or what is too old to keep. It can't be undone, and a daemon may go on meanwhile.

    A number is erased in every account of the database (--account: in this one) wherever it stands, however it is
    written: as caller, destination or number called, in other texts of calls and their history, in quarantine and
    runs. It is replaced in whatever comes in later; calls, durations and costs stay. pseudonym_key must be set: by it
    the number is known again, for it is kept nowhere.

    \b
      cdrsync erase --number 07921255043
      cdrsync erase --expired

    JSON: {"accounts": [{"name", "calls", "rejects", "found": {table and column: number}}]}.
    """
    if (number is None) == (not expired):
        raise click.UsageError("say either --number N or --expired")
    settings = settings_of(inputs, names if expired else (), credentials=False)
    if expired and settings.retention_months is None:
        raise ConfigError(["retention_months is not set: nothing is too old"])
    if not yes:
        click.confirm("This can't be undone. Go on?", abort=True, err=True)
    done = []
    for name, erased in _expired(settings) if number is None else _number(settings, names, number):
        found = dict(erased.found)
        done.append({"name": name, "calls": erased.calls, "rejects": erased.rejects, "found": found})
        if not as_json:
            where = "".join(f"; {place} {times}" for place, times in found.items())
            output.line(f"{name}: {erased.calls} calls and {erased.rejects} records of the quarantine treated{where}")
    if as_json:
        output.emit("erase", accounts=done)
    return EXIT_OK


def _number(settings: Settings, names: tuple[str, ...], number: str) -> Iterator[tuple[str, Erased]]:
    """In every account of the database, unless some are named: also in those that left the configuration.

    Accounts are added and renamed meanwhile, so they are asked for anew before each.
    """
    with database.existing(settings, names):
        pass  # each name is one
    done: set[str] = set()
    while left := [name for name in _names(settings) if name not in done and (not names or name in names)]:
        done.add(left[0])
        with accounts.eraser(settings, left[0]) as made:
            yield left[0], made.erase_number(number)


def _names(settings: Settings) -> list[str]:
    from cdrsync.store.reads import status

    with database.existing(settings) as engine:
        return status.names(engine)


def _expired(settings: Settings) -> Iterator[tuple[str, Erased]]:
    from cdrsync.store.privacy.eraser import Erased

    for account in settings.accounts:
        last = Erased()
        for last in accounts.prune(settings, account):  # noqa: B007 - the last one has the sums
            pass
        yield account.name, last
