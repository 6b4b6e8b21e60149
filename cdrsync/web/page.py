"""The status page: one HTML document with its style in it, made on the server, escaped by the template engine."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from decimal import Decimal
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from flask import render_template
from markupsafe import Markup

from cdrsync import __version__
from cdrsync.errors import CdrsyncError
from cdrsync.monitor import words
from cdrsync.monitor.activity import PHASES, AccountState, Phase, Snapshot
from cdrsync.web import calendar, chart
from cdrsync.web.health import troubles

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from flask import Flask

    from cdrsync.monitor.status import AccountStatus, Summary, Today
    from cdrsync.monitor.troubles import Trouble
    from cdrsync.web.state import Recent, StatusSource


FOLDED_FROM = 40  # accounts: beyond them those that are well are folded away
NAMED_ACCOUNTS = 3  # of those that have the same trouble
LONGEST_HEADLINE = 90  # characters
MOST_TROUBLES = 8  # that are told in full; the table has the others


@dataclass(frozen=True, slots=True)
class Told:
    """A trouble, with all the accounts that have it."""

    trouble: Trouble
    accounts: list[str]

    @property
    def names(self) -> str:
        """Some of the accounts."""
        return words.some(self.accounts, NAMED_ACCOUNTS)


@dataclass(frozen=True, slots=True)
class Line:
    """One account in the overview."""

    account: AccountState
    weight: str  # good, warning, bad
    word: str  # what is the matter, or what it is doing
    summary: Summary | None  # None: the database can't tell, or the account was never synced


@dataclass(frozen=True, slots=True)
class Shown:
    """One account on a page of its own."""

    weight: str
    account: AccountState
    status: AccountStatus | None  # None: the database can't tell
    hours: chart.HoursChart | None
    ledger: calendar.LedgerView | None
    next_runs: list[tuple[str, datetime]]  # the next first, without what is running


class Comparison(NamedTuple):
    """One line of today's table: what is held beside what the operator states."""

    name: str
    held: str
    operator: str
    remark: str = ""  # "equal", "3 more", …
    sign: str = ""  # "=", "≠", nothing where there is nothing to compare
    missing: bool = False  # less is held than the operator had when its totals were fetched


class Pages:
    """Renders the status page."""

    def __init__(self, app: Flask, source: StatusSource, recent: Recent) -> None:
        self._source = source
        self._recent = recent
        style = files("cdrsync.web").joinpath("page.css").read_text(encoding="utf-8")
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")
        self._style_hash = f"sha256-{digest}"
        self._style = Markup(style)  # noqa: S704 - our own file, not a text of anybody's
        app.jinja_env.finalize = _safe  # every text on the page, without exception
        app.jinja_env.trim_blocks = True
        app.jinja_env.lstrip_blocks = True
        app.jinja_env.filters.update(
            ago=words.ago, span=words.span, wall=words.wall, count="{:,}".format, comparisons=comparisons
        )

    def render(self, *, refresh: bool, only: str | None = None) -> tuple[str, str] | None:
        """The page and its style's hash for the Content-Security-Policy; None where there is no account `only`.

        Without `only`: of all accounts. `refresh`: it reloads itself every minute.
        """
        now = self._source.now()
        named = [account for account in now.accounts if only in (None, account.name)]
        if only is not None and not named:
            return None
        held = self._recent.overview()
        found = troubles(now, held, self._recent.down_since)
        alone = named[0] if len(named) == 1 else None
        shown = found if only is None else [t for t in found if t.account in (only, None)]
        told = _told(shown)
        page = render_template(
            "page.html",
            style=self._style,
            refresh=refresh,
            path=quote(f"/account/{only}") if only else "/",
            version=__version__,
            headline=_headline(now, told, many=len(named) > 1),
            weight=_worst(shown),
            troubles=told[:MOST_TROUBLES],
            more=len(told) - MOST_TROUBLES,
            now=now,
            several=len(now.accounts) > 1,
            lines=[] if alone else _lines(now, held, found),
            shown=None if alone is None else self._shown(alone, now, shown, tells=not isinstance(held, CdrsyncError)),
            folded_from=FOLDED_FROM,
            weekdays=calendar.WEEKDAYS,
        )
        return page, self._style_hash

    def _shown(self, account: AccountState, now: Snapshot, found: list[Trouble], *, tells: bool) -> Shown:
        answer = self._recent.status(account.name) if tells else None  # a database that fails is waited for once
        status = None if isinstance(answer, CdrsyncError) else answer
        today = status and status.today
        hours = None
        if today:
            clock = now.taken_at.astimezone(account.timezone)
            # Just after midnight the database's answer may still be yesterday's: then that day is over.
            now_hours = clock.hour + clock.minute / 60 if clock.date() == today.day else 24.0
            hours = chart.view(today.hours, today.hours_yesterday, now_hours)
        next_runs = [
            (task, at)
            for task, at in account.next_runs.items()
            if PHASES.get(task) is not account.phase and at >= now.taken_at
        ]
        return Shown(
            _worst(found),
            account,
            status,
            hours,
            calendar.view(status.ledger, today.day) if status and today else None,
            sorted(next_runs, key=lambda run: run[1]),
        )


def _lines(now: Snapshot, held: Mapping[str, Summary] | CdrsyncError, found: list[Trouble]) -> list[Line]:
    """Every account, the troubled first."""
    of_account: dict[str | None, list[Trouble]] = {}
    for trouble in found:
        of_account.setdefault(trouble.account, []).append(trouble)
    summaries = {} if isinstance(held, CdrsyncError) else held
    lines = []
    for account in now.accounts:
        name = account.name
        own = of_account.get(name, [])
        summary = summaries.get(name)
        phase = str(account.phase)
        if account.phase is Phase.STANDING_BY and summary and summary.holder:
            phase = f"with {summary.holder}"
        word = ", ".join(t.short for t in own if t.short) or phase
        lines.append(Line(account, _worst(own), word, summary))
    return sorted(lines, key=lambda line: (("bad", "warning", "good").index(line.weight), line.account.name))


def _safe(value: object) -> object:
    return words.visible(value, keep="\n") if isinstance(value, str) and not isinstance(value, Markup) else value


def _told(found: list[Trouble]) -> list[Told]:
    """Each trouble once, however many accounts have it, the one that has lasted longest for them all."""
    told: dict[tuple[str, str], Told] = {}
    for trouble in found:
        one = told.setdefault((trouble.text, trouble.remedy), Told(trouble, []))
        if trouble.account is not None:
            one.accounts.append(trouble.account)
    return list(told.values())


def _headline(now: Snapshot, told: list[Told], *, many: bool) -> str:
    """The worst trouble, whose it is and since when; how many there are beside it."""
    if now.stopping:
        return "Stopping"
    if not told:
        return "All is well"
    first, whose = told[0].trouble, told[0].accounts
    text = first.headline()
    if len(text) > LONGEST_HEADLINE:
        text = text[:LONGEST_HEADLINE].rsplit(" ", 1)[0] + "…"
    if many and whose:
        text = f"{whose[0] if len(whose) == 1 else f'{len(whose):,} accounts'}: {text}"
    else:
        text = text[:1].upper() + text[1:]
    seconds = 0.0 if first.since is None else (now.taken_at - first.since).total_seconds()
    lasts = f", for {words.span(seconds)}" if seconds >= 1 else ""
    return f"{text}{lasts}" + (f" · and {len(told) - 1} more" if len(told) > 1 else "")


def _worst(found: list[Trouble]) -> str:
    return found[0].weight.value if found else "good"


def comparisons(today: Today) -> list[Comparison]:
    """What is held today beside the operator's own totals."""
    held, operator = today.held, today.operator
    return [
        _compared("Calls", held.calls, operator and operator.calls, "{:,}".format, Decimal(1)),
        _compared("Talk time", held.duration, operator and operator.duration, words.span, Decimal(1)),
        _compared("Charge", held.charge, operator and operator.charge, words.pounds, words.PENNY),
    ]


def _compared(name: str, held: Any, operator: Any, written: Any, unit: Decimal) -> Comparison:
    if operator is None:
        return Comparison(name, written(held), "not stated")
    difference = held - operator
    if abs(difference) < unit:
        return Comparison(name, written(held), written(operator), "equal", "=")
    # More than the operator's older totals is the normal course of a day.
    remark = f"{written(abs(difference))} {'more' if difference > 0 else 'less'}"
    return Comparison(name, written(held), written(operator), remark, "≠", missing=difference < 0)
