"""`cdrsync totals`: the operator's own totals."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import click

from cdrsync.cli import output
from cdrsync.cli.each import for_each
from cdrsync.cli.options import account_report_options, number_option, settings_of
from cdrsync.daemon.signals import INTERRUPT
from cdrsync.errors import EXIT_OK
from cdrsync.model import Period, Totals
from cdrsync.wiring import accounts

if TYPE_CHECKING:
    from cdrsync.cli.each import Report
    from cdrsync.config import AccountSettings, Inputs


@click.command("totals")
@click.option(
    "--period",
    type=click.Choice([period.value for period in Period]),
    default=Period.DAY.value,
    show_default=True,
    help="As the operator means it: its days, its weeks.",
)
@number_option("Only calls to this number of the account.")
@account_report_options
def totals(inputs: Inputs, names: tuple[str, ...], *, period: str, number: str | None, as_json: bool) -> int:
    """Ask the operator for its totals (GetTotals), print them as sent, and keep them in the database.

    May be run beside the daemon.

    JSON: {"accounts": [{"name", "fetched_at", "period", "number", "texts": {element: text as sent}, "answered",
    "missed", "voicemail", "minutes_no_format", "charge", "unusable": [problems], "error"}]}; where an account failed,
    all but "name" and "error" are null.
    """
    settings = settings_of(inputs, names)

    def work(account: AccountSettings) -> tuple[int, Report]:
        answer, fetched_at = accounts.fetch_totals(settings, account, Period(period), number, stop=INTERRUPT.event)
        if not as_json:
            output.line(f"{account.name}, {period}, {output.when(fetched_at)}")
            output.facts(answer.texts)
            for problem in answer.unusable:
                output.note(f"can't be read: {problem}")
        return EXIT_OK, {"fetched_at": fetched_at, **output.fields(answer)}

    keys = ("fetched_at", *(field.name for field in fields(Totals)))
    return for_each(settings, "totals", work, keys=keys, as_json=as_json)
