"""What the status page shows in tests, and who serves it: accounts that are well, in trouble, out to break the page."""

from __future__ import annotations

import random
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from cdrsync.audit.figures import Figures
from cdrsync.model import LedgerDay, Period, Verdict
from cdrsync.monitor.activity import AccountState, Phase, Snapshot
from cdrsync.monitor.status import AccountStatus, AuditLine, OperatorToday, RejectLine, RunLine, Summary, Today
from cdrsync.sync.position import HistoryRead
from cdrsync.web import create_app, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cdrsync.errors import CdrsyncError
    from cdrsync.web import WebServer

LONDON = ZoneInfo("Europe/London")
AT = datetime(2025, 7, 23, 13, 37, 12, tzinfo=UTC)  # a Wednesday in summer time: 14:37 on the wall clock
TODAY = date(2025, 7, 23)

HOSTILE = "</title><script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u202egnp.exe{{7*7}}&amp;\u0000"
HOSTILE_LONG = "W" * 300


class Shown:
    """A `StatusSource` that shows what it was given; `failure` is raised by whatever asks the database."""

    def __init__(self, now: Snapshot, held: dict[str, AccountStatus], *, failure: CdrsyncError | None = None) -> None:
        self.shown = now
        self.held = held
        self.failure = failure
        self.asked = 0  # how often the database was
        self.on_ask: Callable[[], object] = lambda: None

    def now(self) -> Snapshot:
        return self.shown

    def check_database(self) -> None:
        self._ask()

    def overview(self) -> dict[str, Summary]:
        self._ask()
        return dict(self.held)

    def status(self, account: str) -> AccountStatus:
        self._ask()
        return self.held[account]

    def _ask(self) -> None:
        self.asked += 1
        self.on_ask()
        if self.failure is not None:
            raise self.failure


@contextmanager
def serving(shown: Shown, **options: Any) -> Iterator[WebServer]:
    """The web server that shows it, on a port of its own."""
    server = serve(create_app(shown, **options), "127.0.0.1", 0)
    try:
        yield server
    finally:
        server.close()


def well(name: str = "default") -> AccountState:
    """An account that polls as it should."""
    return AccountState(
        name,
        timezone=LONDON,
        phase=Phase.IDLE,
        lease_held=True,
        last_success=AT - timedelta(seconds=12),
        read_until=AT - timedelta(seconds=13),
        high_water_uid=1_084_183_829,
        newest_call=AT - timedelta(minutes=3, seconds=20),
        inserted=48_213,
        updated=112,
        next_runs={
            "poll": AT + timedelta(seconds=48),
            "look-back": AT + timedelta(minutes=6),
            "sweep": AT + timedelta(hours=12, minutes=20),
            "audit": AT + timedelta(hours=13, minutes=53),
        },
    )


def refused(name: str = "sales") -> AccountState:
    """An account whose login the operator refused."""
    return AccountState(
        name,
        timezone=LONDON,
        phase=Phase.PARKED,
        lease_held=True,
        last_success=AT - timedelta(days=2, hours=4),
        read_until=AT - timedelta(days=2, hours=4),
        last_error="the operator refused the login (Code 403: not authorised). Check username, password and vkey, and "
        "that this machine's public address is on the VKey's allow-list in the operator's control panel",
        last_error_kind="LoginRefused",
        failing_since=AT - timedelta(days=2),
        high_water_uid=1_084_001_000,
    )


def now(*accounts: AccountState, stopping: bool = False, stuck: str | None = None) -> Snapshot:
    """The daemon with these accounts."""
    return Snapshot(AT - timedelta(days=9, hours=3), AT, accounts, stopping=stopping, stuck=stuck)


def hours(random_hours: random.Random) -> tuple[int, ...]:
    """A business's day."""
    shape = [1, 0, 0, 0, 0, 1, 4, 16, 62, 110, 128, 119, 92, 104, 121, 117, 98, 61, 22, 12, 8, 5, 3, 2]
    return tuple(round(count * random_hours.uniform(0.8, 1.2)) for count in shape)


def day(
    on: date,
    calls: int,
    verdict: Verdict,
    *,
    read: bool = True,
    operator_calls: int | None = None,
    note: str | None = None,
) -> LedgerDay:
    """One day of a ledger."""
    return LedgerDay(on, calls, calls * 60, Decimal(0), AT if read else None, None, verdict, operator_calls, note)


def ledger(days: int, marks: dict[date, LedgerDay] | None = None) -> tuple[LedgerDay, ...]:
    """Days up to today: complete, today and yesterday not audited yet."""
    random_calls = random.Random(3)
    found = []
    for ago in range(days - 1, -1, -1):
        on = TODAY - timedelta(days=ago)
        calls = random_calls.randint(700, 1100) if on.weekday() < 5 else random_calls.randint(20, 90)
        verdict = Verdict.COMPLETE if ago > 0 else Verdict.UNAUDITED
        found.append((marks or {}).get(on) or day(on, calls, verdict, read=ago > 0, operator_calls=calls))
    return tuple(found)


def held(name: str, days: tuple[LedgerDay, ...], **more: Any) -> AccountStatus:
    """An account's state: the figures are those of the ledger."""
    busy = [one.day for one in days if one.calls]
    return AccountStatus(
        name=name,
        ledger=days,
        calls=sum(one.calls for one in days),
        first_day=busy[0],
        last_day=busy[-1],
        gaps=tuple(one.day for one in days if one.verdict is Verdict.GAP),
        read_at=AT - timedelta(seconds=13),
        audited_at=AT - timedelta(hours=10, minutes=8),
        audits=(AuditLine(Period.MONTH, AT - timedelta(hours=10, minutes=8), Verdict.COMPLETE, None),),
        history=HistoryRead(busy[0], len(days) - 1, sum(one.downloaded_at is not None for one in days)),
        holder="process 4711 on cdr1",
        **more,
    )


def healthy_status(name: str = "default") -> AccountStatus:
    """What the database holds of an account that is well."""
    random_hours = random.Random(7)
    today = (*hours(random_hours)[:14], 71, *[0] * 9)
    operator = OperatorToday(AT - timedelta(minutes=9), sum(today), 95_412, Decimal("41.87"))
    return held(
        name,
        ledger(400),
        today=Today(TODAY, Figures(sum(today), 95_412, Decimal("41.873")), operator, today, hours(random_hours)),
        runs=tuple(
            RunLine(
                origin,
                AT - timedelta(minutes=ago),
                AT - timedelta(minutes=ago) + timedelta(seconds=took),
                "ok",
                n,
                u,
                0,
            )
            for origin, ago, took, n, u in (
                ("tail", 1, 0.4, 3, 0),
                ("tail", 4, 0.5, 2, 0),
                ("lookback", 6, 1.2, 0, 1),
                ("tail", 9, 0.4, 5, 0),
                ("audit", 608, 3, 0, 0),
                ("sweep", 698, 41, 0, 12),
            )
        ),
    )


def troubled_status(name: str) -> AccountStatus:
    """Gaps, rejects, failures, and texts that would break a page that does not escape."""
    found = healthy_status()
    assert found.today
    marks = {
        date(2025, 7, 9): day(date(2025, 7, 9), 901, Verdict.GAP, operator_calls=904, note=HOSTILE),
        date(2025, 6, 30): day(date(2025, 6, 30), 850, Verdict.GAP, operator_calls=851),
        date(2025, 7, 2): day(date(2025, 7, 2), 777, Verdict.HEALED, operator_calls=777),
        **{date(2025, 7, d): day(date(2025, 7, d), 640 + d, Verdict.UNAUDITED) for d in (20, 21, 22)},
        **{date(2025, 5, d): day(date(2025, 5, d), 12, Verdict.UNAUDITED, read=False) for d in range(1, 6)},
    }
    operator = OperatorToday(AT - timedelta(hours=3), 1_296, 7_200, Decimal("1204.11"))
    hours_today = (0,) * 9 + (3,) + (0,) * 14
    return held(
        name,
        ledger(140, marks),
        today=Today(TODAY, Figures(3, 62, Decimal("0.005")), operator, hours_today, found.today.hours_yesterday),
        rejects_open=1_312,
        rejects=(
            RejectLine(1312, 1_084_183_900, f"user_cost: {HOSTILE!r} is no amount", 4, AT - timedelta(hours=2)),
            RejectLine(1311, None, "uid: missing", 1, AT - timedelta(days=3)),
            RejectLine(1310, 1_084_183_700, f"alias: {HOSTILE_LONG}", 1, AT - timedelta(days=3)),
        ),
        runs=(
            RunLine("tail", AT - timedelta(minutes=2), None, None, 0, 0, 0),
            RunLine(
                "backfill", AT - timedelta(hours=5), AT - timedelta(hours=4), "ApiUnreachable", 120_400, 0, 1_312,
                f"no answer within 120 s {HOSTILE}",
            ),
            *found.runs[2:5],
        ),
    )  # fmt: skip


def healthy() -> Shown:
    """One account, all well."""
    return Shown(now(well()), {"default": healthy_status()})


def troubled() -> Shown:
    """Four accounts, one of them well."""
    failing = AccountState(
        HOSTILE,
        timezone=LONDON,
        phase=Phase.FAILING,
        last_success=AT - timedelta(minutes=40),
        read_until=AT - timedelta(minutes=40),
        last_error=f"HTTP 502 from the API: {HOSTILE}",
        last_error_kind="ApiUnreachable",
        high_water_uid=9_223_372_036_854_775_807,
    )
    fresh = AccountState(HOSTILE_LONG, timezone=LONDON)
    return Shown(
        now(refused(), failing, fresh, well("support")),
        {
            "sales": troubled_status("sales"),
            HOSTILE: troubled_status(HOSTILE),
            HOSTILE_LONG: AccountStatus(name=HOSTILE_LONG, today=Today(TODAY, Figures(), None, (0,) * 24, (0,) * 24)),
            "support": healthy_status("support"),
        },
    )  # fmt: skip


def many(count: int) -> Shown:
    """So many accounts, every tenth in trouble."""
    names = [f"customer-{n:03}" for n in range(count)]
    accounts = [refused(name) if n % 10 == 3 else well(name) for n, name in enumerate(names)]
    held_by = {name: healthy_status(name) if n < 3 else _small(name) for n, name in enumerate(names)}
    return Shown(now(*accounts), held_by)


def _small(name: str) -> AccountStatus:
    return held(name, ledger(30), rejects_open=2 if name.endswith("7") else 0)
