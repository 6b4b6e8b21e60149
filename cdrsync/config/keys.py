"""The table of every configuration key: the fields of the two frozen settings, each with its `Key`."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
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
CREDENTIALS = ("username", "password", "vkey")

SECOND = timedelta(seconds=1)
MINUTE = 60 * SECOND
DAY = timedelta(days=1)
NOTHING = timedelta(0)


@dataclass(frozen=True, slots=True)
class Key:
    """One configuration key. `name` and `account` are those of the field that it stands beside."""

    parse: Parser
    default: Any
    help: str
    secret: bool = False
    empty: bool = False  # an empty text is a value ("none"), not an unset variable
    name: str = ""
    account: bool = False  # an [accounts.NAME] table may override it

    def show(self, value: Any) -> str:
        """Return the value for a person's eyes: secrets masked, a database URL without its password."""
        if self.name == "database_url":
            return values.mask_url(str(value))
        if self.secret:
            return "***" if value else ""
        return values.show(value)


def _key(parse: Parser, default: Any, words: str, *, secret: bool = False, empty: bool = False) -> Any:
    return field(metadata={"key": Key(parse, default, words, secret=secret, empty=empty)})


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)  # a repr would show the secrets
class AccountSettings:
    """What one operator login needs. A zero `lookback`, `lookback_interval` or `sweep_days` means never."""

    name: str
    api_url: str = _key(values.api_url, "https://xml.ttnc.co.uk/api/", "the operator's XML API")
    username: str = _key(values.text, "", "e-mail address or account number of the login")
    password: str = _key(values.secret, "", "password of the login", secret=True)
    vkey: str = _key(values.secret, "", "application key (VKey), on whose allow-list this machine must be", secret=True)
    timezone: ZoneInfo = _key(
        values.timezone, ZoneInfo("Europe/London"), "the wall clock that the operator's records show"
    )
    start_date: date | Start = _key(
        values.start_date, Start.ALL, 'history from this date on, "today" or "all", newest first'
    )
    numbers: tuple[str, ...] = _key(
        values.numbers, (), "only calls to these numbers of the account (empty: all)", empty=True
    )
    page_size: int = _key(values.whole(1, 10_000), 1000, "records asked for at once")
    poll_interval: timedelta = _key(values.duration(low=SECOND, high=DAY), MINUTE, "how often new calls are asked for")
    lookback: timedelta = _key(
        values.duration(low=NOTHING, high=7 * DAY), 120 * MINUTE, "how far back the tail is re-read"
    )
    lookback_interval: timedelta = _key(
        values.duration(low=NOTHING, high=DAY), 10 * MINUTE, "how often it is re-read (0: never)"
    )
    sweep_days: int = _key(values.whole(0, 366), 7, "days that are re-read once a day (0: none)")
    backfill_workers: int = _key(values.whole(1, 16), 2, "requests in flight while history is read")
    audit_time: time | None = _key(
        values.optional(values.time_of_day), time(4, 30), 'daily check against the totals, or "off"'
    )


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class Settings:
    """Everything the program is told, parsed and checked."""

    accounts: tuple[AccountSettings, ...]
    database_url: str = _key(values.database_url, "sqlite:///cdrsync.db", "where the calls go", secret=True)
    auto_migrate: bool = _key(values.flag, default=True, words="run and sync bring an older schema of ours up to date")
    http_listen: Listen | None = _key(
        values.listen, Listen("127.0.0.1", 9810), "health, metrics, status page (empty: none)", empty=True
    )
    http_hosts: tuple[str, ...] = _key(
        values.hosts, (), "names by which the web server may be asked, beside this machine's own", empty=True
    )
    http_password: str | None = _key(
        values.optional(values.long_secret(8)), None, "asked for by page and metrics, any user name", secret=True
    )
    doorbell_token: str | None = _key(
        values.optional(values.long_secret(16)), None, "POST /doorbell with it polls at once", secret=True
    )
    workers: int = _key(values.whole(1, 256), 8, "accounts that are worked on at once")
    lease_seconds: int = _key(
        values.whole(3, 3600), 15, "seconds without a sign of life after which a replica is replaced"
    )
    api_rate: float | None = _key(
        values.optional(values.rate), None, 'requests a second to one operator host at most, or "off"'
    )
    log_format: str = _key(
        values.choice("auto", "text", "json", "journal"),
        "auto",
        "auto: text on a terminal, journal under systemd, else JSON",
    )
    log_level: str = _key(values.choice("debug", "info", "warning", "error"), "info", "least level that is logged")
    log_numbers: bool = _key(values.flag, default=False, words="callers' numbers in full in the logs, not masked")
    retention_months: int | None = _key(
        values.optional(values.whole(1, 1200)), None, "months that callers' numbers are kept"
    )
    retention_policy: str = _key(values.choice("pseudonymise", "delete"), "pseudonymise", "what becomes of older calls")
    pseudonym_key: str | None = _key(  # with a shorter one every number could be guessed
        values.optional(values.long_secret(16)), None, "makes the pseudonyms; never change it", secret=True
    )

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

        found = [self.doorbell_token, self.http_password, self.pseudonym_key, values.url_password(self.database_url)]
        for account in self.accounts:
            found += [account.password, account.vkey]
        return tuple(dict.fromkeys(s for text in found if text for s in (text, unquote(text))))


def _keys(of: type, *, account: bool) -> dict[str, Key]:
    found = {one.name: one.metadata.get("key") for one in fields(of)}
    return {name: replace(key, name=name, account=account) for name, key in found.items() if key is not None}


KEYS: Mapping[str, Key] = MappingProxyType(_keys(AccountSettings, account=True) | _keys(Settings, account=False))
