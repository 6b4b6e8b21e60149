"""What an audit finds: from disagreeing periods to the days at fault. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from cdrsync.audit.figures import PENNY, Figures, Interpretation, Stated
from cdrsync.model import BEGINNING, Excess, Gap, LedgerDay, Period, Totals, Verdict, Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdrsync.sync.position import HistoryRead


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the database holds at one moment (one read transaction)."""

    held: dict[date, Figures]  # counted from the rows up to the uid asked for
    rows: dict[date, Figures]  # counted from all rows
    ledger: list[LedgerDay]
    deleted: frozenset[date] = frozenset()  # days whose calls retention has deleted: the ledger is what is left


@dataclass(frozen=True, slots=True)
class Finding:
    """What the audit says of one period. `problem` is empty where the verdict is COMPLETE."""

    period: Period
    window: Window
    number: str | None
    verdict: Verdict
    held: Figures
    totals: Totals | None
    interpretation: Interpretation
    problem: str = ""
    remark: str = ""
    excess: Excess | None = None  # of what is held, where it differs


@dataclass(frozen=True, slots=True)
class AuditReport:
    """One audit: a finding for each period, the gaps left, and the days that healing mended."""

    audited_at: datetime  # the operator's clock, UTC
    findings: list[Finding]
    gaps: list[Gap] = field(default_factory=list)
    stated: dict[date, Stated] = field(default_factory=dict)  # the operator's figures of single days
    healed: tuple[date, ...] = ()
    records_healed: int = 0
    tried: bool = False  # the days at fault were read again, by date and by uid
    history: HistoryRead | None = None  # of the whole account
    proven: bool = False  # `all` agrees: nothing is missing
    first_proof: bool = False  # ... for the first time
    to_come: int = 0  # calls that count as held, but are still to be stored by a poll

    @property
    def clean(self) -> bool:
        """Whether no gap is left."""
        return not self.gaps

    @property
    def unread(self) -> bool:
        """Whether history is wanted that was not read yet."""
        return self.history is not None and not self.history.complete


def period_window(period: Period, today: date) -> Window:
    """The days that a period of GetTotals means: UK days, weeks from Monday."""
    month = today.replace(day=1)
    match period:
        case Period.DAY:
            return Window(today, today)
        case Period.WEEK:
            return Window(today - timedelta(days=today.weekday()), today)
        case Period.MONTH:
            return Window(month, today)
        case Period.LAST_MONTH:
            last = month - timedelta(days=1)
            return Window(last.replace(day=1), last)
        case Period.ALL:
            return Window(BEGINNING, today)


def tampered(holdings: Holdings) -> list[Gap]:
    """Days whose rows are not what was written: changed behind cdrsync's back."""
    ledger = {day.day: Figures(day.calls, day.duration, day.charge) for day in holdings.ledger}
    gaps = []
    for day in sorted(holdings.rows.keys() | ledger.keys()):
        is_held, written = holdings.rows.get(day, Figures()), ledger.get(day, Figures())
        if is_held != written:
            problem = (
                f"the table holds {is_held.calls} calls, {is_held.duration} s, £{is_held.charge.normalize():f}; "
                f"cdrsync wrote {written.calls} calls, {written.duration} s, £{written.charge.normalize():f}"
            )
            gaps.append(Gap(Window(day, day), problem, (is_held - written).excess))
    return gaps


def overruled(findings: Sequence[Finding]) -> list[Finding]:
    """The findings of one look, without the gaps of periods that lie in one that agrees: that one vouches for them.

    On which day the operator's week begins is not documented, nor by which clock its day does.
    """
    vouched = [finding for finding in findings if finding.verdict is Verdict.COMPLETE]
    left = []
    for finding in findings:
        first, last = finding.window.first, finding.window.last
        around = next((sure for sure in vouched if first in sure.window and last in sure.window), None)
        if finding.verdict is Verdict.GAP and around is not None:
            problem = f"{finding.problem} ({around.period}, which holds all of its days, agrees)"
            left.append(replace(finding, verdict=Verdict.UNAUDITED, problem=problem))
        else:
            left.append(finding)
    return left


def merged(findings: Sequence[Finding]) -> Finding:
    """One finding of a period for an account out of those of its numbers: the worst verdict, sums, all problems."""
    first = findings[0]
    if len(findings) == 1:
        return replace(first, number=None)
    order = (Verdict.COMPLETE, Verdict.ACCEPTED, Verdict.UNAUDITED, Verdict.GAP)
    worst = max(findings, key=lambda finding: order.index(finding.verdict))
    return Finding(
        first.period,
        first.window,
        None,
        worst.verdict,
        sum((finding.held for finding in findings), Figures()),
        None,  # the operator states none for several numbers together
        worst.interpretation,
        problem="; ".join(f"{finding.number}: {finding.problem}" for finding in findings if finding.problem),
        remark="; ".join(f"{finding.number}: {finding.remark}" for finding in findings if finding.remark),
    )


def narrow(findings: Sequence[Finding], known: set[date]) -> list[Gap]:
    """The days at fault, as far as the periods tell: those of a disagreeing period that no agreeing one vouches for.

    A shorter disagreeing period explains the longer ones around it, and so does a day already known to be at fault.
    """
    disagreeing = [finding for finding in findings if finding.verdict is Verdict.GAP]
    vouched = [finding.window for finding in findings if finding.verdict in (Verdict.COMPLETE, Verdict.ACCEPTED)]
    gaps: list[Gap] = []
    explained = set(known)
    for finding in sorted(disagreeing, key=lambda finding: finding.window.last - finding.window.first):
        window = finding.window
        if any(day in window for day in explained):
            continue
        for sure in sorted(vouched, key=lambda sure: sure.last, reverse=True):
            if window.last in sure and sure.first > window.first:
                window = Window(window.first, sure.first - timedelta(days=1))
        gaps.append(Gap(window, f"{finding.period}: {finding.problem}", finding.excess))
        explained.add(window.last)
    return gaps


def stated_days(findings: Sequence[Finding]) -> dict[date, Stated]:
    """What the operator states of single days: of today, and of a day by which one period is longer than another."""
    periods = [(f.window, Stated.of(f.totals, f.interpretation)) for f in findings if f.totals is not None]
    days = {window.first: stated for window, stated in periods if window.first == window.last}
    for outer, all_of_it in periods:
        for inner, rest in periods:
            if inner.last == outer.last and inner.first - outer.first == timedelta(days=1):
                days[outer.first] = all_of_it.less(rest)
    return days


def accepted_by_a_person(findings: Sequence[Finding], ledger: Sequence[LedgerDay]) -> list[Finding]:
    """The findings; a gap that is what a person accepted of its days, to the call, second and penny, is none."""
    return [
        replace(finding, verdict=Verdict.ACCEPTED)
        if finding.verdict is Verdict.GAP and is_accepted(finding.window, finding.excess, ledger)
        else finding
        for finding in findings
    ]


def is_accepted(window: Window, excess: Excess | None, ledger: Sequence[LedgerDay]) -> bool:
    """Whether the accepted days of a window explain all of an excess."""
    accepted = [day.accepted for day in ledger if day.day in window and day.accepted is not None]
    if excess is None or not accepted:
        return False
    for one in accepted:
        excess = excess.less(one)
    return excess.none_left(PENNY)


def verdicts(ledger: Sequence[LedgerDay], findings: Sequence[Finding], gaps: Sequence[Gap]) -> dict[date, Verdict]:
    """The verdict of each day in the ledger that this audit speaks of. A healed day stays healed while it agrees."""
    verdicts: dict[date, Verdict] = {}
    for entry in ledger:
        day = entry.day
        agrees = Verdict.HEALED if entry.verdict is Verdict.HEALED else Verdict.COMPLETE
        said = {finding.verdict for finding in findings if day in finding.window}
        if any(day in gap.window for gap in gaps):
            verdicts[day] = Verdict.GAP
        elif Verdict.COMPLETE in said:
            verdicts[day] = agrees
        elif Verdict.ACCEPTED in said:
            verdicts[day] = agrees if entry.accepted is None else Verdict.ACCEPTED
    return verdicts


def within(window: Window, first: date, last: date) -> list[date]:
    """Days of the window between `first` and `last`, both included, oldest first."""
    start, end = max(window.first, first), min(window.last, last)
    return Window(start, end).days() if start <= end else []


def walked(report: AuditReport, gaps: Sequence[Gap]) -> list[Window]:
    """The windows whose uids are to be walked over: those of gaps, or everything where they don't explain all."""
    everything = [f for f in report.findings if f.period is Period.ALL and f.verdict is Verdict.GAP]
    explained = sum(gap.excess.calls for gap in report.gaps if gap.excess is not None)
    if any(finding.excess is None or finding.excess.calls != explained for finding in everything):
        return [finding.window for finding in everything]
    return [gap.window for gap in gaps]
