"""`cdrsync rejects`: records that could not be read or stored, kept as sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cdrsync.cli import output
from cdrsync.cli.options import REJECT, account_report_options, report_options, settings_of
from cdrsync.errors import EXIT_FOUND, EXIT_OK
from cdrsync.model import utc_now
from cdrsync.wiring import accounts, database

if TYPE_CHECKING:
    from cdrsync.config import Inputs
    from cdrsync.store.reads.quarantine import Kept


@click.group("rejects")
def rejects() -> None:
    """Look at records that could not be read or stored. They are kept as sent, and stop no others."""


@rejects.command("list", short_help="List what waits in quarantine")
@click.option("--all", "resolved", is_flag=True, help="Those that could be stored later or were dismissed, too.")
@account_report_options
def list_(inputs: Inputs, names: tuple[str, ...], *, resolved: bool, as_json: bool) -> int:
    """List what waits in quarantine. Exit 0: nothing; 1: something.

    JSON: {"rejects": [{"number", "account", "uid", "problem", "seen", "first_seen_at", "last_seen_at",
    "resolved_at", "dismissed_at", "dismissed_note"}]}.
    """
    from cdrsync.store.reads.quarantine import Quarantine

    with database.existing(settings_of(inputs, credentials=False), names, looks=True) as engine:
        kept = Quarantine(engine).records(names, resolved=resolved)
    if as_json:
        output.emit("rejects list", rejects=[_without_content(one) for one in kept])
    elif kept:
        rows = [(r.number, r.account, r.uid, r.seen, output.when(r.last_seen_at), r.problem) for r in kept]
        output.table(rows, ("NUMBER", "ACCOUNT", "UID", "SEEN", "LAST", "PROBLEM"), right=(0, 2, 3))
    else:
        output.line("nothing in quarantine")
    return EXIT_FOUND if any(one.resolved_at is None and one.dismissed_at is None for one in kept) else EXIT_OK


@rejects.command("show", short_help="Print one record as sent")
@click.argument("number", type=REJECT)
@report_options
def show(inputs: Inputs, number: int, *, as_json: bool) -> int:
    """Print one record as the operator sent it, and what is wrong with it.

    JSON: {"reject": as in the list, and "raw"}; null where there is none of that number (exit 1).
    """
    from cdrsync.store.reads.quarantine import Quarantine

    with database.existing(settings_of(inputs, credentials=False), looks=True) as engine:
        kept = Quarantine(engine).record(number)
    if as_json:
        output.emit("rejects show", reject=kept and {**_without_content(kept), "raw": kept.raw})
    elif kept is None:
        output.line(f"there is no reject {number}")
    else:
        output.facts(_without_content(kept))
        for line in kept.raw.splitlines():
            output.line(line)
    return EXIT_FOUND if kept is None else EXIT_OK


@rejects.command("dismiss", short_help="Say that nothing more is to be done about one")
@click.argument("number", type=REJECT)
@click.option("--note", required=True, metavar="TEXT", help="Why; it is kept.")
@report_options
def dismiss(inputs: Inputs, number: int, *, note: str, as_json: bool) -> int:
    """Say that nothing more is to be done about a record: it stays in quarantine, but is no longer open.

    The record in another form, sent later, is another one. Exit 1: none of that number is open.

    JSON: {"dismissed": true or false}.
    """
    from cdrsync.store.reads.quarantine import Quarantine

    with database.existing(settings_of(inputs, credentials=False)) as engine:
        dismissed = Quarantine(engine).dismiss(number, note, utc_now())
    said = f"reject {number} is dismissed" if dismissed else f"no reject {number} is open"
    code = EXIT_OK if dismissed else EXIT_FOUND
    return output.answer("rejects dismiss", said, as_json=as_json, code=code, dismissed=dismissed)


@rejects.command("retry", short_help="Read them again with today's program")
@account_report_options
def retry(inputs: Inputs, names: tuple[str, ...], *, as_json: bool) -> int:
    """Read every record in quarantine again with today's program, and store what now fits.

    Asks the operator nothing. Exit 0: none is left; 1: some are.

    JSON: {"stored", "left"}.
    """
    settings = settings_of(inputs, names, credentials=False)
    stored = left = 0
    for account in settings.accounts:
        account_stored, account_left = accounts.retry_rejects(settings, account)
        stored, left = stored + account_stored, left + account_left
    code = EXIT_FOUND if left else EXIT_OK
    return output.answer(
        "rejects retry", f"{stored} stored, {left} left", as_json=as_json, code=code, stored=stored, left=left
    )


def _without_content(kept: Kept) -> dict[str, Any]:
    return {name: value for name, value in kept._asdict().items() if name != "raw"}
