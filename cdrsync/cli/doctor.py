"""`cdrsync doctor`: says whether everything is reachable, and if not, what to do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from cdrsync.cli import output
from cdrsync.cli.options import account_report_options, settings_of
from cdrsync.errors import EXIT_OK
from cdrsync.monitor.words import visible

if TYPE_CHECKING:
    from cdrsync.cli.checks import Finding
    from cdrsync.config import Inputs


@click.command("doctor")
@account_report_options
def doctor(inputs: Inputs, names: tuple[str, ...], *, as_json: bool) -> int:
    """Check configuration, DNS, TLS, login, clock, database, schema, permissions and disk space.

    Nothing is changed. Exit 0 where everything is well, else the code of the first failure.

    JSON: {"ok", "checks": [{"check", "state", "detail", "remedy"}]}; state is ok, warning, failed or skipped.
    """
    from cdrsync.cli.checks import examine

    settings = settings_of(inputs, names)
    findings: list[Finding] = []
    for finding in examine(settings, inputs):
        findings.append(finding)
        if not as_json:
            _print(finding)
    code = next((finding.exit_code for finding in findings if finding.state == "failed"), EXIT_OK)
    if as_json:
        checks = [{key: getattr(f, key) for key in ("check", "state", "detail", "remedy")} for f in findings]
        output.emit("doctor", ok=code == EXIT_OK, checks=checks)
    return code


def _print(finding: Finding) -> None:
    marks = {"ok": ("ok", "green"), "warning": ("WARN", "yellow"), "failed": ("FAIL", "red"), "skipped": ("-", None)}
    word, colour = marks[finding.state]
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    click.echo(
        f"{click.style(f'{word:<4}', fg=colour)}  {visible(finding.check):<28}{visible(finding.detail)}",
        color=False if plain else None,  # None: where it is a terminal
    )
    if finding.remedy:
        output.line(f"      → {finding.remedy}")
