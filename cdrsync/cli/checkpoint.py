"""`cdrsync checkpoint`: how far an account is read, and a person's way to say otherwise."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from cdrsync.cli import output
from cdrsync.cli.options import account_report_options, number_option, settings_of
from cdrsync.config.values import Start
from cdrsync.errors import EXIT_FOUND, EXIT_OK
from cdrsync.model import BEGINNING, MAX_UID
from cdrsync.sync.runs import Tally
from cdrsync.sync.streams import Stream
from cdrsync.wiring import accounts, database

if TYPE_CHECKING:
    from datetime import date

    from cdrsync.config import Inputs
    from cdrsync.model import Checkpoint


@click.group("checkpoint")
def checkpoint() -> None:
    """Look at how far each stream of an account is read, or say where it is to go on."""


@checkpoint.command("show", short_help="List the checkpoints")
@account_report_options
def show(inputs: Inputs, names: tuple[str, ...], *, as_json: bool) -> int:
    """List how far each stream of each account is read.

    `tail` is the newest calls, `start` since when history is wanted.

    JSON: {"checkpoints": [{"account", "stream", "high_water_uid", "high_water_ended_at", "first", "last", "begun_at",
    "done"}]}.
    """
    from cdrsync.store.reads import status

    with database.existing(settings_of(inputs, credentials=False), names, looks=True) as engine:
        rows = [(name, *_columns(one)) for name, one in status.checkpoints(engine, names)]
    if as_json:
        keys = ("account", *HEADINGS)
        output.emit("checkpoint show", checkpoints=[dict(zip(keys, row, strict=True)) for row in rows])
    else:
        shown = [[_shown(cell) for cell in row] for row in rows]
        output.table(shown, ("ACCOUNT", "STREAM", "UID", "REACHED", "FIRST", "LAST", "BEGUN", "DONE"), right=(2,))
    return EXIT_OK if rows else EXIT_FOUND


@checkpoint.command("set", short_help="Go on after another uid, or want less or more history")
@click.option("--uid", type=click.IntRange(0, MAX_UID), metavar="N", help="The tail goes on after this uid.")
@number_option("Only the tail of this number, where the account is limited to numbers.")
@click.option("--start", metavar="DATE", help='History is wanted from this date on; "all": from the first call on.')
@click.option("--reason", required=True, metavar="TEXT", help="Why; it is kept with the runs.")
@account_report_options
def set_(
    inputs: Inputs,
    names: tuple[str, ...],
    *,
    uid: int | None,
    number: str | None,
    start: str | None,
    reason: str,
    as_json: bool,
) -> int:
    """Say where an account is to be read on. Nothing that is held is deleted.

    With --uid the next poll asks for everything after that uid, also below what was read: the way back from a mark that
    garbled records have carried far above all calls (cdrsync checkpoint show). With --start history is wanted from
    another day on: the only way to want less than before. The daemon of the account has to be stopped.

    \b
      cdrsync checkpoint set --uid 106398334 --reason "the mark was a garbled uid"
      cdrsync checkpoint set --start 2024-01-01 --reason "the years before are not needed"

    JSON: {"account", "stream", "before": as in show, "after": as in show}.
    """
    if (uid is None) == (start is None):
        raise click.UsageError("give either --uid or --start")
    settings = settings_of(inputs, names, credentials=False)
    account = accounts.only_account(settings)
    day = None if start is None else _day(start)
    configured = account.start_date
    if day is not None and configured is not Start.TODAY and _since(configured) < day:
        raise click.UsageError(f"start_date is {configured}: set it to {day} first, or the next sync wants that again")
    stream = Stream.START if uid is None else Stream.of(Stream.TAIL, number)
    with accounts.open_account(settings, account) as parts:
        before = parts.store.checkpoint(stream)
        run = parts.store.begin_run("checkpoint")
        if day is not None:
            parts.sync.set_start(day)
        elif uid is not None:
            parts.sync.set_mark(uid, number)
        after = parts.store.checkpoint(stream)
        parts.store.end_run(run, Tally(), f"{stream}: {_words(before)}, now {_words(after)}: {reason}")
    if as_json:
        both = {"before": _as_object(before), "after": _as_object(after)}
        output.emit("checkpoint set", account=account.name, stream=stream, **both)
    else:
        output.line(f"{account.name}: {stream} was {_words(before)}, is {_words(after)}")
    return EXIT_OK


HEADINGS = ("stream", "high_water_uid", "high_water_ended_at", "first", "last", "begun_at", "done")


def _shown(cell: Any) -> Any:
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    return output.when(cell) if isinstance(cell, datetime) else cell


def _columns(one: Checkpoint) -> tuple[Any, ...]:
    window = (one.window.first, one.window.last) if one.window else (None, None)
    return (one.stream, one.high_water_uid, one.high_water_ended_at, *window, one.begun_at, one.done)


def _as_object(one: Checkpoint | None) -> dict[str, Any] | None:
    return None if one is None else dict(zip(HEADINGS, _columns(one), strict=True))


def _words(one: Checkpoint | None) -> str:
    if one is None:
        return "not set"
    if one.window is not None:
        return "all" if one.window.first <= BEGINNING else str(one.window.first)
    return f"uid {one.high_water_uid}"


def _since(start: date | Start) -> date:
    return BEGINNING if isinstance(start, Start) else start


def _day(text: str) -> date:
    if text == Start.ALL:
        return BEGINNING
    try:
        return datetime.strptime(text, "%Y-%m-%d").date()  # noqa: DTZ007 - a day, not a moment
    except ValueError:
        raise click.UsageError(f'--start takes a date like 2024-01-31, or "all", not {text!r}') from None
