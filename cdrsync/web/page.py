"""The status page: one HTML document with its style in it, made on the server, escaped by the template engine."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from decimal import Decimal
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

from flask import render_template
from markupsafe import Markup

from cdrsync import __version__
from cdrsync.errors import CdrsyncError
from cdrsync.monitor import words
from cdrsync.monitor.activity import Phase
from cdrsync.web import calendar, chart
from cdrsync.web.health import Trouble, Weight, troubles

if TYPE_CHECKING:
    from flask import Flask

    from cdrsync.monitor.status import AccountStatus, Today
    from cdrsync.web.state import AccountNow, Now, Recent, StatusSource


@dataclass(frozen=True, slots=True)
class Shown:
    """One account on the page."""

    anchor: str
    weight: str  # good, warning, bad
    account: AccountNow
    status: AccountStatus | None  # None: the database can't tell
    hours: chart.HoursChart | None
    ledger: calendar.LedgerView | None


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

    def render(self, *, refresh: bool) -> tuple[str, str]:
        """The page and its style's hash for the Content-Security-Policy. `refresh`: it reloads itself every minute."""
        now = self._source.now()
        answers = {account.state.name: self._recent.status(account.state.name) for account in now.accounts}
        found = troubles(now, answers)
        page = render_template(
            "page.html",
            style=self._style,
            refresh=refresh,
            version=__version__,
            headline=_headline(now, found),
            weight=_worst(found),
            troubles=found,
            now=now,
            accounts=[
                _shown(n, account, now, answers[account.state.name], found)
                for n, account in enumerate(now.accounts, start=1)
            ],
            parked=Phase.PARKED,
            weekdays=calendar.WEEKDAYS,
        )
        return page, self._style_hash


def _safe(value: object) -> object:
    return words.visible(value, keep="\n") if isinstance(value, str) and not isinstance(value, Markup) else value


def _headline(now: Now, found: list[Trouble]) -> str:
    if now.stopping:
        return "Stopping"
    bad = sum(trouble.weight is Weight.BAD for trouble in found)
    parts = {"wrong": bad, "to look at": len(found) - bad}
    return ", ".join(f"{count} {what}" for what, count in parts.items() if count) or "All is well"


def _worst(found: list[Trouble]) -> str:
    return found[0].weight.value if found else "good"


def _shown(
    number: int, account: AccountNow, now: Now, answer: AccountStatus | CdrsyncError, found: list[Trouble]
) -> Shown:
    status = None if isinstance(answer, CdrsyncError) else answer
    today = status and status.today
    hours = None
    if today:
        clock = now.taken_at.astimezone(account.timezone)
        # Just after midnight the database's answer may still be yesterday's: then that day is over.
        now_hours = clock.hour + clock.minute / 60 if clock.date() == today.day else 24.0
        hours = chart.view(today.hours, today.hours_yesterday, now_hours)
    return Shown(
        f"account-{number}",
        _worst([trouble for trouble in found if trouble.account in (account.state.name, None)]),
        account,
        status,
        hours,
        calendar.view(status.ledger, today.day) if status and today else None,
    )


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
