"""`cdrsync export`: the calls as a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cdrsync.cli import output, progress
from cdrsync.cli.options import config_options
from cdrsync.daemon.signals import INTERRUPT
from cdrsync.errors import EXIT_OK

if TYPE_CHECKING:
    from datetime import datetime

    from cdrsync.config import Inputs

DAY = click.DateTime(["%Y-%m-%d"])


@click.command("export", short_help="Write the calls to a CSV or Parquet file")
@click.option("--since", type=DAY, metavar="DATE", help="First day, yyyy-mm-dd; from the beginning by default.")
@click.option("--until", type=DAY, metavar="DATE", help="Last day, included.")
@click.option("--format", "kind", type=click.Choice(["csv", "parquet"]), default="csv", show_default=True)
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Where to; - is standard output.",
)
@click.option("--account", "names", multiple=True, metavar="NAME", help="Only this account; may be repeated.")
@config_options
def export(
    inputs: Inputs,
    *,
    since: datetime | None,
    until: datetime | None,
    kind: str,
    path: Path | None,
    names: tuple[str, ...],
) -> int:
    """Write the calls of a range of days as CSV or Parquet, with the columns of the view `calls` and exact costs.

    To FILE, which appears when it is complete, or CSV to standard output. In CSV an empty text is "", NULL is nothing.
    A new FILE is readable by its owner only; one that is there keeps its mode.

    \b
      cdrsync export --since 2024-05-01 --until 2024-05-31 -o may.csv
      cdrsync export --since 2024-01-01 --format parquet -o 2024.parquet
    """  # noqa: D301 - \b is click's mark for lines that keep their breaks
    from cdrsync.cli.options import settings_of
    from cdrsync.store.reads.export import count, written
    from cdrsync.store.reads.export import export as pieces
    from cdrsync.wiring import database

    if path is None and (kind == "parquet" or sys.stdout.isatty()):
        raise click.UsageError("say where to: -o FILE")
    first, last = since and since.date(), until and until.date()
    if first and last and first > last:
        raise click.UsageError(f"--since {first} is after --until {last}")
    settings = settings_of(inputs, credentials=False)
    file = None if path is None or str(path) == "-" else path
    calls = 0
    with database.existing(settings) as engine:
        total = count(engine, since=first, until=last, accounts=names) if progress.wanted() else 0
        with progress.counting("export", total) as show, written(file) as to:
            for more in pieces(engine, to, kind=kind, since=first, until=last, accounts=names):
                INTERRUPT.check()
                calls += more
                show(more)
    output.note(f"{calls} calls written" + ("" if file is None else f" to {file}"))
    return EXIT_OK
