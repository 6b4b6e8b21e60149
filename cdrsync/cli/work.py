"""`cdrsync sync`, `backfill` and `fetch`: one piece of work, then the end."""

from __future__ import annotations

import time
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from cdrsync.cli import output, progress
from cdrsync.cli.each import for_each
from cdrsync.cli.options import DAY, account_report_options, settings_of
from cdrsync.config.values import duration
from cdrsync.daemon.signals import INTERRUPT
from cdrsync.errors import EXIT_FOUND, EXIT_OK, DatabaseUnavailable, LeaseLost, Retry, Skip
from cdrsync.model import BEGINNING, Window
from cdrsync.monitor import logs
from cdrsync.sync.endurance import Endurance
from cdrsync.sync.runs import recorded
from cdrsync.sync.streams import Stream
from cdrsync.wiring import accounts

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable, Iterator

    from cdrsync.cli.each import Report
    from cdrsync.config import AccountSettings, Inputs, Settings
    from cdrsync.model import PageSaved
    from cdrsync.source.exchange import RequestDone
    from cdrsync.sync.runs import Tally
    from cdrsync.wiring.accounts import AccountParts

REPORTED = ("inserted", "updated", "unchanged", "rejected", "pages", "seconds", "high_water_uid", "newest_call")


def _seconds(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """Read a duration as the configuration does."""
    try:
        span: timedelta = duration(low=timedelta(), high=timedelta(days=7))(value)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None
    return span.total_seconds()


give_up_option = click.option(
    "--give-up-after",
    callback=_seconds,
    default="5m",
    show_default=True,
    metavar="DURATION",
    help="How long it goes on without any progress, once the operator has answered.",
)


@click.command("sync")
@give_up_option
@account_report_options
def sync(inputs: Inputs, names: tuple[str, ...], *, give_up_after: float, as_json: bool) -> int:
    """Catch up once: newest calls, history from start_date (all by default), everything new since; then exit.

    Run it as often as you like, from cron for example: what is held already is not read again. It goes on through
    failures while it makes progress. The first run creates the tables. Records that can't be read are put into
    quarantine (cdrsync rejects list) and stop nothing; where there are new ones it exits with 1.

    \b
      cdrsync sync
      cdrsync sync --database-url postgresql+psycopg://cdrsync@db/calls --set start_date=2024-01-01

    JSON: {"accounts": [{"name", "inserted", "updated", "unchanged", "rejected", "pages", "seconds", "high_water_uid",
    "newest_call", "error"}]}; where an account failed, all but "name" and "error" are null.
    """
    settings = settings_of(inputs, names)
    return _carry_out(
        settings, "sync", as_json, lambda parts: parts.sync.catch_up(), _catch_up_bar, give_up_after=give_up_after
    )


@click.command("backfill")
@click.option("--since", type=DAY, required=True, metavar="DATE", help="First day, yyyy-mm-dd.")
@click.option("--until", type=DAY, metavar="DATE", help="Last day, included; yesterday by default.")
@give_up_option
@account_report_options
def backfill(
    inputs: Inputs,
    names: tuple[str, ...],
    since: datetime,
    until: datetime | None,
    *,
    give_up_after: float,
    as_json: bool,
) -> int:
    """Read a range of days again, newest first. What is held is compared, not doubled.

    May be stopped at any time (Ctrl-C): the same command goes on where it was.

    \b
      cdrsync backfill --since 2023-01-01
      cdrsync backfill --since 2024-05-01 --until 2024-05-07

    JSON: as for sync, and "since", "until".
    """
    settings = settings_of(inputs, names)
    windows = {}
    for account in settings.accounts:
        today = datetime.now(account.timezone).date()
        windows[account.name] = window = Window(since.date(), until.date() if until else today - timedelta(days=1))
        if window.first > window.last:
            end = f"--until {window.last}" if until else f"{window.last}, the default of --until"
            raise click.UsageError(f"--since {window.first} is after {end}")
        if window.last > today:
            raise click.UsageError(f"--until {window.last} is in the future")
    some = next(iter(windows.values()))
    return _carry_out(
        settings,
        "backfill",
        as_json,
        lambda parts: parts.sync.backfill(windows[parts.name]),
        lambda parts: progress.bar(parts.name, days=len(windows[parts.name].days())),
        give_up_after=give_up_after,
        since=some.first,
        until=some.last,
    )


@click.command("fetch")
@click.option("--uid", type=click.IntRange(min=1), metavar="N", help="The record's uid.")
@click.option("--ref", metavar="R", help="The record's ref.")
@click.option("--replace", is_flag=True, help="Also in the place of another call that is held under its uid.")
@account_report_options
def fetch(
    inputs: Inputs, names: tuple[str, ...], uid: int | None, ref: str | None, *, replace: bool, as_json: bool
) -> int:
    """Fetch one record from the operator (GetCDR), store it and print it as it is kept: without what was erased.

    Exit 1: the operator has none.

    JSON: {"account", "record": {column: value} or null, "rejected": problem or null, "stored": "inserted", "updated",
    "unchanged", "rejected" or, where nothing is, null}.
    """
    if (uid is None) == (ref is None):
        raise click.UsageError("give either --uid or --ref")
    settings = settings_of(inputs, names)
    account = accounts.only_account(settings)
    with accounts.open_account(settings, account, stop=INTERRUPT.event, tell=output.note) as parts:
        sent, saved = parts.sync.fetch(uid=uid, ref=ref, over=replace)
        batch = parts.store.as_kept(sent)
    record = batch.cdrs[0]._asdict() if batch.cdrs else None
    problem = batch.rejects[0].problem if batch.rejects else None
    words = ("inserted", "updated", "unchanged", "rejected") if len(batch) else ()
    stored = next((word for word in words if getattr(saved, word)), None)
    if as_json:
        output.emit("fetch", account=account.name, record=record, rejected=problem, stored=stored)
    elif record is not None:
        output.facts({**record, "stored": stored})
    elif problem is not None:
        output.line(f"the record can't be read ({problem}); it is kept: cdrsync rejects list")
    elif len(sent):
        output.line("the record is as old as what retention has deleted: it is not kept")
    else:
        output.line(f"the operator has no record with {f'uid {uid}' if uid else f'ref {ref}'}")
    return EXIT_OK if record is not None else EXIT_FOUND


def _catch_up_bar(parts: AccountParts) -> contextlib.AbstractContextManager[progress.Show]:
    """Return a bar that knows how much is left, where somebody looks at it."""
    if not progress.wanted():
        return progress.bar(parts.name)
    days = len(parts.sync.position.pending_days())
    return progress.bar(parts.name, days=days) if days else progress.bar(parts.name, calls=parts.sync.expected_calls())


def _carry_out(
    settings: Settings,
    command: str,
    as_json: bool,  # noqa: FBT001 - the command's own flag, handed on
    work: Callable[[AccountParts], Iterator[PageSaved]],
    bar: Callable[[AccountParts], contextlib.AbstractContextManager[progress.Show]],
    *,
    give_up_after: float,
    **facts: Any,
) -> int:
    def one(account: AccountSettings) -> tuple[int, Report]:
        endurance = Endurance(give_up_after)

        def answered(done: RequestDone) -> None:
            if done.outcome == "ok":
                endurance.reached()

        with (
            accounts.open_account(
                settings, account, stop=INTERRUPT.event, on_request=answered, tell=output.note
            ) as parts,
            recorded(parts.store, command, failures=True) as tally,
            bar(parts) as show,
        ):
            tally.from_nothing = not parts.store.holds_calls(Window(BEGINNING, date.max))
            if command == "sync" and not tally.from_nothing:
                _say_what_is_left(parts)
            for saved in _enduring(work, parts, endurance, show):
                tally.add(saved)
                show(saved)
                if INTERRUPT.event.is_set():
                    tally.outcome = "stopped"
                    break
            _sum_days(parts, tally)
            if tally.high_water_uid is None and (mark := parts.store.checkpoint(Stream.TAIL)):
                tally.high_water_uid = mark.high_water_uid  # nothing was new: it is where it was
        INTERRUPT.check()
        if not as_json:
            output.line(_sentence(account, tally))
        rejects = tally.rejected
        if rejects:
            many = "1 record that can't be read was" if rejects == 1 else f"{rejects} records that can't be read were"
            output.note(f"{account.name}: {many} put into quarantine: cdrsync rejects list")
        report = {key: getattr(tally, key) for key in REPORTED if key != "seconds"}
        return EXIT_FOUND if rejects else EXIT_OK, {**report, "seconds": round(tally.seconds(), 3)}

    return for_each(settings, command, one, keys=REPORTED, as_json=as_json, **facts)


def _sum_days(parts: AccountParts, done: Tally) -> None:
    """Bring the summary up to date after a run that changed something: for a fortieth of its time, or one step.

    The views count anew what is left, until the daemon or a later run sums it.
    """
    until = time.monotonic() + done.seconds() / 40
    while done.changed and not INTERRUPT.event.is_set() and parts.store.sum_days() and time.monotonic() < until:
        pass


def _say_what_is_left(parts: AccountParts) -> None:
    """Say that a run goes on where another one was cut off."""
    history = parts.sync.position.history()
    if not history.complete:
        output.note(f"{parts.name}: goes on with history: {history}")


def _enduring(
    work: Callable[[AccountParts], Iterator[PageSaved]], parts: AccountParts, endurance: Endurance, show: progress.Show
) -> Iterator[PageSaved]:
    """Do the work, again after failures as long as that may help. Ends without a word where a signal came."""
    broken = False
    while True:
        try:
            if broken:
                parts.store.open()
                broken = False
            for saved in work(parts):
                endurance.saved(saved)
                yield saved
        except (Retry, Skip) as error:
            INTERRUPT.check()
            seconds = endurance.pause(error)
            if seconds is None:
                raise
            broken = broken or isinstance(error, DatabaseUnavailable | LeaseLost)
            show.waiting(logs.redact(error.message), seconds)
            if INTERRUPT.event.wait(seconds):
                return
        else:
            return


def _sentence(account: AccountSettings, tally: Tally) -> str:
    newest = f", newest {output.when(tally.newest_call)}" if tally.newest_call else ""
    return (
        f"{account.name}: {tally.inserted:,} new, {tally.updated:,} changed, {tally.unchanged:,} unchanged, "
        f"{tally.rejected:,} rejected in {tally.seconds():.1f} s{newest}"
    )
