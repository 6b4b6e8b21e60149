"""One piece of work for each account in turn, and one report of them all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cdrsync.cli import output
from cdrsync.daemon.signals import INTERRUPT
from cdrsync.errors import EXIT_OK, CdrsyncError
from cdrsync.monitor import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cdrsync.config import AccountSettings, Settings

Report = dict[str, Any]


def for_each(
    settings: Settings,
    command: str,
    work: Callable[[AccountSettings], tuple[int, Report]],
    *,
    keys: Sequence[str],
    as_json: bool,
    **facts: Any,
) -> int:
    """Do the work for every account; one that fails does not stop the others. Return the first code that is not 0.

    `work` answers its code and the account's report, whose `keys` are null where it failed.
    """
    code = EXIT_OK
    reports: list[Report] = []
    for account in settings.accounts:
        try:
            found, report = work(account)
        except CdrsyncError as error:
            INTERRUPT.check()
            found, report = error.exit_code, {**dict.fromkeys(keys), "error": output.error_object(error)}
            output.note(logs.redact(f"error: {account.name}: {error}"))
        code = code or found
        reports.append({"name": account.name, **report, "error": report.get("error")})
    if as_json:
        output.emit(command, **facts, accounts=reports)
    return code
