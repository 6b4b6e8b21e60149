"""Where an account stands: what is wanted, what is missing, what is due. Reads the database, writes nothing.

The one-shot command, the daemon and the audit all ask here. Nothing is remembered: every answer is the database's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

from cdrsync.model import BEGINNING, Window, utc_now
from cdrsync.sync.streams import Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from cdrsync.sync.ports import ReadStore, SyncSettings

SWEEP_INTERVAL = timedelta(days=1)
DEEP_SWEEP_INTERVAL = timedelta(days=30)
EARLY = 0.95  # of an interval: a scheduler or cron may be a moment early


@dataclass(frozen=True, slots=True)
class HistoryRead:
    """How much of the wanted history is held: whole days, from the first one wanted to yesterday."""

    first: date | None  # None: everything is wanted, and where that begins is not known yet
    wanted: int | None  # days; None like `first`
    read: int  # days

    @property
    def complete(self) -> bool:
        """Whether every day of it was read to its end."""
        return self.wanted == self.read

    def __str__(self) -> str:
        """`5 of 730 days read`."""
        of = f"{self.read:,}" if self.wanted is None else f"{self.read:,} of {self.wanted:,}"
        return f"{of} days read" + (", the beginning is not reached yet" if self.wanted is None else "")


class Position:
    """One account's position, of the numbers and the history that its settings want."""

    def __init__(self, store: ReadStore, settings: SyncSettings, clock: Callable[[], datetime] = utc_now) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self.numbers: tuple[str | None, ...] = settings.numbers or (None,)

    def now(self) -> datetime:
        """The moment, UTC."""
        return self._clock()

    def today(self) -> date:
        """The current day of the account's time zone."""
        return self.now().astimezone(self._settings.timezone).date()

    # ── wanted and missing ─────────────────────────────────────────────────────────────────────────────────────────

    def wanted_since(self) -> date:
        """The first day wanted: what the settings say, or what they have said before where that is earlier.

        BEGINNING means everything. "today" means the day of the first poll ever: it is kept, so that a call in the last
        second before midnight is not missed.
        """
        start = self._settings.start
        if start == "all":
            return BEGINNING
        kept = self._store.checkpoint(Stream.START)
        since = start if isinstance(start, date) else self.anchor() or self.today()
        return since if kept is None or kept.window is None else min(since, kept.window.first)

    @property
    def wants_all(self) -> bool:
        """Whether everything is to be held that the operator has."""
        return self.wanted_since() <= BEGINNING

    def start_day(self) -> date | None:
        """The first day wanted. None where everything is and its beginning is not known yet."""
        since = self.wanted_since()
        return self.first_day() if since <= BEGINNING else since

    def history(self) -> HistoryRead:
        start, yesterday = self.start_day(), self.today() - timedelta(days=1)
        if start is None:
            return HistoryRead(None, None, len(self._store.days_downloaded(Window(BEGINNING, yesterday))))
        wanted = Window(start, yesterday)
        days = len(wanted.days())
        return HistoryRead(start, days, days - len(self.missing(wanted)))

    def first_day(self) -> date | None:
        """The day before which the operator has no call; None while the way back to it is not done."""
        walk = self._store.checkpoint(Stream.HISTORY)
        return walk.window.first if walk is not None and walk.window is not None and walk.done else None

    def anchor(self) -> date | None:
        """The day of the first poll ever, from which on the tail was read."""
        first = self._store.checkpoint(Stream.BOOTSTRAP)
        return None if first is None or first.window is None else first.window.first

    def pending_days(self) -> list[date]:
        """Days from the start to yesterday that no page has completed yet, newest first."""
        start = self.start_day()
        return [] if start is None else self.missing(Window(start, self.today() - timedelta(days=1)))

    def missing(self, window: Window) -> list[date]:
        """Days of a window that no page has completed since all of the account's numbers are wanted, newest first."""
        marks = [self._store.checkpoint(Stream.of(Stream.WANTED, number)) for number in self.numbers]
        since = max((mark.begun_at for mark in marks if mark is not None and mark.begun_at is not None), default=None)
        downloaded = self._store.days_downloaded(window, since=since)
        return [day for day in reversed(window.days()) if day not in downloaded]

    # ── high-water marks ───────────────────────────────────────────────────────────────────────────────────────────

    def tail_stream(self, number: str | None) -> str:
        """The stream whose high-water mark tells which calls to a number are held."""
        return Stream.of(Stream.TAIL, number if number in self.numbers else None)

    def high_water_uid(self, stream: str, number: str | None) -> int | None:
        """How far a stream of a number is read; None before its first page."""
        checkpoint = self._store.checkpoint(Stream.of(stream, number))
        return None if checkpoint is None else checkpoint.high_water_uid

    # ── due ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def due(self, stream: str, *, first_run: bool = False) -> bool:
        """Whether it is time for a look-back or a sweep, by stream. Never where it is switched off.

        A first run has just read everything. One that was cut off has not: what it had read may have changed since. The
        first deep sweep is due an interval after the first poll; one that was cut off is due.
        """
        interval = self._interval(stream)
        if not interval:
            return False
        kept = self._store.checkpoint(stream)
        if stream == Stream.DEEP_SWEEP:
            if kept is not None and not kept.done:
                return True
        elif not first_run and kept is None:
            return True
        now = self._clock()
        return abs(now - self.read_at(stream, now)) >= interval * EARLY  # abs: the host's clock may have been set back

    def read_at(self, stream: str, now: datetime) -> datetime:
        """When a look-back or sweep last began; before the first, when the account was first polled: all was read."""
        checkpoint = self._store.checkpoint(stream) or self._store.checkpoint(Stream.BOOTSTRAP)
        return now if checkpoint is None or checkpoint.begun_at is None else checkpoint.begun_at

    def last_read(self, stream: str, now: datetime) -> datetime:
        """As `read_at`, never in the future."""
        return min(self.read_at(stream, now), now)

    def _interval(self, stream: str) -> timedelta:
        if stream == Stream.DEEP_SWEEP:
            return DEEP_SWEEP_INTERVAL
        if stream == Stream.SWEEP:
            return SWEEP_INTERVAL if self._settings.sweep_days else timedelta()
        return self._settings.lookback_interval if self._settings.lookback else timedelta()
