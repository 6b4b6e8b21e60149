"""The audit: what is held against the operator's own totals, day by day where they differ, and healing.

The operator's totals are of one moment, and calls go on arriving. So the tail is asked in the same document before and
after GetTotals: the totals must be those of what was held and visible before, plus the first few of what arrived
between. Whatever still disagrees is looked at again after a look-back (late records), and only then is a Gap.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from cdrsync.audit.explain import Explanation, explain, suspects
from cdrsync.audit.figures import Comparison, Figures, Interpretation, of_raw
from cdrsync.audit.findings import (
    AuditReport,
    Finding,
    Holdings,
    accepted_by_a_person,
    is_accepted,
    merged,
    narrow,
    overruled,
    period_window,
    stated_days,
    tampered,
    verdicts,
    walked,
    within,
)
from cdrsync.audit.moment import Moment, best, records_of
from cdrsync.errors import BadAnswer, RequestRefused
from cdrsync.model import (
    Batch,
    Cdr,
    CdrsAsk,
    Period,
    Refusal,
    Totals,
    TotalsAsk,
    Verdict,
    Window,
    national,
)
from cdrsync.sync.history import calls_before

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from zoneinfo import ZoneInfo

    from cdrsync.audit.ports import Healer, Ledger
    from cdrsync.model import Gap
    from cdrsync.sync.ports import Source
    from cdrsync.sync.position import Position

ATTEMPTS = 4
"""Looks at a disagreement before it is believed: the first one sends a look-back, the others let arrivals settle."""

HEALING_PAUSE = timedelta(days=7)
"""A day that reading it again did not mend is left alone for so long, unless what is held of it changes: a gap that
nothing mends must not cost the whole history every night."""

MIDNIGHT_MARGIN = timedelta(seconds=60)
"""So near to midnight by the operator's clock it can't be said which day its totals mean: no alarm, ask later."""


class Audit:
    """Compares one account with the operator's totals. Only with a `healer` can it mend anything."""

    def __init__(
        self,
        source: Source,
        ledger: Ledger,
        position: Position,
        healer: Healer | None = None,
        *,
        timezone: ZoneInfo,
        page_size: int,
    ) -> None:
        self._source = source
        self._ledger = ledger
        self._position = position
        self._healer = healer
        self._timezone = timezone
        self._page_size = page_size
        self._read_in_vain: dict[date, tuple[datetime, Figures]] = {}

    def run(self, periods: Sequence[Period], *, number: str | None = None, heal: bool = False) -> AuditReport:
        """Compare the periods; with `heal`, read the days at fault once more and compare again.

        Raises RequestRefused where the operator refuses every period.
        """
        healer = self._healer if heal else None
        observed, days = self._settle(periods, number, healer)
        if healer is not None and observed.gaps:
            observed, days = self._heal(observed, periods, number, healer)
        if number is None:
            self._ledger.record_audit(observed, days)
        return observed

    def accept(self, day: date, note: str) -> Gap | None:
        """Accept the gap that a day lies in, as it is now; answers the gap, None where there is none."""
        report = self.run(list(Period))
        gap = next((gap for gap in report.gaps if gap.window.first <= day <= gap.window.last), None)
        if gap is None or gap.excess is None:
            return None
        excess = gap.excess
        for other in self._ledger.holdings(number=None, up_to_uid=None).ledger:
            if gap.window.first <= other.day <= gap.window.last and other.accepted is not None and other.day != day:
                excess = excess.less(other.accepted)
        self._ledger.accept(day, excess, note, report.audited_at)
        return gap

    def explain(self, day: date) -> Explanation:
        """Ask for a day's calls and say which are held, listed, or different. Stores nothing."""
        return explain(self._source, self._ledger, self._position.numbers, day, self._page_size)

    # ── comparing ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _settle(
        self, periods: Sequence[Period], number: str | None, healer: Healer | None
    ) -> tuple[AuditReport, dict[date, Verdict]]:
        """Look until all agrees, at most ATTEMPTS times. Who may write brings the tail in first."""
        for attempt in range(ATTEMPTS):
            if healer is not None:
                _run(healer.look_back() if attempt == 1 else healer.poll())
            report, days = self._look(periods, number, writer=healer is not None)
            if report.clean:
                break
        return report, days

    def _look(
        self, periods: Sequence[Period], number: str | None, *, writer: bool
    ) -> tuple[AuditReport, dict[date, Verdict]]:
        wanted = self._numbers(number)
        established = self._ledger.established()
        findings: list[list[Finding]] = []  # of each number, by period
        for one in wanted:
            moment = self._observe(periods, one, writer=writer)
            judged = [self._judge(answer, period, moment, one, established) for period, answer in moment.totals]
            findings.append(accepted_by_a_person(overruled(judged), moment.holdings.ledger))
        holdings = moment.holdings if wanted == (number,) else self._ledger.holdings(number=None, up_to_uid=None)
        altered = [] if number is not None else tampered(holdings)
        altered = [gap for gap in altered if not is_accepted(gap.window, gap.excess, holdings.ledger)]
        known = {gap.window.first for gap in altered}
        gaps = altered + [gap for of_one in findings for gap in narrow(of_one, known)]
        of_periods = findings[0] if number is not None else [merged(of_one) for of_one in zip(*findings, strict=True)]
        proven = any(f.period is Period.ALL and f.verdict is Verdict.COMPLETE for f in of_periods) and not altered
        report = AuditReport(
            moment.answered_at,
            of_periods,
            gaps,
            stated_days(of_periods),
            history=self._position.history() if number is None else None,
            proven=proven,
            first_proof=proven and number is None and not self._ledger.proven_before(),
        )
        return report, verdicts(holdings.ledger, of_periods, gaps)

    def _numbers(self, number: str | None) -> tuple[str | None, ...]:
        return self._position.numbers if number is None else (number,)

    def _observe(self, periods: Sequence[Period], number: str | None, *, writer: bool) -> Moment:
        """Tail, totals, tail: one document, so one moment; then the rows of that moment."""
        mark = self._ledger.checkpoint(self._position.tail_stream(number))
        uid = None if mark is None else mark.high_water_uid
        asks: list[CdrsAsk | TotalsAsk] = [TotalsAsk(period, number) for period in periods]
        if uid is not None:
            tail = CdrsAsk(limit=self._page_size, after_uid=uid, number=number)
            asks = [tail, *asks, tail]
        document = self._source.ask(asks)
        answers = document.answers
        before: list[Cdr] = []
        after: list[Cdr] = []
        if uid is not None:
            before, after = records_of(answers[0]), records_of(answers[-1])
            answers = answers[1:-1]
        if all(isinstance(answer, Refusal) for answer in answers):
            refusal = next(answer for answer in answers if isinstance(answer, Refusal))
            raise RequestRefused(f"the operator refused GetTotals: {refusal.message}", code=refusal.code)
        top = max((cdr.uid for cdr in before), default=uid)
        holdings = self._ledger.holdings(number=number, up_to_uid=top)
        known = self._ledger.held_uids(cdr.uid for cdr in before)
        seen = {cdr.uid for cdr in before}
        fresh = [cdr for cdr in before if cdr.uid not in known]
        return Moment(
            document.answered_at,
            list(zip(periods, answers, strict=True)),
            holdings,
            fresh=fresh,
            behind=bool(fresh) and not writer,
            arrived=sorted((cdr for cdr in after if cdr.uid not in seen), key=lambda cdr: cdr.uid),
        )

    def _judge(
        self,
        answer: Batch | Totals | Refusal,
        period: Period,
        moment: Moment,
        number: str | None,
        established: Interpretation,
    ) -> Finding:
        local = moment.answered_at.astimezone(self._timezone)
        window = period_window(period, local.date())
        if isinstance(answer, Refusal):
            problem = f"the operator refused: {answer.message}"
            return Finding(period, window, number, Verdict.UNAUDITED, Figures(), None, established, problem)
        if not isinstance(answer, Totals):
            raise BadAnswer("the answer to GetTotals holds no totals")
        comparison = best(moment, window, answer, established)
        finding = Finding(
            period,
            window,
            number,
            Verdict.COMPLETE,
            comparison.held,
            answer,
            comparison.interpretation,
            remark="; ".join(comparison.remarks),
            excess=comparison.excess,
        )
        if comparison.agrees:
            return finding
        if comparison.unusable:
            problem = f"the operator's totals can't be read: {'; '.join(comparison.unusable)}"
            return replace(finding, verdict=Verdict.UNAUDITED, problem=problem)
        excuse = self._excuse(period, window, moment, local, number)
        problem = "; ".join(comparison.differences)
        if excuse:
            return replace(finding, verdict=Verdict.UNAUDITED, problem=f"{problem} ({excuse})")
        return replace(finding, verdict=Verdict.GAP, problem=problem + self._in_quarantine(period, window, comparison))

    def _in_quarantine(self, period: Period, window: Window, comparison: Comparison) -> str:
        """How many of the missing calls are in quarantine, with their figures; empty where none can be."""
        missing = 0 if comparison.excess is None else -comparison.excess.calls
        records = [of_raw(raw) for raw in self._ledger.quarantined()]
        undated = [figures for day, figures in records if day is None]
        inside = [figures for day, figures in records if day is not None and window.first <= day <= window.last]
        if period is Period.ALL:  # the operator counts a record that says no day on some day
            inside, undated = inside + undated, []
        if missing <= 0 or not records:
            return ""
        there = Figures.of(inside)
        figures = f"({there.duration} seconds, £{there.charge.normalize():f})"
        if there.calls >= missing:
            return f"; {'it is' if missing == 1 else f'all {missing} are'} in quarantine {figures}"
        parts = [f"{there.calls} of the {missing} missing are in quarantine {figures}"] if inside else []
        parts += [f"{len(undated)} in quarantine say no day"] if undated else []
        return "".join(f"; {part}" for part in parts)

    def _excuse(self, period: Period, window: Window, moment: Moment, local: datetime, number: str | None) -> str:
        """Why a disagreement of this period proves nothing; empty where it does."""
        if number is not None and any(window.first <= day <= window.last for day in moment.holdings.deleted):
            return "retention has deleted calls of its days, and the ledger counts them for all numbers together"
        for shift in (-MIDNIGHT_MARGIN, MIDNIGHT_MARGIN):
            if (local + shift).date() != local.date():
                return "too near to midnight to say which day the operator means"
        if moment.behind and period is not Period.LAST_MONTH:
            return "new calls are not stored yet"
        return self._not_downloaded(period, window, number)

    def _not_downloaded(self, period: Period, window: Window, number: str | None) -> str:
        """Which calls of a period were never to be held, or not yet; empty where all should be."""
        limited_to = {national(one) for one in self._position.numbers if one is not None}
        if number is not None and limited_to and national(number) not in limited_to:
            return "the account is limited to other numbers"
        start = self._position.start_day()
        if start is None:
            return "the history before it is still being downloaded"
        pending = [day for day in self._position.pending_days() if window.first <= day <= window.last]
        if pending:
            return f"{len(pending)} of its days are still to be downloaded"
        late = start > window.first and not self._position.wants_all
        if late and (
            period is not Period.ALL or calls_before(self._source, start, self._numbers(number), self._page_size)
        ):
            return f"it begins before start_date, {start}"
        return ""

    # ── healing ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _heal(
        self, found: AuditReport, periods: Sequence[Period], number: str | None, healer: Healer
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
        held = _by_day(self._ledger.holdings(number=None, up_to_uid=None))
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
        held = _by_day(self._ledger.holdings(number=None, up_to_uid=None))
        days = {day for gap in report.gaps for day in self._days_of(gap)}
        return {day for day in days if not self._was_in_vain(day, held.get(day, Figures()), report.audited_at)}

    def _days_of(self, gap: Gap) -> set[date]:
        """The days of a gap, from the first one that is wanted or held."""
        start = self._position.start_day()
        first = min(self._ledger.days(), default=gap.window.last)
        return set(within(gap.window, first if start is None else min(first, start), self._position.today()))

    def _recount(self, listed: Mapping[date, Mapping[int, Cdr]]) -> None:
        """Have the ledger follow the rows where they are what the operator lists: a row too many stays in sight."""
        held = _by_day(self._ledger.holdings(number=None, up_to_uid=None))
        self._ledger.recount(
            day for day, calls in listed.items() if Figures.of_calls(calls.values()) == held.get(day, Figures())
        )

    def _was_in_vain(self, day: date, held: Figures, now: datetime) -> bool:
        """Whether the day was read again lately, and nothing of it has changed since."""
        at, then = self._read_in_vain.get(day, (None, None))
        return at is not None and now - at < HEALING_PAUSE and held == then


def _by_day(holdings: Holdings) -> dict[date, Figures]:
    return {day.day: Figures.of([day]) for day in holdings.rows}


def _run(pages: Iterable[object]) -> None:
    for _ in pages:
        pass
