"""`cdrsync erase`: one person's number, or what retention says is too old."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cdrsync.cli import output
from cdrsync.cli.options import account_option, config_options, json_option, settings_of
from cdrsync.errors import EXIT_OK, ConfigError

if TYPE_CHECKING:
    from cdrsync.config import AccountSettings, Inputs, Settings


@click.command("erase", short_help="Erase one person's number, or what is too old to keep")
@click.option("--number", metavar="N", help="This number, as caller and destination, for good.")
@click.option("--expired", is_flag=True, help="What is older than retention_months, as retention_policy says.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_options
@account_option
@json_option
def erase(
    inputs: Inputs, number: str | None, names: tuple[str, ...], *, expired: bool, yes: bool, as_json: bool
) -> int:
    """Erase one person's number, or what is too old to keep. It can't be undone, and a daemon may go on meanwhile.

    A number is erased wherever it is caller or destination, and replaced in whatever comes in later; calls, durations
    and costs stay. pseudonym_key must be set: by it the number is known again, for it is kept nowhere.

    \b
      cdrsync erase --number 07921255043
      cdrsync erase --expired

    JSON: {"accounts": [{"name", "calls", "rejects"}]}.
    """  # noqa: D301 - \b is click's mark for lines that keep their breaks
    if (number is None) == (not expired):
        raise click.UsageError("say either --number N or --expired")
    settings = settings_of(inputs, names, credentials=False)
    if expired and settings.retention_months is None:
        raise ConfigError(["retention_months is not set: nothing is too old"])
    if not yes:
        click.confirm("This can't be undone. Go on?", abort=True, err=True)
    done = []
    for account in settings.accounts:
        calls, rejects = _expired(settings, account) if number is None else _number(settings, account, number)
        done.append({"name": account.name, "calls": calls, "rejects": rejects})
        if not as_json:
            output.line(f"{account.name}: {calls} calls treated, {rejects} records deleted from quarantine")
    if as_json:
        output.emit("erase", accounts=done)
    return EXIT_OK


def _number(settings: Settings, account: AccountSettings, number: str) -> tuple[int, int]:
    from cdrsync.wiring import accounts

    with accounts.eraser(settings, account) as made:
        done = made.erase_number(number)
    return done.calls, done.rejects


def _expired(settings: Settings, account: AccountSettings) -> tuple[int, int]:
    from cdrsync.wiring import accounts

    calls = rejects = 0
    for done in accounts.prune(settings, account):
        calls, rejects = done.calls, done.rejects
    return calls, rejects
