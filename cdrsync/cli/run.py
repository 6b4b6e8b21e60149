"""`cdrsync run`: the daemon, in the foreground."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cdrsync.cli.options import account_option, config_options

if TYPE_CHECKING:
    from cdrsync.config import Inputs


@click.command("run")
@config_options
@account_option
def run(inputs: Inputs, names: tuple[str, ...]) -> int:
    """Stay current: poll for new calls, look back for late ones, read history, sweep, audit.

    Logs to standard error: readable on a terminal, JSON lines elsewhere, with priorities under systemd. A second
    instance stands by and takes over when the first one ends.

    \b
      SIGTERM, SIGINT   end after the page in hand (exit 0); a second one ends at once
      SIGHUP            read the configuration again
      SIGUSR1           poll now
    """
    from cdrsync.daemon.service import Service

    return Service(inputs, names=names).run()
