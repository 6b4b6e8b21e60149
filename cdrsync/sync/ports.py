"""What the core is given: where records come from, where they go, and how an account is to be read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Literal, Protocol

from cdrsync.errors import ApiUnreachable, BadAnswer, RequestRefused
from cdrsync.model import Batch, Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, tzinfo

    from cdrsync.model import CdrsAsk, Checkpoint, Document, Page, PageSaved, Totals, TotalsAsk, Window


class Source(Protocol):
    """Where records come from: the operator's API."""

    def ask(self, asks: Sequence[CdrsAsk | TotalsAsk]) -> Document:
        """The answers to one document of requests, in order.

        Raises ApiUnreachable or BadAnswer (nothing of the document may be used), LoginRefused.
        """

    def fetch(self, *, uid: int | None = None, ref: str | None = None) -> Batch:
        """One record by uid or ref (GetCDR); an empty Batch where the operator has none."""

    def close(self) -> None:
        """End connections and make waits in progress end promptly."""


class ReadStore(Protocol):
    """What the database knows of an account's position. Raises DatabaseUnavailable, LeaseLost."""

    def checkpoint(self, stream: str) -> Checkpoint | None:
        """The checkpoint of a stream, None before its first."""

    def look_back_uid(self, since: datetime, until: datetime) -> int | None:
        """The LastId that leaves out only calls which had ended before `since`, whenever uids are handed out.

        The highest held uid below the lowest uid of the calls that had not, or one less than that where none is held
        below; the highest held uid where all had; None where no call is held. A lower one is right, too: it reads more.
        A call that says it ended after `until` is mistaken: it would make every look-back read from its uid for ever.
        """

    def uids_around(self, window: Window) -> tuple[int | None, int | None]:
        """The uids held next to those of a window's calls: the highest below them and the lowest above; None: none.

        Where no call of the window is held: those of the calls before and after it.
        """

    def days_downloaded(self, window: Window, *, since: datetime | None = None) -> set[date]:
        """Days of the window that a page has completed, at or after `since`."""

    def holds_calls(self, window: Window) -> bool:
        """Whether the ledger counts calls on any day of the window."""


class Store(ReadStore, Protocol):
    """Where records go. After an error, whatever was not committed is to be read again."""

    def save(self, page: Page) -> PageSaved:
        """Commit the page: rows, rejects, coverage and checkpoint in one transaction. The only way to write CDRs."""


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """What an account's configuration says about reading it."""

    timezone: tzinfo
    start: date | Literal["today", "all"] = "all"
    numbers: tuple[str, ...] = ()
    page_size: int = 1000
    lookback: timedelta = timedelta(hours=2)  # zero: no look-back
    lookback_interval: timedelta = timedelta(minutes=10)  # zero: no look-back
    sweep_days: int = 7
    workers: int = 2


def batches(document: Document) -> list[Batch]:
    """The answers of a document of GetCDRs alone. Raises RequestRefused for the first request refused."""
    return [batch_of(answer) for answer in document.answers]


def batch_of(answer: Batch | Totals | Refusal) -> Batch:
    """An answer to GetCDRs. Raises RequestRefused; ApiUnreachable where the refusal will pass."""
    if isinstance(answer, Refusal) and answer.passing:
        raise ApiUnreachable(f"the operator can't answer GetCDRs at the moment: {answer.message}")
    if isinstance(answer, Refusal):
        raise RequestRefused(f"the operator refused GetCDRs: {answer.message}", code=answer.code)
    if not isinstance(answer, Batch):
        raise BadAnswer("the answer to GetCDRs holds no CDRs")
    return answer
