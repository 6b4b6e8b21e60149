"""Is it well? One list of troubles for the probe and for the page: what is wrong, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from cdrsync.errors import CdrsyncError
from cdrsync.monitor.activity import Phase
from cdrsync.monitor.words import span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdrsync.monitor.status import AccountStatus
    from cdrsync.web.state import AccountNow, Now


NAMED_DAYS = 3  # with a gap, the latest


class Weight(StrEnum):
    """How much a trouble matters."""

    BAD = "bad"  # calls don't arrive
    WARNING = "warning"  # calls arrive, but a person should look


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong, in one line, and its remedy."""

    account: str | None  # None: of the whole program
    weight: Weight
    text: str
    remedy: str = ""


def not_ready(now: Now, database: CdrsyncError | None) -> list[str]:
    """Why the daemon is not ready, one short line each; empty where it is.

    Ready: the database answers, its schema is ours, and every account has read the tail to its end lately.
    """
    reasons = ["stopping"] if now.stopping else []
    if database is not None:
        reasons.append(database.message)
    for account in now.accounts:
        reasons += [f"{account.state.name}: {trouble.text}" for trouble in _of_worker(account, now)]
    return [" ".join(reason.split()) for reason in reasons]


def troubles(now: Now, answers: dict[str, AccountStatus | CdrsyncError]) -> list[Trouble]:
    """Everything that a person should know, the worst first."""
    found = [Trouble(None, Weight.BAD, now.stuck)] if now.stuck else []
    # One database serves all accounts: its failure is said once.
    failures = {str(answer): answer for answer in answers.values() if isinstance(answer, CdrsyncError)}
    found += [Trouble(None, Weight.BAD, failure.message, failure.hint) for failure in failures.values()]
    for account in now.accounts:
        found += _of_worker(account, now)
        status = answers.get(account.state.name)
        if status is not None and not isinstance(status, CdrsyncError):
            found += _of_status(status)
    return sorted(found, key=lambda trouble: trouble.weight is not Weight.BAD)


def _of_worker(account: AccountNow, now: Now) -> Iterator[Trouble]:
    state = account.state
    late = state.last_success is None or (now.taken_at - state.last_success).total_seconds() > account.stale_after
    if state.phase is Phase.PARKED:
        yield Trouble(state.name, Weight.BAD, state.last_error or "waits for a person")
    elif state.phase is Phase.STANDING_BY:
        yield Trouble(
            state.name, Weight.WARNING, "another instance holds the lease", "This one takes over when that one ends"
        )
    elif late and state.last_error is not None:
        yield Trouble(state.name, Weight.BAD, state.last_error, "It tries again by itself")
    elif state.last_success is None:
        yield Trouble(state.name, Weight.WARNING, "no poll has succeeded yet")
    elif late:
        ago = span((now.taken_at - state.last_success).total_seconds())
        yield Trouble(state.name, Weight.BAD, f"no poll has succeeded for {ago}", "cdrsync doctor looks at each step")


def _of_status(status: AccountStatus) -> Iterator[Trouble]:
    gaps = status.gaps
    if gaps:
        shown = ", ".join(f"{day:%-d %B %Y}" for day in reversed(gaps[-NAMED_DAYS:]))
        more = f" and {len(gaps) - NAMED_DAYS} more" if len(gaps) > NAMED_DAYS else ""
        days = "1 day" if len(gaps) == 1 else f"{len(gaps)} days"
        text = f"the operator counts other calls on {days}: {shown}{more}"
        yield Trouble(status.name, Weight.WARNING, text, "cdrsync audit --heal")
    if status.rejects_open:
        records = "1 record" if status.rejects_open == 1 else f"{status.rejects_open:,} records"
        yield Trouble(status.name, Weight.WARNING, f"{records} in quarantine", "cdrsync rejects list")
