"""`cdrsync audit`: proof of completeness against the operator's own totals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cdrsync.cli import output
from cdrsync.cli.each import for_each
from cdrsync.cli.options import DAY, account_report_options, number_option, settings_of
from cdrsync.daemon.signals import INTERRUPT
from cdrsync.errors import EXIT_FOUND, EXIT_OK
from cdrsync.model import Period, Verdict
from cdrsync.wiring import accounts

if TYPE_CHECKING:
    from datetime import date, datetime

    from cdrsync.audit.findings import AuditReport, Finding
    from cdrsync.cli.each import Report
    from cdrsync.config import AccountSettings, Inputs, Settings
    from cdrsync.model import Cdr

REPORTED = (  # null where it failed
    *("audited_at", "clean", "proven", "findings", "gaps", "healed", "records_healed", "to_come", "history"),
)
MARKS = {Verdict.COMPLETE: "equal", Verdict.GAP: "DIFFERS"}  # the others are words themselves


@click.group("audit", invoke_without_command=True)
@click.option(
    "--period",
    "periods",
    multiple=True,
    type=click.Choice([period.value for period in Period]),
    help="Compare this period; may be repeated. All five by default.",
)
@number_option("Only calls to this number of the account.")
@click.option("--heal", is_flag=True, help="Read the days at fault again, by date and by uid, then compare once more.")
@click.option("--explain", type=DAY, metavar="DAY", help="Name the calls of a day that are held or listed alone.")
@account_report_options
@click.pass_context
def audit(
    ctx: click.Context,
    inputs: Inputs,
    names: tuple[str, ...],
    *,
    periods: tuple[str, ...],
    number: str | None,
    heal: bool,
    explain: datetime | None,
    as_json: bool,
) -> int:
    """Compare calls, duration and charge with the operator's own totals.

    Exit 0: equal; 1: gaps are left, or history is wanted that was not read yet.

    May be run beside the daemon; only --heal needs to be the one who writes.

    \b
      cdrsync audit
      cdrsync audit --period all --heal
      cdrsync audit --explain 2024-05-21
      cdrsync audit accept 2024-05-21 --note "three test calls, the operator removed them"

    JSON: {"accounts": [{"name", "audited_at", "clean", "proven", "findings": [{"period", "first", "last", "number",
    "verdict", "held": {"calls", "duration", "charge"}, "operator": {element: text}, "problem", "remark"}],
    "gaps": [{"first", "last", "problem"}], "healed": [days], "records_healed", "to_come": calls in "held" that the
    next poll stores, "history": {"first", "wanted", "read"}, "error"}]}; where an account failed, all but "name" and
    "error" are null. While the beginning of history is not known "first" and "wanted" are null; "history" is null with
    --number. With --explain: {"accounts": [{"name", "day", "held", "listed", "not_listed": [calls], "not_held":
    [calls], "different": [calls], "unreadable": [{"uid", "problem"}], "error"}]}.
    """
    if ctx.invoked_subcommand is not None:
        return EXIT_OK
    if explain is not None:
        return _explain(settings_of(inputs, names), explain.date(), as_json=as_json)
    wanted = [Period(period) for period in periods] or list(Period)
    settings = settings_of(inputs, names)

    def work(account: AccountSettings) -> tuple[int, Report]:
        with accounts.open_audit(settings, account, writer=heal, stop=INTERRUPT.event) as auditor:
            report = auditor.run(wanted, number=number, heal=heal)
        if not as_json:
            _print(account.name, report)
        return EXIT_OK if report.clean and not report.unread else EXIT_FOUND, _as_object(report)

    return for_each(settings, "audit", work, keys=REPORTED, as_json=as_json)


def _as_object(report: AuditReport) -> dict[str, Any]:
    return {
        "audited_at": report.audited_at,
        "clean": report.clean,
        "proven": report.proven,
        "findings": [_finding(finding) for finding in report.findings],
        "gaps": [{"first": g.window.first, "last": g.window.last, "problem": g.problem} for g in report.gaps],
        "healed": list(report.healed),
        "records_healed": report.records_healed,
        "to_come": report.to_come,
        "history": report.history,
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "period": finding.period,
        "first": finding.window.first,
        "last": finding.window.last,
        "number": finding.number,
        "verdict": finding.verdict,
        "held": finding.held,
        "operator": finding.totals.texts if finding.totals else None,
        "problem": finding.problem,
        "remark": finding.remark,
    }


def _print(name: str, report: AuditReport) -> None:
    output.line(f"{name}, {output.when(report.audited_at)}")
    rows = [
        (
            f.period.value,
            f"{f.held.calls:,}",
            f"{f.held.duration:,}",
            f"£{f.held.charge:.3f}",
            MARKS.get(f.verdict, f.verdict.value),
            f.problem,
        )
        for f in report.findings
    ]
    output.table(rows, ("PERIOD", "CALLS HELD", "SECONDS", "CHARGE", "VERDICT", ""), right=(1, 2, 3))
    if report.to_come:
        output.line(f"counted as held: {report.to_come:,} that the next poll stores")
    for gap in report.gaps:
        days = (
            str(gap.window.first) if gap.window.first == gap.window.last else f"{gap.window.first} to {gap.window.last}"
        )
        output.line(f"gap: {days}: {gap.problem}")
    if report.healed:
        days = ", ".join(map(str, report.healed))
        output.line(f"healed: {report.records_healed} records of {days}")
    if report.unread:
        output.line(f"history: {report.history}; cdrsync sync reads the rest")
    if report.gaps and report.tried:
        day = report.gaps[-1].window.last
        output.line(
            f"read again by date and by uid: this is left. cdrsync audit --explain {day} names calls, cdrsync rejects "
            f"list what can't be read; cdrsync audit accept {day} --note TEXT ends the alarm"
        )
    elif report.gaps:
        output.line("cdrsync audit --heal reads the days at fault again, by date and by uid")
    elif report.proven:
        output.line("proven: nothing is missing" + (" (for the first time)" if report.first_proof else ""))


@audit.command("accept", short_help="Answer for a gap: its alarm ends")
@click.argument("day", type=DAY, metavar="DAY")
@click.option("--note", required=True, metavar="TEXT", help="Why; it is kept and shown.")
@account_report_options
def accept(inputs: Inputs, names: tuple[str, ...], day: datetime, *, note: str, as_json: bool) -> int:
    """Accept the gap that a day lies in, as it is now. Another call of the day, or another difference, ends that.

    May be run beside the daemon. Exit 1: there is no gap.

    JSON: {"account", "gap": {"first", "last", "problem"} or null}.
    """
    settings = settings_of(inputs, names)
    account = accounts.only_account(settings)
    with accounts.open_audit(settings, account, writer=False, stop=INTERRUPT.event) as auditor:
        gap = auditor.accept(day.date(), note)
    said = f"{account.name}: accepted: {gap.problem}" if gap else f"{account.name}: {day.date()} lies in no gap"
    facts = None if gap is None else {"first": gap.window.first, "last": gap.window.last, "problem": gap.problem}
    code = EXIT_FOUND if gap is None else EXIT_OK
    return output.answer("audit accept", said, as_json=as_json, code=code, account=account.name, gap=facts)


def _explain(settings: Settings, day: date, *, as_json: bool) -> int:
    def work(account: AccountSettings) -> tuple[int, Report]:
        with accounts.open_audit(settings, account, writer=False, stop=INTERRUPT.event) as auditor:
            found = auditor.explain(day)
        if not as_json:
            output.line(f"{account.name}, {day}: {found.held:,} calls held, the operator lists {found.listed:,}")
            rows = [
                *(("held, not listed", *_call(cdr)) for cdr in found.suspects),
                *(("listed, not held", *_call(cdr)) for cdr in found.missing),
                *(("held otherwise", *_call(cdr)) for cdr, _ in found.different),
                *(("can't be read", reject.uid, "", "", "", reject.problem) for reject in found.unreadable),
            ]
            if rows:
                output.table(rows, ("", "UID", "TIME", "SECONDS", "CHARGE", ""), right=(1, 3, 4))
        report = {
            "day": day,
            "held": found.held,
            "listed": found.listed,
            "not_listed": [_as_call(cdr) for cdr in found.suspects],
            "not_held": [_as_call(cdr) for cdr in found.missing],
            "different": [_as_call(cdr) for cdr, _ in found.different],
            "unreadable": [{"uid": reject.uid, "problem": reject.problem} for reject in found.unreadable],
        }
        return EXIT_OK if found.agrees and not found.unreadable else EXIT_FOUND, report

    keys = ("day", "held", "listed", "not_listed", "not_held", "different", "unreadable")
    return for_each(settings, "audit", work, keys=keys, as_json=as_json)


def _call(cdr: Cdr) -> tuple[object, ...]:
    return cdr.uid, cdr.call_time, cdr.duration, f"£{cdr.user_cost:f}", ""


def _as_call(cdr: Cdr) -> dict[str, Any]:
    return {"uid": cdr.uid, "call_time": cdr.call_time, "duration": cdr.duration, "user_cost": cdr.user_cost}
