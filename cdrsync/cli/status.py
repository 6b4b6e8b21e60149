"""`cdrsync status`: what is held, how current and how complete it is."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import click

from cdrsync.cli import output
from cdrsync.cli.options import account_option, config_options, json_option, settings_of
from cdrsync.config.values import show as show_value
from cdrsync.errors import EXIT_OK
from cdrsync.model import Verdict, utc_now
from cdrsync.monitor.words import ago

if TYPE_CHECKING:
    from datetime import datetime

    from cdrsync.config import AccountSettings, Inputs
    from cdrsync.model import LedgerDay
    from cdrsync.monitor.status import AccountStatus, RunLine

RUNS = 5  # of an account, that programs are told; people see SHOWN_RUNS
SHOWN_RUNS = 3
MONTHS = 12  # of the calendar
MARKS = {Verdict.COMPLETE: "■", Verdict.HEALED: "◆", Verdict.UNAUDITED: "□", Verdict.GAP: "✗"}
NOT_READ = "·"
LEGEND = "■ agrees with the operator  ◆ healed  □ read, not audited yet  ✗ gap  · not read to its end yet"


@click.command("status", short_help="Show what is held and how current it is")
@config_options
@account_option
@json_option
def status(inputs: Inputs, names: tuple[str, ...], *, as_json: bool) -> int:
    """Show accounts, checkpoints, lag, the ledger of days, rejects, audits and the last runs. Asks the database only.

    JSON: {"accounts": [{"name", "calls", "first_day", "last_day", "tails": [{"stream", "high_water_uid"}], "read_at",
    "lag_seconds", "holder", "held_since", "days": {verdict: number}, "gaps": [days], "not_read": number,
    "history": {"first", "wanted", "read"}, "rejects_open", "changes",
    "audits": [{"period", "audited_at", "verdict", "note"}],
    "runs": [{"origin", "started_at", "ended_at", "outcome", "inserted", "updated", "rejected", "message"}]}]}; runs:
    the latest five, newest first; without "ended_at" it goes on or was killed.
    """
    from cdrsync.wiring import accounts

    settings = settings_of(inputs, credentials=False)
    configured = {account.name: account for account in settings.accounts}
    found = accounts.statuses(settings, names)
    now = utc_now()
    if as_json:
        output.emit("status", accounts=[_as_object(one, now) for one in found])
        return EXIT_OK
    if not found:
        output.line("no account has been synced yet: cdrsync sync")
    for n, one in enumerate(found):
        if n:
            output.line()
        _print(one, configured.get(one.name), now)
    return EXIT_OK


def _as_object(one: AccountStatus, now: datetime) -> dict[str, Any]:
    return {
        "name": one.name,
        "calls": one.calls,
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
    busy = [day.day for day in one.ledger if day.calls]
    days = f", {busy[0]} to {busy[-1]}" if busy else ""
    tails = ", ".join(f"uid {tail.high_water_uid}{_of_number(tail.stream)}" for tail in one.tails)
    facts = {
        "calls held": f"{one.calls:,}{days}",
        "history": f"{one.history}" if one.history else "-",
        "high-water mark": tails or "none yet",
        "last read": f"{output.when(one.read_at)}, {ago(one.read_at, now)}" if one.read_at else "never",
        "lease": f"last taken by {one.holder}, {output.when(one.held_since)}" if one.holder else "never taken",
        "rejects": f"{one.rejects_open} open" + (": cdrsync rejects list" if one.rejects_open else ""),
        "changes": f"{one.changes:,} values that the operator changed later (table cdr_change)",
        "audits": "; ".join(f"{a.period} {a.verdict} {output.when(a.audited_at)}" for a in one.audits) or "none yet",
        "last runs": "; ".join(map(_run, one.runs[:SHOWN_RUNS])) or "none yet",
        "horizons": _horizons(account) if account else "not in the configuration (any more)",
    }
    output.line(one.name)
    output.facts({f"  {name}": value for name, value in facts.items()})
    for line in _calendar(one.ledger):
        output.line(f"  {line}")


def _run(run: RunLine) -> str:
    counts = f"{run.inserted:,} new, {run.updated:,} changed, {run.rejected:,} rejected"
    ended = f"{run.outcome} ({run.message or counts})" if run.ended_at else "not ended"
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
    return [*lines, LEGEND]


def _mark(day: LedgerDay) -> str:
    return NOT_READ if day.downloaded_at is None and day.verdict is Verdict.UNAUDITED else MARKS[day.verdict]
