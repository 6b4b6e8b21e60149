"""The operator's state: logins, their calls, and everything that befalls them as time goes by."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple

from cdrsync.sandbox.calls import SETTLING, Call, CallMaker, Totals, dice, london, start_times, uid_at
from cdrsync.sandbox.records import Records
from cdrsync.sandbox.sessions import Sessions
from cdrsync.sandbox.settings import DEMO_LOGIN, Login, Settings
from cdrsync.sandbox.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import date

PERIODS = ("day", "week", "month", "last-month", "all")
REQUESTS_KEPT = 1000
DAY = 86400  # seconds


class RequestSeen(NamedTuple):
    """One request as it was answered. SessionLogin's parameters are left out."""

    at: float  # Unix seconds
    target: str
    name: str
    parameters: dict[str, str]
    code: str
    records: int


class Account:
    """One login and its calls."""

    def __init__(self, login: Login, seed: object) -> None:
        self.login = login
        self.maker = CallMaker(seed)
        self.records = Records()


class World:
    """The stand-in's whole state; every public method may be called from any thread. Its parts rely on its lock.

    `clock` answers Unix seconds and decides what is visible, which sessions live, and which day "today" is. The same
    seed and the same calls of these methods give the same world.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        logins: Sequence[Login] = (DEMO_LOGIN,),
        clock: Callable[[], float] = time.time,
        seed: int = 1,
    ) -> None:
        self.settings = settings or Settings()
        self.clock = clock
        self.seed = seed
        self.lock = RLock()
        self.sessions = Sessions(seed)
        self.counts: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.requests: deque[RequestSeen] = deque(maxlen=REQUESTS_KEPT)
        self._accounts = {login.username: Account(login, f"{seed}/{n}") for n, login in enumerate(logins)}
        self._timeline = Timeline()
        self.rng = dice("world", seed)
        self._last_uid = 0
        self._uid_shift = 0
        self._stream = 0  # number of the running stream of live calls; those of earlier ones have ended
        self._start_stream(clock())

    # What a test or a campaign does to the world

    def configure(self, **changes: Any) -> None:
        """Replace fields of `settings`. Raises TypeError for a field that does not exist."""
        with self.lock:
            self.settle()
            self.settings = replace(self.settings, **changes)
            if "rate" in changes:
                self._start_stream(self.clock())

    def add_history(self, calls: int, days: float, *, username: str | None = None) -> None:
        """So many believable calls over the days up to now. What is not over yet, or late, becomes visible in time."""
        with self.lock:
            now = self.settle()
            account = self.account(username)
            uid = 0
            for started in start_times(self.rng, calls, now - days * DAY, now - SETTLING):
                uid = self._free_uid(max(uid + 1, uid_at(started) + self._uid_shift))
                call = self._made(account, uid, started)
                ended: float = started + _length(call)
                if ended > now and self.settings.appear == "at-end":
                    call, ended = account.maker.moved(call, int(now) - _length(call)), now
                self.take_in(account, call, ended, now)
            self._last_uid = max(self._last_uid, uid)

    def add(self, *, username: str | None = None, **fields: Any) -> Call:
        """A call that is visible at once. `fields` are those of `Call`; the rest is made up, ending now."""
        return self.add_late(0, username=username, **fields)

    def add_late(self, delay: float, *, username: str | None = None, **fields: Any) -> Call:
        """A call whose uid is handed out now (or given), visible `delay` seconds later."""
        with self.lock:
            now = self.settle()
            account = self.account(username)
            call = account.maker.make(int(fields["uid"]) if "uid" in fields else self._next_uid(now), int(now))
            started = int(fields.get("started", now - _length(call)))
            call = account.maker.moved(call, started)._replace(**fields)
            if self._owner(call.uid) is not None:
                raise ValueError(f"uid {call.uid} is already taken")
            self._last_uid = max(self._last_uid, call.uid)
            account.records.add(call, visible=delay <= 0)
            if delay > 0:
                self._timeline.at(now + delay, lambda _: self._show(account, call.uid))
            return call

    def change(self, uid: int, *, delay: float = 0, **fields: Any) -> None:
        """A later change of a call, now or in `delay` seconds. Raises KeyError where there is no such call now."""
        with self.lock:
            now = self.settle()
            account = self._owner(uid)
            if account is None:
                raise KeyError(uid)
            account.records.calls[uid]._replace(**fields)  # a wrong field fails here, not when it is due
            if delay > 0:
                self._timeline.at(now + delay, lambda _: self._change(account, uid, fields))
            else:
                self._change(account, uid, fields)

    # What a test or a campaign compares with

    def records(self, username: str | None = None, *, visible: bool = True) -> list[Call]:
        """Calls by ascending uid: those visible now, or all that have a uid."""
        with self.lock:
            self.settle()
            records = self.account(username).records
            uids = records.visible_uids if visible else sorted(records.calls)
            return [records.calls[uid] for uid in uids]

    def totals(self, period: str = "day", *, number: str | None = None, username: str | None = None) -> Totals:
        """The exact sums behind GetTotals. Raises ValueError for a period that the reference page doesn't name."""
        with self.lock:
            first, last = period_days(period, london(self.settle()).date(), self.settings.week_begins)
            return self.account(username).records.totals(first, last, number)

    def counters(self) -> dict[str, Any]:
        with self.lock:
            self.settle()
            return {
                **{name: self.counts[name] for name in COUNTED},
                "visible": sum(len(account.records.visible_uids) for account in self._accounts.values()),
                "issued": sum(len(account.records.calls) for account in self._accounts.values()),
                "requests": dict(self.asked),
            }

    @property
    def logins(self) -> list[Login]:
        """In the order given."""
        return [account.login for account in self._accounts.values()]

    # What the operator itself uses, with the lock held

    def account(self, username: str | None = None) -> Account:
        """The account of a login, the first one for None. Raises KeyError where there is none."""
        return next(iter(self._accounts.values())) if username is None else self._accounts[username]

    def settle(self) -> float:
        """Let everything happen that is due, and answer the Unix second of it."""
        now = self.clock()
        with self.lock:
            self._timeline.run(now)
        return now

    def log_in(self, username: str, password: str, vkey: str) -> str | None:
        """A session id, or None where one of the three is wrong."""
        account = self._accounts.get(username)
        if account is None or account.login != Login(username, password, vkey):
            self.counts["login_refusals"] += 1
            return None
        self.counts["logins"] += 1
        return self.sessions.begin(username, self.clock(), self.settings)

    def session_account(self, session_id: str) -> Account | None:
        """Whose session it is, None where it is refused."""
        username = self.sessions.username(session_id, self.clock(), self.settings)
        if username is None:
            self.counts["session_refusals"] += 1
            return None
        return self._accounts[username]

    # How calls come about

    def _start_stream(self, now: float) -> None:
        self._stream += 1
        if self.settings.rate > 0:
            self._next_arrival(now, self._stream)

    def _next_arrival(self, now: float, stream: int) -> None:
        self._timeline.at(now + self.rng.expovariate(self.settings.rate), lambda at: self._arrive(at, stream))

    def _arrive(self, at: float, stream: int) -> None:
        if stream != self._stream:
            return
        self._next_arrival(at, stream)
        account = self.rng.choice(list(self._accounts.values()))
        call = self._made(account, self._next_uid(at), int(at))
        visible_at = at
        if self.settings.appear == "at-end":
            call = account.maker.moved(call, int(at) - _length(call))
        else:
            visible_at += _length(call)
        self.counts["live"] += 1
        self.take_in(account, call, visible_at, at)

    def _made(self, account: Account, uid: int, started: int) -> Call:
        return account.maker.make(uid, started, flags_absent=self.settings.absent_flags_share)

    def take_in(self, account: Account, call: Call, visible_at: float, now: float) -> None:
        """A call with its fate: late or not, changed later or not."""
        settings, rng = self.settings, self.rng
        if settings.late_share and rng.random() < settings.late_share:
            visible_at += self._between(*settings.late_delay)
            self.counts["late"] += visible_at > now
        account.records.add(call, visible=visible_at <= now)
        if visible_at > now:
            self._timeline.at(visible_at, lambda _: self._show(account, call.uid))
        if settings.change_share and rng.random() < settings.change_share:
            moment = visible_at + self._between(*settings.change_delay)
            if moment > now:
                self._timeline.at(moment, lambda _: self._age(account, call.uid))

    def _show(self, account: Account, uid: int) -> None:
        self.counts["appeared_later"] += account.records.show(uid)

    def _age(self, account: Account, uid: int) -> None:
        """What changes later at a real operator: a flag flips once the file is there, or the call is re-rated."""
        call = account.records.calls.get(uid)
        if call is None or call.raw is not None:
            return
        if call.kind == "voicemail":
            self._change(account, uid, {"has_voicemail_recording": not call.has_voicemail_recording})
        elif call.duration and self.rng.randrange(2):
            dearer = call.user_cost + Decimal("0.001") * self.rng.randint(1, 50)
            self._change(account, uid, {"user_cost": dearer})
        else:
            self._change(account, uid, {"has_recorded_call": not call.has_recorded_call})

    def _change(self, account: Account, uid: int, fields: dict[str, Any]) -> None:
        call = account.records.calls.get(uid)
        if call is not None:
            account.records.replace(call._replace(**fields))
            self.counts["changed"] += 1

    def _between(self, low: float, high: float) -> float:
        """Mostly near `low`, seldom near `high`: delays are spread over orders of magnitude."""
        return low * math.exp(self.rng.random() * math.log(high / low)) if 0 < low < high else low

    def _next_uid(self, now: float) -> int:
        """Platform-wide: the others' calls leave gaps."""
        gap = 1 + int(self.rng.expovariate(1.5))
        self._last_uid = self._free_uid(max(self._last_uid + gap, uid_at(now) + self._uid_shift))
        return self._last_uid

    def _free_uid(self, uid: int) -> int:
        while self._owner(uid) is not None:
            uid += 1
        return uid

    def _owner(self, uid: int) -> Account | None:
        for account in self._accounts.values():
            if uid in account.records.calls:
                return account
        return None


COUNTED = (
    "documents", "malformed", "logins", "login_refusals", "session_refusals", "pages", "empty_pages", "records_sent",
    "live", "late", "appeared_later", "changed", "vanished",
)  # fmt: skip


def _length(call: Call) -> int:
    """Seconds from the call's start until its record is there."""
    return (call.ring_time or 0) + call.duration + SETTLING


def period_days(period: str, today: date, week_begins: str = "monday") -> tuple[str | None, str | None]:
    """First and last day of a GetTotals period, both included."""
    if period == "all":
        return None, None
    firsts = {
        "day": today,
        "week": today - timedelta(days=(today.weekday() + (week_begins == "sunday")) % 7),
        "month": today.replace(day=1),
        "last-month": (today.replace(day=1) - timedelta(days=1)).replace(day=1),
    }
    if period not in firsts:
        raise ValueError(f"{period!r} is none of {', '.join(PERIODS)}")
    last = today.replace(day=1) - timedelta(days=1) if period == "last-month" else today
    return firsts[period].isoformat(), last.isoformat()
