"""One look of an audit: what is held against the operator's totals of one moment. Asks, and stores nothing.

The operator's totals are of one moment, and calls go on arriving. So the tail is asked in the same document before and
after GetTotals: the totals must be those of what was held and visible before, plus the first few of what arrived
between.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from cdrsync.audit.figures import Comparison, Figures, Interpretation, compare, of_raw
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
)
from cdrsync.errors import BadAnswer, RequestRefused
from cdrsync.model import Batch, Cdr, CdrsAsk, Period, Refusal, Totals, TotalsAsk, Verdict, Window, national
from cdrsync.sync.history import calls_before
from cdrsync.sync.ports import batch_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from zoneinfo import ZoneInfo

    from cdrsync.audit.ports import Ledger
    from cdrsync.sync.ports import Source
    from cdrsync.sync.position import Position

MIDNIGHT_MARGIN = timedelta(seconds=60)
"""So near to midnight by the operator's clock it can't be said which day its totals mean: no alarm, ask later."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The answers of one document, and the rows of that moment."""

    answered_at: datetime
    totals: list[tuple[Period, Batch | Totals | Refusal]]
    holdings: Holdings
    fresh: list[Cdr]  # visible before the totals, not held yet
    behind: bool  # another process is to write them, and may be writing
    arrived: list[Cdr]  # became visible while the document was answered, oldest first
    operator_clock: datetime | None  # what it says, believed or not; aware, UTC


def best(moment: Moment, window: Window, totals: Totals, established: Interpretation) -> Comparison:
    """The comparison that agrees, over every number of arrivals that the totals may already have seen."""
    figures = sum((of_day for day, of_day in moment.holdings.held.items() if day in window), Figures())
    figures += Figures.of_calls(cdr for cdr in moment.fresh if cdr.call_date in window)
    first = comparison = compare(figures, totals, established)
    for cdr in moment.arrived:
        if comparison.agrees or comparison.unusable:
            break
        if cdr.call_date in window:
            figures += Figures.of_calls([cdr])
            comparison = compare(figures, totals, established)
    return comparison if comparison.agrees else first


def ask_totals(source: Source, period: Period, number: str | None = None) -> tuple[Totals, datetime]:
    """The operator's totals of a period, and the moment that they are of. Raises RequestRefused."""
    document = source.ask([TotalsAsk(period, number)])
    return _totals_in(document.answers[0]), document.answered_at


def _totals_in(answer: Batch | Totals | Refusal) -> Totals:
    if isinstance(answer, Refusal):
        raise RequestRefused(f"the operator refused GetTotals: {answer.message}", code=answer.code)
    if not isinstance(answer, Totals):
        raise BadAnswer("the answer to GetTotals holds no totals")
    return answer


class Look:
    """Compares one account with the operator's totals, once."""

    def __init__(
        self, source: Source, ledger: Ledger, position: Position, *, timezone: ZoneInfo, page_size: int
    ) -> None:
        self._source = source
        self._ledger = ledger
        self._position = position
        self._timezone = timezone
        self._page_size = page_size

    def at(
        self, periods: Sequence[Period], number: str | None, *, writer: bool
    ) -> tuple[AuditReport, dict[date, Verdict]]:
        """The report, and the verdict of each day that it speaks of. `writer`: whoever looks writes new calls itself.

        Raises RequestRefused where the operator refuses every period.
        """
        wanted = self._numbers(number)
        established = self._ledger.established()
        findings: list[list[Finding]] = []  # of each number, by period
        to_come = 0
        for one in wanted:
            moment = self._observe(periods, one, writer=writer)
            to_come += len(moment.fresh)
            judged = [self._judge(answer, period, moment, one, established) for period, answer in moment.totals]
            findings.append(accepted_by_a_person(overruled(judged), moment.holdings.ledger))
        holdings = moment.holdings if wanted == (number,) else self._ledger.holdings()
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
            to_come=to_come,
        )
        return report, verdicts(holdings.ledger, of_periods, gaps)

    def refused(self, periods: Sequence[Period], words: str) -> AuditReport:
        """The report of a look that the operator refused."""
        windows = {period: period_window(period, self._position.today()) for period in periods}
        held, meaning = Figures(), Interpretation()
        return AuditReport(
            self._position.now(),
            [Finding(one, windows[one], None, Verdict.UNAUDITED, held, None, meaning, words) for one in periods],
        )

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
            before, after = batch_of(answers[0]).cdrs, batch_of(answers[-1]).cdrs
            answers = answers[1:-1]
        if all(isinstance(answer, Refusal) for answer in answers):
            _totals_in(answers[0])  # raises RequestRefused
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
            operator_clock=document.operator_clock,
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
        totals = _totals_in(answer)
        # Calls of all time are also those dated after today, by a slip or by a clock that is ahead of ours.
        counted = Window(window.first, date.max) if period is Period.ALL else window
        comparison = best(moment, counted, totals, established)
        finding = Finding(
            period,
            window,
            number,
            Verdict.COMPLETE,
            comparison.held,
            totals,
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
        return replace(finding, verdict=Verdict.GAP, problem=problem + self._in_quarantine(period, counted, comparison))

    def _in_quarantine(self, period: Period, window: Window, comparison: Comparison) -> str:
        """How many of the missing calls are in quarantine, with their figures; empty where none can be."""
        missing = 0 if comparison.excess is None else -comparison.excess.calls
        records = [of_raw(raw) for raw in self._ledger.quarantined()]
        undated = [figures for day, figures in records if day is None]
        inside = [figures for day, figures in records if day is not None and day in window]
        if period is Period.ALL:  # the operator counts a record that says no day on some day
            inside, undated = inside + undated, []
        if missing <= 0 or not records:
            return ""
        there = sum(inside, Figures())
        figures = f"({there.duration} seconds, £{there.charge.normalize():f})"
        if there.calls >= missing:
            return f"; {'it is' if missing == 1 else f'all {missing} are'} in quarantine {figures}"
        parts = [f"{there.calls} of the {missing} missing are in quarantine {figures}"] if inside else []
        parts += [f"{len(undated)} in quarantine say no day"] if undated else []
        return "".join(f"; {part}" for part in parts)

    def _excuse(self, period: Period, window: Window, moment: Moment, local: datetime, number: str | None) -> str:
        """Why a disagreement of this period proves nothing; empty where it does."""
        if number is not None and any(day in window for day in moment.holdings.deleted):
            return "retention has deleted calls of its days, and the ledger counts them for all numbers together"
        for shift in (-MIDNIGHT_MARGIN, MIDNIGHT_MARGIN):
            if (local + shift).date() != local.date():
                return "too near to midnight to say which day the operator means"
        clock = moment.operator_clock and moment.operator_clock.astimezone(self._timezone)
        if clock and clock.date() != local.date() and period is not Period.ALL:
            return f"the operator's clock says {clock.date()}, this machine's {local.date()}: cdrsync doctor"
        unread = self._not_downloaded(period, window, number)
        if not unread and moment.behind and period is not Period.LAST_MONTH:
            return "new calls are not stored yet"
        return unread

    def _not_downloaded(self, period: Period, window: Window, number: str | None) -> str:
        """Which calls of a period were never to be held, or not yet; empty where all should be."""
        limited_to = {national(one) for one in self._position.numbers if one is not None}
        if number is not None and limited_to and national(number) not in limited_to:
            return "the account is limited to other numbers"
        start = self._position.start_day()
        if start is None:
            return "the history before it is still being downloaded"
        pending = [day for day in self._position.pending_days() if day in window]
        if pending:
            return f"{len(pending)} of its days are still to be downloaded"
        late = start > window.first and not self._position.wants_all
        if late and (
            period is not Period.ALL or calls_before(self._source, start, self._numbers(number), self._page_size)
        ):
            return f"it begins before start_date, {start}"
        return ""
