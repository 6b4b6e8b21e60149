"""The status page: one HTML document with its style in it, made on the server, escaped by the template engine."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from decimal import Decimal
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from flask import render_template
from markupsafe import Markup

from cdrsync import __version__
from cdrsync.audit.figures import PENNY
from cdrsync.errors import CdrsyncError
from cdrsync.monitor.activity import Phase
from cdrsync.web import calendar, chart
from cdrsync.web.health import Trouble, Weight, troubles
from cdrsync.web.words import ago, pounds, span, visible, wall

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from flask import Flask

    from cdrsync.monitor.status import OperatorToday, Records
    from cdrsync.web.state import AccountNow, Now, Recent, StatusSource


ONE = Decimal(1)


@dataclass(frozen=True, slots=True)
class Instant:
    """A moment in three forms: for people, exact for people, exact for machines."""

    near: str  # 12 s ago
    exact: str  # Mon 24 Nov 2025, 14:05:09
    iso: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """One line of today's table."""

    name: str
    held: str
    operator: str
    remark: str  # "equal", "3 more", …
    sign: str  # "=", "≠", "" where there is nothing to compare
    missing: bool  # less is held than the operator had when its totals were fetched


@dataclass(frozen=True, slots=True)
class Run:
    """One line of the table of runs."""

    origin: str
    started: Instant
    took: str
    inserted: str
    updated: str
    rejected: str
    outcome: str
    well: bool | None  # None: still running
    message: str


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One line of the table of rejects."""

    number: int
    uid: str
    problem: str
    seen: str
    first_seen: Instant


@dataclass(frozen=True, slots=True)
class Account:
    """Everything that the page says of one account."""

    name: str
    anchor: str
    phase: str
    weight: str  # good, warning, bad
    verdict: str  # the word beside the sign
    last_success: Instant | None
    lag: str
    high_water: str
    newest: Instant | None
    since_start: str
    next_runs: list[tuple[str, Instant]]
    held: Held | None


@dataclass(frozen=True, slots=True)
class Held:
    """What the database has to say of it."""

    day: str
    today: list[Comparison]
    operator_at: Instant | None
    hours: chart.HoursChart
    ledger: calendar.LedgerView
    rejects_open: str
    rejects: list[Quarantined]
    runs: list[Run]


class Pages:
    """Renders the status page."""

    def __init__(self, app: Flask, source: StatusSource, recent: Recent) -> None:
        self._source = source
        self._recent = recent
        style = files("cdrsync.web").joinpath("page.css").read_text("utf-8")
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        self._style_hash = f"sha256-{digest}"
        self._style = Markup(style)  # noqa: S704 - our own file, not a text of anybody's
        app.jinja_env.finalize = _safe  # every text on the page, without exception
        app.jinja_env.trim_blocks = True
        app.jinja_env.lstrip_blocks = True

    def render(self, *, refresh: bool) -> tuple[str, str]:
        """The page and its style's hash for the Content-Security-Policy. `refresh`: it reloads itself every minute."""
        now = self._source.now()
        answers = {account.state.name: self._recent.records(account.state.name) for account in now.accounts}
        found = troubles(now, answers)
        accounts = [
            _account(index, account, now, answers[account.state.name], found)
            for index, account in enumerate(now.accounts, start=1)
        ]
        page = render_template(
            "page.html",
            style=self._style,
            refresh=refresh,
            version=__version__,
            headline=_headline(now, found),
            weight=_worst(found),
            troubles=found,
            accounts=accounts,
            taken=_instant(now.taken_at, now, now.accounts[0] if now.accounts else None),
            running_for=span((now.taken_at - now.started_at).total_seconds()),
            weekdays=calendar.WEEKDAYS,
        )
        return page, self._style_hash


def _safe(value: object) -> object:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _headline(now: Now, found: list[Trouble]) -> str:
    if now.stopping:
        return "Stopping"
    if not found:
        return "All is well"
    bad = sum(trouble.weight is Weight.BAD for trouble in found)
    look = len(found) - bad
    parts = [f"{bad} wrong"] if bad else []
    parts += [f"{look} to look at"] if look else []
    return ", ".join(parts)


def _worst(found: list[Trouble]) -> str:
    return found[0].weight.value if found else "good"


def _account(
    index: int, account: AccountNow, now: Now, answer: Records | CdrsyncError, found: list[Trouble]
) -> Account:
    state = account.state
    own = [trouble for trouble in found if trouble.account in (state.name, None)]
    weight = _worst(own)
    lag = state.lag(now.taken_at)
    next_runs = sorted(state.next_runs.items(), key=lambda run: run[1])
    return Account(
        name=state.name,
        anchor=f"account-{index}",
        phase=str(state.phase),
        weight=weight,
        verdict={"good": "well", "warning": "look", "bad": "wrong"}[weight],
        last_success=None if state.last_success is None else _instant(state.last_success, now, account),
        lag="not known yet" if lag is None else span(lag),
        high_water="none yet" if state.high_water_uid is None else f"{state.high_water_uid}",
        newest=None if state.newest_call is None else _instant(state.newest_call, now, account),
        since_start=f"{state.inserted:,} new, {state.updated:,} changed, {state.rejected:,} rejected",
        next_runs=[] if state.phase is Phase.PARKED else [(name, _instant(at, now, account)) for name, at in next_runs],
        held=None if isinstance(answer, CdrsyncError) else _held(answer, account, now),
    )


def _held(records: Records, account: AccountNow, now: Now) -> Held:
    clock = now.taken_at.astimezone(account.timezone)
    # Just after midnight the database's answer may still be yesterday's: then that day is over.
    now_hours = clock.hour + clock.minute / 60 if clock.date() == records.today else 24.0
    operator = records.operator_today
    return Held(
        day=f"{records.today:%A %-d %B}",
        today=_comparisons(records, operator),
        operator_at=None if operator is None else _instant(operator.fetched_at, now, account),
        hours=chart.view(records.hours_today, records.hours_yesterday, now_hours),
        ledger=calendar.view(records.ledger, records.today),
        rejects_open=f"{records.rejects_open:,}",
        rejects=[
            Quarantined(
                reject.number,
                "unknown" if reject.uid is None else str(reject.uid),
                reject.problem,
                "once" if reject.seen == 1 else f"{reject.seen:,} times",
                _instant(reject.first_seen_at, now, account),
            )
            for reject in records.rejects
        ],
        runs=[
            Run(
                run.origin,
                _instant(run.started_at, now, account),
                "" if run.ended_at is None else span((run.ended_at - run.started_at).total_seconds()),
                f"{run.inserted:,}",
                f"{run.updated:,}",
                f"{run.rejected:,}",
                run.outcome or "not ended",
                None if run.ended_at is None else run.outcome == "ok",
                run.message or "",
            )
            for run in records.runs
        ],
    )


def _comparisons(records: Records, operator: OperatorToday | None) -> list[Comparison]:
    held = records.held_today
    calls = None if operator is None else operator.calls
    duration = None if operator is None else operator.duration
    charge = None if operator is None else operator.charge
    return [
        _compared("Calls", held.calls, calls, lambda n: f"{n:,}"),
        _compared("Talk time", held.duration, duration, span),
        _compared("Charge", held.charge, charge, pounds, unit=PENNY),
    ]


def _compared(name: str, held: Any, operator: Any, written: Callable[[Any], str], *, unit: Decimal = ONE) -> Comparison:
    if operator is None:
        return Comparison(name, written(held), "not stated", "", "", missing=False)
    difference = held - operator
    if abs(difference) < unit:
        return Comparison(name, written(held), written(operator), "equal", "=", missing=False)
    more = "more" if difference > 0 else "less"
    # More than the operator's older totals is the normal course of a day.
    remark = f"{written(abs(difference))} {more}"
    return Comparison(name, written(held), written(operator), remark, "≠", missing=difference < 0)


def _instant(at: datetime, now: Now, account: AccountNow | None) -> Instant:
    zone = at.tzinfo if account is None else account.timezone
    return Instant(ago(at, now.taken_at), wall(at, zone) if zone else at.isoformat(), at.isoformat(timespec="seconds"))
