"""The table of every configuration key, and the frozen settings that come of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import date, time, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from cdrsync.config import values
from cdrsync.config.values import Listen, Parser, Start
from cdrsync.errors import UnknownAccount

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

DEFAULT_ACCOUNT = "default"
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
NOTHING = timedelta(0)


@dataclass(frozen=True, slots=True)
class Key:
    """One configuration key. `account`: an [accounts.NAME] table may override it."""

    name: str
    parse: Parser
    default: Any
    help: str
    secret: bool = False
    account: bool = False
    empty: bool = False  # an empty text is a value ("none"), not an unset variable

    def show(self, value: Any) -> str:
        """Return the value for a person's eyes: secrets masked, a database URL without its password."""
        if self.name == "database_url":
            return values.mask_url(str(value))
        if self.secret:
            return "***" if value else ""
        return values.show(value)


_ACCOUNT_KEYS = (
    Key("api_url", values.api_url, "https://xml.ttnc.co.uk/api/", "the operator's XML API"),
    Key("username", values.text, "", "e-mail address or account number of the login"),
    Key("password", values.secret, "", "password of the login", secret=True),
    Key(
        "vkey",
        values.secret,
        "",
        "application key (VKey), on whose allow-list this machine must be",
        secret=True,
    ),
    Key("timezone", values.timezone, ZoneInfo("Europe/London"), "the wall clock that the operator's records show"),
    Key("start_date", values.start_date, Start.TODAY, 'history from this date on, "today" or "all"'),
    Key("numbers", values.numbers, (), "only calls to these numbers of the account (empty: all)", empty=True),
    Key("page_size", values.whole(1, 10_000), 1000, "records asked for at once"),
    Key("poll_interval", values.duration(low=SECOND, high=DAY), 60 * SECOND, "how often new calls are asked for"),
    Key(
        "lookback",
        values.duration(low=NOTHING, high=7 * DAY),
        120 * 60 * SECOND,
        "how far back the tail is re-read",
    ),
    Key(
        "lookback_interval",
        values.duration(low=NOTHING, high=DAY),
        10 * 60 * SECOND,
        "how often it is re-read (0: never)",
    ),
    Key("sweep_days", values.whole(0, 366), 7, "days that are re-read once a day (0: none)"),
    Key("backfill_workers", values.whole(1, 16), 2, "requests in flight while history is read"),
    Key(
        "audit_time",
        values.optional(values.time_of_day),
        time(4, 30),
        'daily check against the totals, or "off"',
    ),
)

_GLOBAL_KEYS = (
    Key("database_url", values.database_url, "sqlite:///cdrsync.db", "where the calls go", secret=True),
    Key("auto_migrate", values.flag, True, "run and sync bring an older schema of ours up to date"),  # noqa: FBT003 - a default
    Key(
        "http_listen",
        values.listen,
        Listen("127.0.0.1", 9810),
        "health, metrics, status page (empty: none)",
        empty=True,
    ),
    Key("doorbell_token", values.optional(values.secret), None, "POST /doorbell with it polls at once", secret=True),
    Key(
        "log_format",
        values.choice("auto", "text", "json", "journal"),
        "auto",
        "auto: text on a terminal, journal under systemd, else JSON",
    ),
    Key("log_level", values.choice("debug", "info", "warning", "error"), "info", "least level that is logged"),
    Key("log_numbers", values.flag, False, "callers' numbers in full in the logs, not masked"),  # noqa: FBT003 - a default
    Key("retention_months", values.optional(values.whole(1, 1200)), None, "months that callers' numbers are kept"),
    Key("retention_policy", values.choice("pseudonymise", "delete"), "pseudonymise", "what becomes of older calls"),
    Key(
        "pseudonym_key",
        values.optional(values.long_secret(16)),  # fewer can be guessed, and every number with them
        None,
        "makes the pseudonyms; never change it",
        secret=True,
    ),
)

KEYS: Mapping[str, Key] = MappingProxyType(
    {
        key.name: key
        for key in (
            *(replace(key, account=True) for key in _ACCOUNT_KEYS),
            *_GLOBAL_KEYS,
        )
    }
)
CREDENTIALS = ("username", "password", "vkey")


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """What one operator login needs. A zero `lookback`, `lookback_interval` or `sweep_days` means never."""

    name: str
    api_url: str
    username: str
    password: str = field(repr=False)
    vkey: str = field(repr=False)
    timezone: ZoneInfo
    start_date: date | Start
    numbers: tuple[str, ...]
    page_size: int
    poll_interval: timedelta
    lookback: timedelta
    lookback_interval: timedelta
    sweep_days: int
    backfill_workers: int
    audit_time: time | None
    sources: Mapping[str, str] = field(repr=False, compare=False)  # key → where its value came from


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the program is told, parsed and checked, each value with its source."""

    accounts: tuple[AccountSettings, ...]
    database_url: str = field(repr=False)
    auto_migrate: bool
    http_listen: Listen | None
    doorbell_token: str | None = field(repr=False)
    log_format: str
    log_level: str
    log_numbers: bool
    retention_months: int | None
    retention_policy: str
    pseudonym_key: str | None = field(repr=False)
    sources: Mapping[str, str] = field(repr=False, compare=False)

    def account(self, name: str) -> AccountSettings:
        """Return the account of that name; KeyError where there is none."""
        return next(account for account in self.accounts if account.name == name)

    def only(self, names: Collection[str]) -> Settings:
        """Return the same for the accounts of these names; none named: for all. Raises UnknownAccount."""
        known = [account.name for account in self.accounts]
        unknown = [
            f"no account {name!r}; the configuration has {', '.join(known)}{values.did_you_mean(name, known)}"
            for name in names
            if name not in known
        ]
        if unknown:
            raise UnknownAccount(unknown)
        return replace(self, accounts=tuple(a for a in self.accounts if a.name in names)) if names else self

    def secrets(self) -> tuple[str, ...]:
        """Every secret text, for whoever prints: none of them may show."""
        from urllib.parse import unquote

        found = [self.doorbell_token, self.pseudonym_key, values.url_password(self.database_url)]
        for account in self.accounts:
            found += [account.password, account.vkey]
        return tuple(dict.fromkeys(s for text in found if text for s in (text, unquote(text))))
