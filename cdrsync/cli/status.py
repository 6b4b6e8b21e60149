"""`cdrsync status`: what is held, how current and how complete it is."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from cdrsync.cli import output
from cdrsync.cli.options import account_report_options, settings_of
from cdrsync.config.values import show as show_value
from cdrsync.errors import EXIT_OK
from cdrsync.model import Verdict, utc_now
from cdrsync.monitor.troubles import Weight, of_account
from cdrsync.monitor.words import ago, span
from cdrsync.wiring import database

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cdrsync.config import AccountSettings, Inputs
    from cdrsync.model import LedgerDay
    from cdrsync.monitor.status import AccountStatus, RunLine, Summary

RUNS = 5  # of an account, that programs are told; people see SHOWN_RUNS
SHOWN_RUNS = 3
SHOWN_ACCOUNTS = 5  # in full; more are an overview
MONTHS = 12  # of the calendar
MARKS = {
    Verdict.COMPLETE: "■",
    Verdict.HEALED: "◆",
    Verdict.ACCEPTED: "▲",
    Verdict.UNAUDITED: "□",
    Verdict.GAP: "✗",
}
NOT_READ = "·"
LEGEND = "■ agrees with the operator  ◆ healed  ▲ accepted  □ unaudited  ✗ gap  · not read to its end yet"


@click.command("status")
@account_report_options
def status(inputs: Inputs, names: tuple[str, ...], *, as_json: bool) -> int:
    """Show how every account is, the troubled first; up to five, or those named by --account, in full.

    Accounts, checkpoints, lag, the ledger of days, rejects, audits and the last runs. Asks the database only.

    JSON: {"accounts": [{"name", "calls", "first_day", "last_day", "tails": [{"stream", "high_water_uid"}], "read_at",
    "lag_seconds", "holder", "held_since", "days": {verdict: number}, "gaps": [days], "not_read": number,
    "last_success", "failure": {"kind", "words", "hint", "since", "at"} or null, "history_seconds_left",
    "history": {"first", "wanted", "read"}, "rejects_open", "changes",
    "audits": [{"period", "audited_at", "verdict", "note"}],
    "runs": [{"origin", "started_at", "ended_at", "outcome", "inserted", "updated", "rejected", "message"}]}]}; runs:
    the latest five, newest first; without "ended_at" it goes on or was killed.
    """
    from cdrsync.store.reads import status as read

    settings = settings_of(inputs, credentials=False)
    configured = {account.name: account for account in settings.accounts}
    now = utc_now()
    with database.existing(settings, names, looks=True) as engine:
        known = [] if as_json else read.overview(engine, names)
        whole = read.every_account(engine, names) if len(known) <= SHOWN_ACCOUNTS else []
    if as_json:
        output.emit("status", accounts=[_as_object(one, now) for one in whole])
        return EXIT_OK
    if not known:
        output.line("no account has been synced yet: cdrsync sync")
    if len(known) > 1:
        _print_overview(known, now)
    for one in whole:
        if len(known) > 1:
            output.line()
        _print(one, configured.get(one.name), now)
    if not whole and known:
        output.line()
        output.line("cdrsync status --account NAME shows one of them in full")
    return EXIT_OK


def _print_overview(known: Sequence[Summary], now: datetime) -> None:
    """A line for each account, the troubled first; columns that the terminal has no room for are left out."""
    rows = []
    for one in known:
        found = list(of_account(one))
        state = ", ".join(trouble.short for trouble in found) or "well"
        worst = 2 if not found else 0 if found[0].weight is Weight.BAD else 1
        read = "-" if one.history is None else f"{one.history.read:,}"
        cells = (
            one.name,
            state,
            ago(one.read_at, now) if one.read_at else "never",
            f"{one.calls:,}",
            read,
            str(len(one.gaps)),
            f"{one.rejects_open:,}",
            output.when(one.audited_at)[:10],
            one.holder or "-",
        )
        rows.append((worst, one.name, cells))
    headings = ("ACCOUNT", "STATE", "LAST READ", "CALLS", "DAYS READ", "GAPS", "REJECTS", "LAST AUDIT", "LEASE")
    output.table([cells for _, _, cells in sorted(rows)], headings, right=(3, 4, 5, 6), fit=True)


def _as_object(one: AccountStatus, now: datetime) -> dict[str, Any]:
    return {
        "name": one.name,
        "calls": one.calls,
        "last_success": one.last_success,
        "failure": one.failure,
        "history_seconds_left": one.left(now),
        "first_day": one.ledger[0].day if one.ledger else None,
        "last_day": one.ledger[-1].day if one.ledger else None,
        "tails": [{"stream": tail.stream, "high_water_uid": tail.high_water_uid} for tail in one.tails],
        "read_at": one.read_at,
        "lag_seconds": one.lag(now),
        "holder": one.holder,
        "held_since": one.held_since,
        "days": Counter(day.verdict.value for day in one.ledger),
        "gaps": one.gaps,
        "not_read": sum(day.downloaded_at is None for day in one.ledger),
        "history": one.history,
        "rejects_open": one.rejects_open,
        "changes": one.changes,
        "audits": [output.fields(line) for line in one.audits],
        "runs": [output.fields(line) for line in one.runs[:RUNS]],
    }


def _print(one: AccountStatus, account: AccountSettings | None, now: datetime) -> None:
    days = f", {one.first_day} to {one.last_day}" if one.first_day else ""
    tails = ", ".join(f"uid {tail.high_water_uid}{_of_number(tail.stream)}" for tail in one.tails)
    left = one.left(now)
    history = f"{one.history or 'not begun yet'}" + (f", about {span(left)} left" if left else "")
    facts = {
        "calls held": f"{one.calls:,}{days}",
        "history": history,
        "high-water mark": tails or "none yet",
        "last read": f"{output.when(one.read_at)}, {ago(one.read_at, now)}" if one.read_at else "never",
        "last success": f"{output.when(one.last_success)}, {ago(one.last_success, now)}"
        if one.last_success
        else "none yet",
        "lease": f"held by {one.holder}, since {output.when(one.held_since)}" if one.holder else "free",
        "rejects": f"{one.rejects_open} open" + (": cdrsync rejects list" if one.rejects_open else ""),
        "changes": f"{one.changes:,} values that the operator changed later (table cdr_change)",
        "audits": "; ".join(f"{a.period} {a.verdict} {output.when(a.audited_at)}" for a in one.audits) or "none yet",
        "last runs": "; ".join(_run(run, one, n) for n, run in enumerate(one.runs[:SHOWN_RUNS])) or "none yet",
        "horizons": _horizons(account) if account else "not in the configuration (any more)",
    }
    output.line(one.name)
    for trouble in of_account(one):
        since = f", since {output.when(trouble.since)}" if trouble.since else ""
        remedy = f" → {trouble.remedy}" if trouble.remedy else ""
        mark = "!" if trouble.weight is Weight.BAD else "?"
        output.wrapped(f"{trouble.text}{since}{remedy}", first=f"  {mark} ", then="    ")
    output.facts({f"  {name}": value for name, value in facts.items()}, wrap=True)
    for line in _calendar(one.ledger):
        output.line(f"  {line}")
    if one.ledger:
        output.wrapped(LEGEND, first="  ", then="  ")


def _run(run: RunLine, one: AccountStatus, place: int) -> str:
    counts = f"{run.inserted:,} new, {run.updated:,} changed, {run.rejected:,} rejected"
    unended = "running" if place == 0 and one.holder else "cut off"
    ended = f"{run.outcome} ({run.message or counts})" if run.ended_at else unended
    return f"{run.origin} {output.when(run.started_at)} {ended}"


def _of_number(stream: str) -> str:
    number = stream.partition(":")[2]
    return f" (number {number})" if number else ""


def _horizons(account: AccountSettings) -> str:
    """Say within what time new, late and changed records are found."""
    look_back = (
        f"late up to {show_value(account.lookback)}: every {show_value(account.lookback_interval)}"
        if account.lookback and account.lookback_interval
        else "no look-back"
    )
    sweep = f"up to {account.sweep_days} days: daily" if account.sweep_days else "no sweep"
    audit = f"anything: audit at {show_value(account.audit_time)}" if account.audit_time else "no audit"
    return f"new: every {show_value(account.poll_interval)} · {look_back} · {sweep} · {audit}"


def _calendar(ledger: tuple[LedgerDay, ...]) -> list[str]:
    """Draw a row of days for each of the last months, and the legend."""
    if not ledger:
        return []
    months: dict[str, list[str]] = {}
    for day in ledger:
        months.setdefault(f"{day.day:%Y-%m}", [" "] * 31)[day.day.day - 1] = _mark(day)
    lines = [f"{'':8}" + "".join(f"{day:<5}" for day in range(1, 32, 5)).rstrip()]
    lines += [f"{month} {''.join(marks)}".rstrip() for month, marks in [*months.items()][-MONTHS:]]
    return lines


def _mark(day: LedgerDay) -> str:
    return NOT_READ if day.downloaded_at is None and day.verdict is Verdict.UNAUDITED else MARKS[day.verdict]
