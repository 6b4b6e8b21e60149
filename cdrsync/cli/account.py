"""`cdrsync account`: what the logins are called whose calls the database holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cdrsync.cli import output, progress
from cdrsync.cli.options import report_options, settings_of
from cdrsync.config.read import problem_of_name
from cdrsync.errors import EXIT_OK
from cdrsync.wiring import accounts, database

if TYPE_CHECKING:
    from cdrsync.config import Inputs


@click.group("account")
def account() -> None:
    """Look at the accounts of the database, have one tried at once, give one another name, or delete one.

    An account is one login. Under a second name the same login is refused, for every call would be held twice.
    """


@account.command("list", short_help="List the accounts of the database")
@report_options
def list_(inputs: Inputs, *, as_json: bool) -> int:
    """List the accounts that the database has, and whether the configuration names them.

    JSON: {"accounts": [{"name", "calls", "first_day", "last_day", "configured"}]}.
    """
    from cdrsync.store.reads import status

    settings = settings_of(inputs, credentials=False)
    configured = {one.name for one in settings.accounts}
    with database.existing(settings, looks=True) as engine:
        found = [(one.name, one.calls, one.first_day, one.last_day) for one in status.overview(engine)]
    if as_json:
        keys = ("name", "calls", "first_day", "last_day")
        rows = [dict(zip(keys, row, strict=True)) | {"configured": row[0] in configured} for row in found]
        output.emit("account list", accounts=rows)
    else:
        shown = [(*row, "yes" if row[0] in configured else "no") for row in found]
        output.table(shown, ("ACCOUNT", "CALLS", "FIRST", "LAST", "CONFIGURED"), right=(1,))
    return EXIT_OK


@account.command("retry", short_help="Have the daemon try an account at once")
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@report_options
def retry(inputs: Inputs, names: tuple[str, ...], *, as_json: bool) -> int:
    """Have the daemon try accounts at once, after a refused login was mended for example.

    By itself it tries such an account again after half an hour, then ever more rarely. It hears of this within seconds.

    JSON: {"asked": [NAME]}.
    """
    from cdrsync.store import identity

    with database.existing(settings_of(inputs, credentials=False), names) as engine:
        identity.ask_to_retry(engine, names)
    if as_json:
        output.emit("account retry", asked=list(names))
    else:
        output.line(f"the daemon tries {', '.join(names)} within seconds, if one is running")
    return EXIT_OK


@account.command("rename", short_help="Give an account another name")
@click.argument("old")
@click.argument("new")
@report_options
def rename(inputs: Inputs, old: str, new: str, *, as_json: bool) -> int:
    """Give an account another name in the database; what is held of it stays. The daemon of OLD has to be stopped.

    Then give it the same name in the configuration. Without tables like [accounts.sales] there its name is "default".

    \b
      cdrsync account rename default sales

    JSON: {"old", "new"}.
    """
    if problem := problem_of_name(new):
        raise click.UsageError(problem)
    with accounts.held_account(settings_of(inputs, credentials=False), old) as store:
        store.rename(new)
    return output.answer("account rename", f"account {old} is now {new}", as_json=as_json, old=old, new=new)


@account.command("retire", short_help="Have an account keep its calls, and free its login")
@click.argument("name")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept with the runs.")
@report_options
def retire(inputs: Inputs, name: str, *, reason: str, as_json: bool) -> int:
    """Keep what is held of an account, and let its login have another name: for a new sequence of uids.

    Its daemon has to be stopped, and the configuration must not name it any more: whatever reads the login under the
    new name must begin on the day after the new sequence did, else calls are held twice.

    JSON: {"name"}.
    """
    with accounts.held_account(settings_of(inputs, credentials=False), name) as store:
        store.retire(reason)
    text = f"account {name} keeps its calls; its login may have another name"
    return output.answer("account retire", text, as_json=as_json, name=name)


@account.command("forget", short_help="Delete an account with all that is held of it")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@report_options
def forget(inputs: Inputs, name: str, *, yes: bool, as_json: bool) -> int:
    """Delete an account from the database: its calls, their history, its quarantine, its ledger and its runs.

    Its daemon has to be stopped. If the configuration still names it, the next sync reads all of it again. It goes
    piece by piece; after an interruption the same command goes on. Where a person's number was erased, the name stays
    in the list, without calls: the number must not come back if the account is read again.

    JSON: {"name", "calls"}.
    """
    from cdrsync.store.reads import status

    settings = settings_of(inputs, credentials=False)
    if not yes:
        click.confirm(f"Everything that is held of account {name} goes, and can't be brought back. Go on?", abort=True,
                      err=True)  # fmt: skip
    with accounts.held_account(settings, name) as store, database.existing(settings) as engine:
        (held,) = status.overview(engine, [name])
        with progress.counting(f"forgetting {name}", held.calls) as show:
            calls = store.forget(show)
        stays = name in status.names(engine)
    text = f"account {name} is gone, with {calls} calls"
    if stays:
        text = f"the {calls} calls of account {name} are gone; its name stays, for a person's number is erased there"
    return output.answer("account forget", text, as_json=as_json, name=name, calls=calls)
