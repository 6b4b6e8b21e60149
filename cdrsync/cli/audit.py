"""`cdrsync audit`: proof of completeness against the operator's own totals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cdrsync.cli import output
from cdrsync.cli.each import for_each
from cdrsync.cli.options import account_option, config_options, json_option, settings_of
from cdrsync.daemon.signals import INTERRUPT
from cdrsync.errors import EXIT_FOUND, EXIT_OK
from cdrsync.model import Period, Verdict

if TYPE_CHECKING:
    from cdrsync.audit.findings import AuditReport, Finding
    from cdrsync.cli.each import Report
    from cdrsync.config import AccountSettings, Inputs

REPORTED = (  # null where it failed
    *("audited_at", "clean", "proven", "findings", "gaps", "healed", "records_healed", "history"),
)
MARKS = {Verdict.COMPLETE: "equal", Verdict.GAP: "DIFFERS", Verdict.UNAUDITED: "can't say", Verdict.HEALED: "healed"}


@click.command("audit", short_help="Prove completeness against the operator's totals")
@click.option(
    "--period",
    "periods",
    multiple=True,
    type=click.Choice([period.value for period in Period]),
    help="Compare this period; may be repeated. All five by default.",
)
@click.option("--number", metavar="N", help="Only calls to this number of the account.")
@click.option("--heal", is_flag=True, help="Read the days at fault again, then compare once more.")
@config_options
@account_option
@json_option
def audit(
    inputs: Inputs,
    names: tuple[str, ...],
    *,
    periods: tuple[str, ...],
    number: str | None,
    heal: bool,
    as_json: bool,
) -> int:
    """Compare calls, duration and charge with the operator's own totals.

    Exit 0: equal; 1: gaps are left, or history is wanted that was not read yet.

    May be run beside the daemon; only --heal needs to be the one who writes.

    \b
      cdrsync audit
      cdrsync audit --period all --heal

    JSON: {"accounts": [{"name", "audited_at", "clean", "proven", "findings": [{"period", "first", "last", "number",
    "verdict", "held": {"calls", "duration", "charge"}, "operator": {element: text}, "problem", "remark"}],
    "gaps": [{"first", "last", "problem"}], "healed": [days], "records_healed", "history": {"first",
    "wanted", "read"}, "error"}]}; where an account failed, all but "name" and "error" are null. While the beginning of
    history is not known "first" and "wanted" are null; "history" is null with --number.
    """  # noqa: D301 - \b is click's mark for lines that keep their breaks
    from cdrsync.wiring import accounts

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
            MARKS[f.verdict],
            f.problem,
        )
        for f in report.findings
    ]
    output.table(rows, ("PERIOD", "CALLS HELD", "SECONDS", "CHARGE", "VERDICT", ""), right=(1, 2, 3))
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
    if report.gaps:
        output.line("cdrsync audit --heal reads the days at fault again" if not report.healed else "the rest stays")
    elif report.proven:
        output.line("proven: nothing is missing" + (" (for the first time)" if report.first_proof else ""))
