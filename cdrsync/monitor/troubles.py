"""What is wrong with an account, by what the database holds of it: said alike by `cdrsync status` and the page."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from cdrsync.monitor.status import Summary

NAMED_DAYS = 3  # with a gap, the latest


class Weight(StrEnum):
    """How much a trouble matters."""

    BAD = "bad"  # calls don't arrive
    WARNING = "warning"  # calls arrive, but a person should look


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that is wrong, in one line, and its remedy. `since` is aware, UTC, where it is known."""

    account: str | None  # None: of the whole program
    weight: Weight
    text: str
    remedy: str = ""
    since: datetime | None = None
    short: str = ""  # in a word or two, for a table

    def headline(self) -> str:
        """The trouble in some words: without what stands in brackets or after a full stop."""
        return self.text.partition(" (")[0].partition(". ")[0].rstrip(".")


def of_account(summary: Summary, *, failing: bool = True) -> Iterator[Trouble]:
    """The troubles of an account, the worst first. `failing`: its last failure is one of them."""
    failure = summary.failure
    if failure is not None and failing:
        yield Trouble(summary.name, Weight.BAD, failure.words, failure.hint, failure.since, in_short(failure.kind))
    if summary.gaps:
        shown = ", ".join(f"{day:%-d %B %Y}" for day in reversed(summary.gaps[-NAMED_DAYS:]))
        more = f" and {len(summary.gaps) - NAMED_DAYS} more" if len(summary.gaps) > NAMED_DAYS else ""
        days = "1 day" if len(summary.gaps) == 1 else f"{len(summary.gaps)} days"
        text = f"the operator counts other calls on {days}: {shown}{more}"
        yield Trouble(summary.name, Weight.WARNING, text, "cdrsync audit --heal", short=f"gap on {days}")
    if summary.rejects_open:
        records = "1 record" if summary.rejects_open == 1 else f"{summary.rejects_open:,} records"
        text = f"{records} in quarantine"
        yield Trouble(summary.name, Weight.WARNING, text, "cdrsync rejects list", short="quarantine")
    if summary.history is not None and not summary.history.complete:
        text = f"history is not held yet: {summary.history}"
        yield Trouble(
            summary.name, Weight.WARNING, text, "cdrsync sync, or the daemon, reads it", short="history unread"
        )
    if summary.unsure:
        periods = ", ".join(summary.unsure)
        text = f"the audit can't say whether calls are missing ({periods})"
        yield Trouble(summary.name, Weight.WARNING, text, "cdrsync audit says why", short="audit unsure")


def in_short(kind: str) -> str:
    """The class of an error in words: `LoginRefused` → `login refused`."""
    return "".join(f" {c.lower()}" if c.isupper() else c for c in kind).strip()
