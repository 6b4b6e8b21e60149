"""The audit: what is held against the operator's own totals, day by day where they differ, and healing.

Whatever disagrees in one look is looked at again after a look-back (late records), and only then is a Gap.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from cdrsync.audit.explain import Explanation, explain, suspects
from cdrsync.audit.figures import Figures
from cdrsync.audit.findings import AuditReport, walked, within
from cdrsync.audit.look import Look
from cdrsync.errors import RequestRefused
from cdrsync.model import Cdr, Period, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from zoneinfo import ZoneInfo

    from cdrsync.audit.ports import Ledger
    from cdrsync.model import Gap
    from cdrsync.sync.ports import Source
    from cdrsync.sync.position import Position
    from cdrsync.sync.steps import Sync

ATTEMPTS = 4
"""Looks at a disagreement before it is believed: the first one sends a look-back, the others let arrivals settle."""

HEALING_PAUSE = timedelta(days=7)
"""A day that reading it again did not mend is left alone for so long, unless what is held of it changes: a gap that
nothing mends must not cost the whole history every night."""


class Audit:
    """Compares one account with the operator's totals. Only with a `healer`, which needs the lease, it mends."""

    def __init__(
        self,
        source: Source,
        ledger: Ledger,
        position: Position,
        healer: Sync | None = None,
        *,
        timezone: ZoneInfo,
        page_size: int,
    ) -> None:
        self._source = source
        self._ledger = ledger
        self._position = position
        self._healer = healer
        self._page_size = page_size
        self._look = Look(source, ledger, position, timezone=timezone, page_size=page_size)
        self._read_in_vain: dict[date, tuple[datetime, Figures]] = {}

    def run(self, periods: Sequence[Period], *, number: str | None = None, heal: bool = False) -> AuditReport:
        """Compare the periods; with `heal`, read the days at fault once more and compare again.

        Raises RequestRefused where the operator refuses every period; it is kept that nothing could be compared.
        """
        healer = self._healer if heal else None
        try:
            observed, days = self._settle(periods, number, healer)
        except RequestRefused as refused:
            if number is None:
                self._ledger.record_audit(self._look.refused(periods, refused.message), {})
            raise
        if healer is not None and observed.gaps:
            observed, days = self._heal(observed, periods, number, healer)
        if number is None:
            self._ledger.record_audit(observed, days)
        return observed

    def accept(self, day: date, note: str) -> Gap | None:
        """Accept the gap that a day lies in, as it is now; answers the gap, None where there is none."""
        report = self.run(list(Period))
        gap = next((gap for gap in report.gaps if day in gap.window), None)
        if gap is None or gap.excess is None:
            return None
        excess = gap.excess
        for other in self._ledger.holdings().ledger:
            if other.day in gap.window and other.accepted is not None and other.day != day:
                excess = excess.less(other.accepted)
        self._ledger.accept(day, excess, note, report.audited_at)
        return gap

    def explain(self, day: date) -> Explanation:
        """Ask for a day's calls and say which are held, listed, or different. Stores nothing."""
        return explain(self._source, self._ledger, self._position.numbers, day, self._page_size)

    def _settle(
        self, periods: Sequence[Period], number: str | None, healer: Sync | None
    ) -> tuple[AuditReport, dict[date, Verdict]]:
        """Look until all agrees, at most ATTEMPTS times. Who may write brings the tail in first."""
        for attempt in range(ATTEMPTS):
            if healer is not None:
                for _ in healer.look_back() if attempt == 1 else healer.poll():
                    pass
            report, days = self._look.at(periods, number, writer=healer is not None)
            if report.clean:
                break
        return report, days

    # ── healing ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _heal(
        self, found: AuditReport, periods: Sequence[Period], number: str | None, healer: Sync
    ) -> tuple[AuditReport, dict[date, Verdict]]:
        """Read the days at fault once through the one write path, then compare again.

        A shorter period explains the longer ones around it; where these still disagree, their days are next.
        """
        records = sum(saved.inserted + saved.updated for saved in healer.reopen_history())
        report = found
        verdicts_after: dict[date, Verdict] = {}
        listed: dict[date, dict[int, Cdr]] = {}
        mended: set[date] = set()
        for _ in Period:
            days = self._days_to_read(report) - listed.keys()
            if not days and verdicts_after:
                break
            for day in sorted(days, reverse=True):
                changed, listed[day] = healer.reread(day)
                records += changed
                mended |= {day} if changed else set()
            self._recount(listed)
            report, verdicts_after = self._settle(periods, number, healer)
        again = [gap for gap in report.gaps if listed.keys() & self._days_of(gap)]
        if again:
            # What no date shows is read by uid, before anybody is told of a gap.
            records += sum(healer.reread_uids(window) for window in walked(report, again))
            report, verdicts_after = self._settle(periods, number, healer)
        report = replace(report, gaps=[part for gap in report.gaps for part in suspects(gap, listed, self._ledger)])
        left = {day for gap in report.gaps for day in self._days_of(gap)}
        held = self._ledger.holdings().rows
        self._read_in_vain |= {day: (report.audited_at, held.get(day, Figures())) for day in listed.keys() & left}
        healed = tuple(sorted(mended - left))
        verdicts_after = {
            day: Verdict.UNAUDITED if verdict is Verdict.GAP and day not in left else verdict
            for day, verdict in verdicts_after.items()
        }
        verdicts_after |= dict.fromkeys(healed, Verdict.HEALED)
        return replace(report, healed=healed, records_healed=records, tried=True), verdicts_after

    def _days_to_read(self, report: AuditReport) -> set[date]:
        """The days of gaps that were not read in vain lately."""
        held = self._ledger.holdings().rows
        days = {day for gap in report.gaps for day in self._days_of(gap)}
        return {day for day in days if not self._was_in_vain(day, held.get(day, Figures()), report.audited_at)}

    def _days_of(self, gap: Gap) -> set[date]:
        """The days of a gap, from the first one that is wanted or held."""
        start = self._position.start_day()
        first = min(self._ledger.days(), default=gap.window.last)
        return set(within(gap.window, first if start is None else min(first, start), self._position.today()))

    def _recount(self, listed: Mapping[date, Mapping[int, Cdr]]) -> None:
        """Have the ledger follow the rows where they are what the operator lists: a row too many stays in sight."""
        held = self._ledger.holdings().rows
        self._ledger.recount(
            day for day, calls in listed.items() if Figures.of_calls(calls.values()) == held.get(day, Figures())
        )

    def _was_in_vain(self, day: date, held: Figures, now: datetime) -> bool:
        """Whether the day was read again lately, and nothing of it has changed since."""
        at, then = self._read_in_vain.get(day, (None, None))
        return at is not None and now - at < HEALING_PAUSE and held == then
