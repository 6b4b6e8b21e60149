"""`cdrsync export`: the calls as a file."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cdrsync.cli import output, progress
from cdrsync.cli.destination import written
from cdrsync.cli.options import DAY, account_option, config_options, settings_of
from cdrsync.daemon.signals import INTERRUPT
from cdrsync.errors import EXIT_OK
from cdrsync.wiring import database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from cdrsync.config import Inputs

SUFFIXES = {".csv": "csv", ".parquet": "parquet", ".pq": "parquet", ".xlsx": "xlsx"}  # by which a format is known
BINARY = ("parquet", "xlsx")


@click.command("export")
@click.option("--since", type=DAY, metavar="DATE", help="First day, yyyy-mm-dd; from the beginning by default.")
@click.option("--until", type=DAY, metavar="DATE", help="Last day, included.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["csv", "parquet", "xlsx"]),
    help="By the file's suffix where not given; else csv.",
)
@click.option("--excel", is_flag=True, help="CSV for a spreadsheet: nothing is taken for a formula or loses digits.")
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Where to; - is standard output.",
)
@config_options
@account_option
def export(
    inputs: Inputs,
    *,
    since: datetime | None,
    until: datetime | None,
    kind: str | None,
    excel: bool,
    path: Path | None,
    names: tuple[str, ...],
) -> int:
    """Write the calls of a range of days, with the columns of the view `calls` and exact costs.

    To FILE, which appears when it is complete, or CSV to standard output. A new FILE is readable by its owner only; one
    that is there keeps its mode. Links and files of other users are not followed and not written into.

    CSV is plain, for programs: an empty text is "", NULL is nothing, and a spreadsheet may take a text for a formula or
    a number. For spreadsheets: .xlsx (typed, telephone numbers as text, a sheet for each million calls;
    a million take minutes and gigabytes of temporary files), or CSV with --excel (a text that would be taken for
    something else begins with an apostrophe).

    \b
      cdrsync export --since 2024-05-01 --until 2024-05-31 -o may.csv
      cdrsync export --since 2024-05-01 --until 2024-05-31 -o may.xlsx
      cdrsync export --since 2024-01-01 -o 2024.parquet
    """
    from cdrsync.store.reads.export import count
    from cdrsync.store.reads.export import export as pieces
    from cdrsync.store.reads.formats import Scratch

    kind = kind or SUFFIXES.get(path.suffix.lower() if path else "", "csv")
    if excel and kind != "csv":
        raise click.UsageError(f"--excel is for CSV, not for {kind}")
    if path is None and (kind in BINARY or sys.stdout.isatty()):
        raise click.UsageError("say where to: -o FILE")
    first, last = since and since.date(), until and until.date()
    if first and last and first > last:
        raise click.UsageError(f"--since {first} is after --until {last}")
    settings = settings_of(inputs, credentials=False)
    file = None if path is None or str(path) == "-" else path
    written_as = "excel-csv" if excel else kind
    calls = 0
    with database.existing(settings) as engine:
        total = count(engine, since=first, until=last, accounts=names) if progress.wanted() else 0
        with progress.counting("export", total) as show, written(file) as to:
            exported = pieces(
                engine, to, kind=written_as, since=first, until=last, accounts=names, scratch=Scratch(_temporary)
            )
            with contextlib.closing(exported):
                for more in exported:
                    INTERRUPT.check()
                    calls += more
                    show(more)
    output.note(f"{calls} calls written" + ("" if file is None else f" to {file}"))
    return EXIT_OK


@contextlib.contextmanager
def _temporary() -> Iterator[str]:
    """A folder that does not outlive the command: callers' numbers are in it."""
    from cdrsync.store.reads.formats import temporary

    with temporary() as folder, INTERRUPT.removing(Path(folder)):
        yield folder
