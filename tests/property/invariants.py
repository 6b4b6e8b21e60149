"""What must be true of every run, whatever the operator, the network, the database and the clock do.

No record lost: each is held by the step within whose stated horizon it fell; what no date shows, by steps that read by
uid. None overwritten by another call. The
checkpoint is never ahead of the data and never goes back. An idle poll costs one request a number.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from cdrsync.model import Cdr, Checkpoint, Origin, Page, Reject
from cdrsync.sync.streams import Stream
from tests.property.operator import LONDON, Call
from tests.property.world import RESET_MARGIN, Plan
from tests.support.memory import held_as

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.support.memory import MemoryStore


class Violation(AssertionError):
    """A promise was broken."""


def uk_day(at: float) -> date:
    """The day that a UK calendar shows at a moment."""
    return datetime.fromtimestamp(at, LONDON).date()


class Invariants:
    """Watches one run's commits. `begun` is when the step under way began, in the operator's time."""

    def __init__(self, plan: Plan, store: MemoryStore) -> None:
        self._plan = plan
        self._store = store
        self._numbers = plan.settings.numbers
        self._wanted = [call for call in plan.calls if not self._numbers or call.number in self._numbers]
        self._days: defaultdict[date, list[Call]] = defaultdict(list)
        for call in self._wanted:
            self._days[call.day].append(call)
        self._by_visible = sorted(self._wanted, key=lambda call: call.visible)
        self._visible = [call.visible for call in self._by_visible]
        changes = ((max(at, call.visible), n, call) for call in self._wanted for n, at in enumerate(call.changed, 1))
        self._changes = sorted(changes, key=lambda change: change[:2])
        self._changed = [at for at, _, _ in self._changes]
        self._shown_from: dict[int, int] = {}
        for call in self._wanted:
            self._shown_from[call.uid] = min(call.visible, self._shown_from.get(call.uid, call.visible))
        self._marks: dict[str, int] = {}
        self._moved_at: dict[str, float] = {}
        self._passed = {Stream.LOOKBACK: (0, 0), Stream.SWEEP: (0, 0)}
        self._deep: tuple[int, int] = (0, 0)  # the uids that the deep sweep under way walks over: after, up to
        self.begun = 0.0
        self._lowest_held = 0
        self._marked_at: dict[str, float] = {}  # when each number's mark first came to be
        self.skipped_first = False  # a first one-shot run marks look-back and sweep without reading

    # ── commits ────────────────────────────────────────────────────────────────────────────────────────────────────

    def committed(self, page: Page, now: float) -> None:
        """Look at a page that has just been committed."""
        for day in page.completes:
            if not self._plan.vanishing:
                self._require(_dated(self._days[day]), self.begun, now, f"{day} is marked downloaded")
        if page.origin is not Origin.LOOKBACK:
            self._lowest_held = min(self._store.rows, default=0)
        if page.checkpoint is not None:
            self._moved(page.checkpoint, now)

    def _moved(self, checkpoint: Checkpoint, now: float) -> None:
        if checkpoint.stream.startswith(Stream.TAIL):
            self._mark_moved(checkpoint.stream, now)
        elif checkpoint.stream == Stream.LOOKBACK and checkpoint.begun_at is not None:
            self._looked_back(checkpoint.begun_at.timestamp() - self._plan.skew, now)
        elif checkpoint.stream == Stream.SWEEP and checkpoint.begun_at is not None:
            self._swept(checkpoint.begun_at.timestamp() - self._plan.skew, now)
        elif checkpoint.stream == Stream.DEEP_SWEEP and checkpoint.begun_at is not None:
            if checkpoint.lowers:  # the walk begins
                self._deep = checkpoint.high_water_uid or 0, min(self._marks.values(), default=0)
            if checkpoint.done:
                self._swept_deeply(checkpoint.begun_at.timestamp() - self._plan.skew, now)

    def _mark_moved(self, stream: str, now: float) -> None:
        mark = self._store.checkpoints[stream].high_water_uid
        old = self._marks.get(stream)
        if mark is None or (old is not None and mark < old):
            raise Violation(f"the high-water mark of {stream} went from {old} to {mark}")
        if mark == old:
            return
        self._marks[stream], self._moved_at[stream] = mark, now
        self._marked_at.setdefault(stream, now)
        if self._shown_from.get(mark, now + 1) > now:
            raise Violation(f"{stream} moved to {mark}, a uid that the operator has not shown")
        if self._plan.vanishing or (old is not None and not self.tail_in_order()):
            return
        anchor = self._anchor()
        number = stream.partition(":")[2]
        below = (
            call
            for call in self._wanted
            if call.uid <= mark and (call.uid > old if old is not None else anchor <= call.day <= self._today())
            if (not number or call.number == number) and not self._after_reset(call)
            if old is not None or not call.dateless
        )
        self._require(below, self.begun, now, f"{stream} moved from {old} to {mark}")

    def _looked_back(self, begun: float, now: float) -> None:
        if self.skipped_first or self._plan.vanishing or len(self._marks) < len(self._numbers or ("",)):
            return  # without a mark there is nothing to look back from: the next poll reads by date
        anchor = self._anchor()
        horizon = self._plan.settings.lookback.total_seconds() - abs(self._plan.skew)
        first = self._lowest_held  # what lies below all that was held when it began is for the days to find

        def hidden(call: Call) -> bool:  # until there is a mark, polls read by date
            stream = f"{Stream.TAIL}:{call.number}" if self._numbers else Stream.TAIL
            return call.dateless and call.visible <= self._marked_at.get(stream, now)

        calls, changes = self._news(Stream.LOOKBACK, begun)
        late = (
            call
            for call in calls
            if call.day >= anchor and call.visible - call.start <= horizon and not self._after_reset(call)
            if call.uid > first and not hidden(call)
        )
        self._require(late, begun, now, "looked back")
        for at, version, call in changes:
            in_horizon = call.day >= anchor and at - call.start <= horizon and call.uid > first and not hidden(call)
            if in_horizon and not self._after_reset(call):
                self._require_version(call, version, now, "looked back")

    def _swept(self, begun: float, now: float) -> None:
        if self.skipped_first:
            return
        today = uk_day(begun + self._plan.skew)  # by the host's clock, as the sweep counts its days
        anchor, first = self._anchor(), today - timedelta(days=self._plan.settings.sweep_days - 1)
        start = self._plan.settings.start
        if isinstance(start, date):
            first = max(first, start)
        elif start == "today":
            first = anchor

        def covered(call: Call, at: float) -> bool:
            known = call.day >= min(anchor, first) or (call.day in self._store.downloaded and call.day >= first)
            return known and self.in_horizon(call, at) and call.day <= self._today() and not call.dateless

        calls, changes = self._news(Stream.SWEEP, begun)
        if not self._plan.vanishing:
            self._require((call for call in calls if covered(call, call.visible)), begun, now, "swept")
            for at, version, call in changes:
                if covered(call, at):
                    self._require_version(call, version, now, "swept")
        self._reset_noticed(begun, now)

    def _swept_deeply(self, begun: float, now: float) -> None:
        """After a deep sweep: what was visible when it began is held as it was then, whatever dates hide."""
        if self._plan.vanishing or not self.tail_in_order() or len(self._marks) < len(self._numbers or ("",)):
            return
        after, until = self._deep
        walked = [call for call in self._wanted if after < call.uid <= until and not self._after_reset(call)]
        self._require(walked, begun, now, "swept deeply")
        for call in walked:
            if call.visible <= begun:
                self._require_version(call, call.version(begun), now, "swept deeply")

    # ── after steps ────────────────────────────────────────────────────────────────────────────────────────────────

    def marks(self) -> dict[str, int]:
        """The high-water marks now."""
        return dict(self._marks)

    def polled(self, begun: float, before: dict[str, int], now: float) -> None:
        """After a poll: whatever was visible when it began, with a uid above the mark, is held at once."""
        if self._plan.vanishing:
            return
        anchor = self._anchor()
        for number in self._numbers or ("",):
            mark = before.get(f"{Stream.TAIL}:{number}" if number else Stream.TAIL)
            if mark is not None and not self.tail_in_order():
                continue
            fresh = (
                call
                for call in self._wanted
                if (call.uid > mark if mark is not None else anchor <= call.day <= self._today())
                if (not number or call.number == number) and not self._after_reset(call)
                if mark is not None or not call.dateless
            )
            self._require(fresh, begun, now, f"polled after {mark}")

    def ended(self, begun: float, now: float) -> None:
        """After a last poll, look-back, backfill and sweep in peace: the whole table."""
        start = self._plan.settings.start
        first = self._anchor() if start == "today" else start if isinstance(start, date) else date.min
        swept = uk_day(begun) - timedelta(days=self._plan.settings.sweep_days - 1)
        for call in _dated(self._wanted):
            if call.day < first or not self.in_horizon(call, call.visible):
                continue
            self._require([call], begun, now, "ended")
            if not (call.visible <= begun and call.shown(now)):
                continue
            known = [at for at in call.changed if at <= begun and (call.day >= swept or self.in_horizon(call, at))]
            self._require_version(call, len(known), now, "ended")

    def tail_in_order(self) -> bool:
        """Whether LastId pages come in an order of uids, without which only a look-back proves anything."""
        return self._plan.habits.tail_order in ("uid", "uid-desc")

    def in_horizon(self, call: Call, at: float) -> bool:
        """Whether what happened to a call then is young enough for a sweep."""
        return (uk_day(at + abs(self._plan.skew)) - call.day).days < self._plan.settings.sweep_days

    # ── parts ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _anchor(self) -> date:
        checkpoint = self._store.checkpoints.get(Stream.BOOTSTRAP, Checkpoint(Stream.BOOTSTRAP))
        return date.max if checkpoint.window is None else checkpoint.window.first

    def _today(self) -> date:
        """The day of the step under way by the host's clock: of a later one nothing can be asked yet."""
        return uk_day(self.begun + self._plan.skew)

    def _after_reset(self, call: Call) -> bool:
        return call.assigned >= self._plan.reset_at

    def _news(self, stream: str, begun: float) -> tuple[list[Call], list[tuple[int, int, Call]]]:
        """Calls and changes that became visible since the last step of this kind."""
        calls, changes = self._passed[stream]
        upto = bisect_right(self._visible, begun), bisect_right(self._changed, begun)
        self._passed[stream] = max(calls, upto[0]), max(changes, upto[1])
        return self._by_visible[calls : upto[0]], self._changes[changes : upto[1]]

    def _require(self, calls: Iterable[Call], visible_by: float, now: float, when: str) -> None:
        for call in self._missing(calls, visible_by, now):
            seen = datetime.fromtimestamp(call.visible, LONDON)
            began = datetime.fromtimestamp(call.start, LONDON)
            raise Violation(f"{when}, but uid {call.uid} that began {began} and was visible from {seen} is not held")

    def _missing(self, calls: Iterable[Call], visible_by: float, now: float) -> Iterator[Call]:
        for call in calls:
            if call.visible <= visible_by and now < call.vanish and not self._present(call):
                yield call

    def _present(self, call: Call) -> bool:
        record = call.records[0]
        if isinstance(record, Reject):
            return record.raw in self._store.rejects
        row = self._store.rows.get(call.uid)
        return row is not None and row.ref == record.ref

    def _require_version(self, call: Call, version: int, now: float, when: str) -> None:
        if not call.shown(now) or any(
            held_as(self._store, record) for record in (*call.records[version:], *call.tail_records[version:])
        ):
            return
        row, record = self._store.rows.get(call.uid), call.records[version]
        cost = record.user_cost if isinstance(record, Cdr) else None
        raise Violation(
            f"{when}, but uid {call.uid} is held as {row and (row.duration, row.user_cost)}, "
            f"not as version {version} with cost {cost}"
        )

    def _reset_noticed(self, begun: float, now: float) -> None:
        """After a sweep that raised nothing: no call in its window gives the new sequence away."""
        if not self._marks or now < self._plan.reset_at:
            return
        stream = max(self._marks, key=lambda stream: self._marks[stream])
        mark, since = self._marks[stream], self._moved_at[stream] + RESET_MARGIN + abs(self._plan.skew)
        for call in _dated(self._wanted):
            if (
                call.uid < mark
                and call.start > since
                and call.visible <= begun
                and call.shown(now)
                and isinstance(call.records[0], Cdr)
            ):
                raise Violation(f"swept, but the sequence that fell to {call.uid} below {mark} went unnoticed")


def _dated(calls: Iterable[Call]) -> Iterator[Call]:
    return (call for call in calls if not call.dateless)
