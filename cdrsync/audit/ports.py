"""What an audit is given beside the operator and the position: the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import date, datetime

    from cdrsync.audit.figures import Interpretation
    from cdrsync.audit.findings import AuditReport, Holdings
    from cdrsync.model import Cdr, Checkpoint, Excess, Verdict


class Ledger(Protocol):
    """What the audit reads and keeps of an account. Writes no CDR."""

    def checkpoint(self, stream: str) -> Checkpoint | None:
        """The checkpoint of a stream."""

    def holdings(self, *, number: str | None = None, up_to_uid: int | None = None) -> Holdings:
        """Calls per day, counted from the rows, and the ledger; of one number where one is given."""

    def days(self) -> list[date]:
        """The days of the ledger."""

    def held_uids(self, uids: Iterable[int]) -> set[int]:
        """Those of the uids that are held."""

    def quarantined(self) -> list[str]:
        """The records in quarantine as sent, dismissed ones too."""

    def calls_of(self, day: date) -> list[Cdr]:
        """The calls held of a day, by uid."""

    def accept(self, day: date, excess: Excess, note: str, at: datetime) -> None:
        """Keep what a person has accepted of a day, until a call of it changes or an audit finds something else."""

    def established(self) -> Interpretation:
        """How undocumented figures are to be understood, as far as earlier audits established it."""

    def proven_before(self) -> bool:
        """Whether an audit of `all` has agreed before."""

    def recount(self, days: Iterable[date]) -> None:
        """Count the ledger's figures of these days from the rows again."""

    def record_audit(self, report: AuditReport, verdicts: Mapping[date, Verdict]) -> None:
        """Keep findings and verdicts, in one transaction."""
