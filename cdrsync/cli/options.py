"""Options that commands share, and the settings that come of them."""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cdrsync.config import Inputs, Settings, load, values
from cdrsync.model import BEGINNING, LAST_DAY, MAX_UID
from cdrsync.monitor import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Command = Callable[..., Any]


class _Day(click.DateTime):
    """A day that a call can have."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        day = super().convert(value, param, ctx)
        if not BEGINNING <= day.date() <= LAST_DAY:
            self.fail(f"{value} is not between {BEGINNING} and {LAST_DAY}", param, ctx)
        return day


def _number(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """A telephone number, written as in the configuration."""
    if value is None:
        return None
    try:
        (number,) = values.numbers([value])
    except ValueError:
        raise click.BadParameter(f"{value!r} is no phone number (digits, with or without a leading +)") from None
    return number


def number_option(meaning: str) -> Callable[[Command], Command]:
    """An option `--number` of one of the account's numbers."""
    return click.option("--number", metavar="N", callback=_number, help=meaning)


DAY = _Day(["%Y-%m-%d"])
REJECT = click.IntRange(1, MAX_UID)  # a number of the quarantine; a larger one no database takes

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
account_option = click.option(
    "--account", "names", multiple=True, metavar="NAME", help="Only this account; may be given more than once."
)


# Whether the file can be read, the reading of the configuration says, with everything else that is wrong.
config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, readable=False),
    metavar="FILE",
    help="Configuration file (TOML).",
)


def config_options(command: Command) -> Command:
    """Give a command `--config`, `--database-url` and `--set`, and pass it the `inputs` of the configuration."""

    @config_option
    @click.option("--database-url", metavar="URL", help="Database, in place of the configured one.")
    @click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Any other key; may be repeated.")
    @wraps(command)
    def wrapped(
        *args: Any, config_file: Path | None, database_url: str | None, assignments: tuple[str, ...], **kwargs: Any
    ) -> Any:
        flags = {}
        for assignment in assignments:
            key, equals, value = assignment.partition("=")
            if not equals:
                raise click.UsageError(f"--set takes KEY=VALUE, like --set page_size=500, not {assignment!r}")
            flags[key] = value
        if database_url is not None:
            flags["database_url"] = database_url
        above = click.get_current_context().find_object(Inputs) or Inputs()
        inputs = Inputs(flags=flags, config=config_file or above.config, environ=above.environ)
        return command(*args, inputs=inputs, **kwargs)

    return wrapped


def report_options(command: Command) -> Command:
    """Give a command the options of the configuration, and `--json`."""
    return config_options(json_option(command))


def account_report_options(command: Command) -> Command:
    """The same, and `--account`."""
    return config_options(account_option(json_option(command)))


def settings_of(inputs: Inputs, names: Sequence[str] = (), *, credentials: bool = True) -> Settings:
    """Load the settings for a command, limited to the accounts in `names`. From here on their secrets never show."""
    settings = load(inputs, credentials=credentials)
    logs.hide(settings.secrets())
    return settings.only(names)
