"""Is it well? One list of troubles for the probe and for the page: what is wrong, since when, what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdrsync.errors import CdrsyncError
from cdrsync.monitor import troubles as of_database
from cdrsync.monitor.activity import AccountState, Phase, Snapshot
from cdrsync.monitor.troubles import Trouble, Weight
from cdrsync.monitor.words import span

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from cdrsync.monitor.status import Summary

FEW = 8  # accounts not current that have room in one line


def not_ready(now: Snapshot, database: CdrsyncError | None) -> list[str]:
    """Why the daemon is not ready, one short line each; empty where it is.

    Ready: the database answers, and its schema is ours. An only account has read the tail to its end lately as well; of
    several each one's trouble is its own, and takes no other's page away and holds no rollout up.
    """
    reasons = ["stopping"] if now.stopping else []
    if database is not None:
        reasons.append(database.message)
    if now.cut_off is not None:
        reasons.append(cut_off(now.cut_off))
    if len(now.accounts) == 1:
        reasons += _in_trouble(now)
    return [" ".join(reason.split()) for reason in reasons]


def ready(now: Snapshot) -> str:
    """What is said of a daemon that is ready: in one line, which of its accounts are not current all the same."""
    found = [" ".join(text.split()) for text in _in_trouble(now)]
    if not found:
        return "ready"
    more = f"; and {len(found) - FEW} more" if len(found) > FEW else ""
    return f"ready; of {len(now.accounts)} accounts not current: {'; '.join(found[:FEW])}{more}"


def _in_trouble(now: Snapshot) -> list[str]:
    """What is wrong with each account of this replica with which anything is."""
    return [f"{account.name}: {trouble.text}" for account in now.accounts for trouble in _of_worker(account, now)]


def cut_off(seconds: float) -> str:
    """What is to be said of a replica from which no beat comes through."""
    return f"this replica has not reached the database for {seconds:.0f} s: another one may have its accounts"


def troubles(
    now: Snapshot, held: Mapping[str, Summary] | CdrsyncError, down_since: datetime | None = None
) -> list[Trouble]:
    """Everything that a person should know, the worst first. `held`: by account, or why the database can't tell."""
    found = [Trouble(None, Weight.BAD, now.stuck)] if now.stuck else []
    if now.cut_off is not None:
        found.append(Trouble(None, Weight.BAD, cut_off(now.cut_off), "It goes on by itself", short="cut off"))
    if isinstance(held, CdrsyncError):
        found.append(Trouble(None, Weight.BAD, held.message, held.hint, down_since))
    if now.reload_refused:
        text = f"a changed configuration was refused, the old one stays: {now.reload_refused}"
        found.append(Trouble(None, Weight.WARNING, text, "cdrsync config check", now.reload_refused_at))
    for account in now.accounts:
        own = list(_of_worker(account, now))
        found += own or _beside_polls(account)
        if not isinstance(held, CdrsyncError) and (summary := held.get(account.name)):
            found += of_database.of_account(summary, failing=not own and account.last_success is None)
    return sorted(found, key=lambda trouble: trouble.weight is not Weight.BAD)


def _beside_polls(state: AccountState) -> Iterator[Trouble]:
    """What fails while polls succeed: history for which the disk has no room, an audit that the operator refuses."""
    if state.last_error is not None and state.phase is not Phase.STANDING_BY:
        short = of_database.in_short(state.last_error_kind or "")
        since = state.failing_since
        yield Trouble(state.name, Weight.WARNING, state.last_error, "It tries again by itself", since, short)


def _of_worker(state: AccountState, now: Snapshot) -> Iterator[Trouble]:
    late = state.last_success is None or (now.taken_at - state.last_success).total_seconds() > state.stale_after
    kind = state.last_error_kind
    short = of_database.in_short(kind) if kind else ""
    if state.phase is Phase.PARKED:
        text, since = state.last_error or "waits for a person", state.last_success or state.failing_since
        yield Trouble(state.name, Weight.BAD, text, since=since, short=short or "parked")
    elif state.phase is Phase.STANDING_BY:
        return  # another replica works on it
    elif late and state.last_error is not None:
        since = state.last_success or state.failing_since
        yield Trouble(state.name, Weight.BAD, state.last_error, "It tries again by itself", since, short)
    elif state.last_success is None:
        yield Trouble(state.name, Weight.WARNING, "no poll has succeeded yet", short="starting")
    elif late:
        ago = span((now.taken_at - state.last_success).total_seconds())
        text = f"no poll has succeeded for {ago}"
        yield Trouble(state.name, Weight.BAD, text, "cdrsync doctor looks at each step", state.last_success, "late")
