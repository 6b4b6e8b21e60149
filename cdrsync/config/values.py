"""Parsers of configuration values: what a person writes → what the program uses, or a ValueError saying what is wrong.

Each takes the value as TOML typed it, or the text of a flag or an environment variable. None of their messages repeats
the value of a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import date, time, timedelta
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

Parser = Callable[[Any], Any]

RATES = (0.01, 1000)  # requests a second
OFF_WORDS = ("", "off", "none")
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
DATABASE_SCHEMES = (
    *("sqlite", "postgresql+psycopg", "postgresql", "postgres"),
    *("mysql+pymysql", "mysql", "mariadb+pymysql", "mariadb"),
)

LONGEST_NAME = 240  # bytes of a file's name: SQLite puts up to 14 behind it
_LOGIN = re.compile(r"^[^:/]*(?::[^@]*)?@")  # in front of the host, as SQLAlchemy reads it: / and # may be part of it
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}  # seconds
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")


class Start(StrEnum):
    """A `start_date` that is not a date."""

    TODAY = "today"  # as the operator documents: today's calls, then everything newer
    ALL = "all"  # back to the first call that the operator still has


class Listen(NamedTuple):
    """Where the web server listens. Port 0 takes any free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in LOOPBACK_HOSTS or self.host.startswith("127.")

    def __str__(self) -> str:
        """`host:port`, an IPv6 host in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _text_of(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be a text in quotes, not {_kind(value)}")  # noqa: TRY004 - one kind of problem
    return value


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a table"}
    return names.get(type(value), "a date or time")


def text(value: Any) -> str:
    """Any text, surrounding blanks removed."""
    return _text_of(value).strip()


def secret(value: Any) -> str:
    """Return a secret, kept exactly. Control characters would mean a file that holds something else."""
    kept = _text_of(value)
    if any(ord(c) < ord(" ") for c in kept):
        raise ValueError("has control characters or several lines in it")
    return kept


def long_secret(least: int) -> Parser:
    """A secret of at least so many characters."""

    def parse(value: Any) -> str:
        kept = secret(value)
        if len(kept) < least:
            raise ValueError(f"must be {least} characters or more, such as openssl rand -hex 24 prints")
        return kept

    return parse


def whole(low: int, high: int) -> Parser:
    """Return a whole number from `low` to `high`, both included."""

    def parse(value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,18}\s*", value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError("must be a whole number")  # noqa: TRY004 - one kind of problem
        if not low <= value <= high:
            raise ValueError(f"must be between {low} and {high}, not {value}")
        return value

    return parse


def optional(parse: Parser) -> Parser:
    """`off`, `none` or empty for None, else as `parse`."""

    def parse_optional(value: Any) -> Any:
        return None if isinstance(value, str) and value.strip().lower() in OFF_WORDS else parse(value)

    return parse_optional


def duration(*, low: timedelta, high: timedelta) -> Parser:
    """Seconds, or a number with its unit: `90s`, `10m`, `2h`, `7d`."""

    def parse(value: Any) -> timedelta:
        written = str(value).strip().lower() if isinstance(value, str | int | float) else ""
        match = None if isinstance(value, bool) else _DURATION.fullmatch(written)
        if match is None or len(written) > len("999999999999.5d"):
            raise ValueError("must be seconds or a duration like 90s, 10m, 2h, 7d")
        seconds = float(match[1]) * _UNITS[match[2] or "s"]
        if not low.total_seconds() <= seconds <= high.total_seconds():
            raise ValueError(f"must be between {show(low)} and {show(high)}")
        return timedelta(seconds=seconds)

    return parse


def flag(value: Any) -> bool:
    """Return true or false; as text also yes, no, on, off, 1, 0."""
    if isinstance(value, bool):
        return value
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if not isinstance(value, str) or value.strip().lower() not in words:
        raise ValueError("must be true or false")
    return words[value.strip().lower()]


def choice(*words: str) -> Parser:

    def parse(value: Any) -> str:
        word = text(value).lower()
        if word not in words:
            raise ValueError(f"must be one of {', '.join(words)}{did_you_mean(word, words)}")
        return word

    return parse


def start_date(value: Any) -> date | Start:
    """Return a date (yyyy-mm-dd), `today` or `all`."""
    if type(value) is date:
        return value
    word = value.strip().lower() if isinstance(value, str) else ""
    if word in tuple(Start):
        return Start(word)
    try:
        return date.fromisoformat(word if re.fullmatch(r"\d{4}-\d\d-\d\d", word) else "")
    except ValueError:
        raise ValueError('must be a date like 2024-01-31, "today" or "all"') from None


def time_of_day(value: Any) -> time:
    """HH:MM on the account's wall clock."""
    if isinstance(value, time):
        return value.replace(microsecond=0)
    if not isinstance(value, str) or not re.fullmatch(r"([01]?\d|2[0-3]):[0-5]\d", value.strip()):
        raise ValueError("must be a time of day like 04:30")
    hour, minute = value.strip().split(":")
    return time(int(hour), int(minute))


def timezone(value: Any) -> ZoneInfo:
    name = text(value)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        from zoneinfo import available_timezones

        raise ValueError(
            f"is not a time zone: {name!r}{did_you_mean(name, available_timezones()) or ' (like Europe/London)'}"
        ) from None


def numbers(value: Any) -> tuple[str, ...]:
    """Return a list of phone numbers, or a text with commas between them."""
    cleaned = [re.sub(r"[\s()-]", "", item) for item in _listed(value, 'numbers in quotes, like ["01213691057"]')]
    bad = [item for item in cleaned if item and not re.fullmatch(r"\+?\d{3,15}", item)]
    if bad:
        raise ValueError(f"{len(bad)} of its entries are not phone numbers (digits, with or without a leading +)")
    return tuple(dict.fromkeys(filter(None, cleaned)))


def _listed(value: Any, what: str) -> list[str]:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ValueError(f"must be a list of {what}")
    return items


def api_url(value: Any) -> str:
    """Https, or plain http to this very machine (the sandbox): the login travels in the request."""
    url = text(value)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is not a URL") from None
    if parts.username or parts.password:
        raise ValueError("must not carry a user name or password; use the keys username and password")
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"must begin with https://, not {url[:12]!r}")
    if parts.scheme == "http" and host not in LOOPBACK_HOSTS:
        raise ValueError("must be https: the password would travel in clear (plain http only to this machine)")
    return url


def database_url(value: Any) -> str:
    """SQLAlchemy's URL of one of the three kinds of database. Its password never shows in messages."""
    url = text(value)
    scheme, colon, rest = url.partition(":")
    if not colon or not rest.startswith("//"):
        raise ValueError("must be a URL like sqlite:///cdrsync.db or postgresql+psycopg://user@host/database")
    if scheme not in DATABASE_SCHEMES:
        raise ValueError(
            f"can't use {scheme[:24]!r}: use sqlite, postgresql+psycopg or mysql+pymysql"
            f"{did_you_mean(scheme, DATABASE_SCHEMES)}"
        )
    if scheme == "sqlite" and (path := rest.removeprefix("//").partition("?")[0]) and not path.startswith("/"):
        raise ValueError(f"needs three slashes before a file of SQLite: sqlite:///{path}")
    parts = unquote(rest.partition("?")[0]).split("/")
    if "\0" in url + "".join(parts) or (scheme == "sqlite" and max(map(len, map(str.encode, parts))) > LONGEST_NAME):
        raise ValueError("names no database that there can be: a zero byte, or a name that is too long")
    if scheme != "sqlite" and "@" in _LOGIN.sub("", rest.removeprefix("//")).partition("?")[0]:
        raise ValueError(
            "has an @ behind the one that ends the login: percent-encode the password (@ is %40, / is %2F, # is %23)"
        )
    return url


def listen(value: Any) -> Listen | None:
    """`host:port` (`[::1]:9810` for IPv6), or empty for none."""
    written = text(value)
    if written.lower() in OFF_WORDS:
        return None
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([\w.-]*)):(\d{1,5})", written)
    if match is None or int(match[3]) > 65535:  # noqa: PLR2004 - the highest port there is
        raise ValueError('must be host:port like 127.0.0.1:9810, or "" for none')
    return Listen(match[1] or match[2] or "0.0.0.0", int(match[3]))  # noqa: S104 - ":9810" asks for every address


def hosts(value: Any) -> tuple[str, ...]:
    """Names or addresses of hosts, without ports: a list, or a text with commas between them."""
    items = _listed(value, 'names in quotes, like ["cdr.example.com"]')
    cleaned = [item.strip().strip("[]").lower().rstrip(".") for item in items]
    bad = [item for item in cleaned if item and not re.fullmatch(r"[\w.-]+|[0-9a-f:.]+", item)]
    if bad:
        raise ValueError(f"has {bad[0]!r}, which is no host's name (without http:// and without a port)")
    return tuple(dict.fromkeys(filter(None, cleaned)))


def rate(value: Any) -> float:
    """Requests a second, whole or not."""
    try:
        found = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else -1.0
    except ValueError:
        found = -1.0
    if not RATES[0] <= found <= RATES[1]:
        raise ValueError(f"must be a number of requests a second from {RATES[0]} to {RATES[1]}")
    return found


def did_you_mean(word: str, known: Iterable[str], *, written: Callable[[str], str] = str) -> str:
    """`; did you mean x?` where a known word is close, else nothing. `written`: how it is to be written."""
    close = get_close_matches(word.lower().replace("-", "_"), list(known), n=1, cutoff=0.6)
    return f"; did you mean {written(close[0])}?" if close else ""


def show(value: Any) -> str:
    """Return a parsed value as a person would write it."""
    match value:
        case None:
            return "off"
        case bool():
            return str(value).lower()
        case timedelta():
            seconds = value.total_seconds()
            unit = next((u for u in "dhm" if seconds and seconds % _UNITS[u] == 0), "s")
            return f"{seconds / _UNITS[unit]:g}{unit}"
        case time():
            return value.strftime("%H:%M")
        case tuple() if not isinstance(value, Listen):
            return ", ".join(value)
        case _:
            return str(value)


def mask_url(url: str) -> str:
    """Return the URL without its password: up to its last `@`, so that a badly quoted password does not show either."""
    hidden = re.sub(r"^([^:]+://[^:@]*:).*@", r"\1***@", url, flags=re.DOTALL)
    return re.sub(r"(?i)([?&][^=&]*pass[^=&]*=)[^&]*", r"\1***", hidden)


def url_password(url: str) -> str | None:
    """Return the password in a database URL as it stands there (percent-encoded), None where there is none."""
    match = re.match(r"[^:]+://[^:@]*:(.*)@", url, flags=re.DOTALL)
    return match[1] if match else None
