"""`cdrsync export`: the calls as a file."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cdrsync.cli import output, progress
from cdrsync.cli.options import config_options
from cdrsync.errors import EXIT_OK

if TYPE_CHECKING:
    from datetime import datetime

    from cdrsync.config import Inputs

DAY = click.DateTime(["%Y-%m-%d"])


@click.command("export", short_help="Write the calls to a CSV or Parquet file")
@click.option("--since", type=DAY, metavar="DATE", help="First day, yyyy-mm-dd; from the beginning by default.")
@click.option("--until", type=DAY, metavar="DATE", help="Last day, included.")
@click.option("--format", "kind", type=click.Choice(["csv", "parquet"]), default="csv", show_default=True)
@click.option("-o", "--output", "path", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE")
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

    \b
      cdrsync export --since 2024-05-01 --until 2024-05-31 -o may.csv
      cdrsync export --since 2024-01-01 --format parquet -o 2024.parquet
    """  # noqa: D301 - \b is click's mark for lines that keep their breaks
    from cdrsync import wiring
    from cdrsync.cli.options import settings_of
    from cdrsync.export import count, whole_file
    from cdrsync.export import export as pieces

    if path is None and (kind == "parquet" or sys.stdout.isatty()):
        raise click.UsageError("say where to: -o FILE")
    first, last = since and since.date(), until and until.date()
    if first and last and first > last:
        raise click.UsageError(f"--since {first} is after --until {last}")
    settings = settings_of(inputs, credentials=False)
    with wiring.existing(settings) as engine, contextlib.ExitStack() as stack:
        total = count(engine, since=first, until=last, accounts=names) if progress.wanted() else 0
        show = stack.enter_context(progress.counting("export", total))
        to = sys.stdout.buffer if path is None else stack.enter_context(whole_file(path))
        written = 0
        for more in pieces(engine, to, kind=kind, since=first, until=last, accounts=names):
            written += more
            show(more)
    output.note(f"{written} calls written" + ("" if path is None else f" to {path}"))
    return EXIT_OK
