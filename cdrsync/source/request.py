"""Asks → the XML document that is posted (the request samples of the operator's page)."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import cache
from xml.sax.saxutils import escape

import httpx

from cdrsync.errors import ConfigError
from cdrsync.model import CdrsAsk, TotalsAsk

LOGIN = "SessionLogin"


@dataclass(frozen=True, slots=True)
class RecordAsk:
    """One GetCDR request: by `uid` (CDRUID) or by `ref` (CDRRef)."""

    uid: int | None = None
    ref: str | None = None


Ask = CdrsAsk | TotalsAsk | RecordAsk


@dataclass(frozen=True, slots=True)
class Login:
    """An Auth/SessionLogin request. Never printed: its repr shows nothing."""

    username: str
    password: str
    vkey: str

    def __repr__(self) -> str:
        return "Login(…)"


@dataclass(frozen=True, slots=True)
class Request:
    """One `<Request>`: its attributes, by which its answer is known again, and its parameters."""

    target: str
    name: str
    id: str
    parameters: tuple[tuple[str, str], ...]

    def __repr__(self) -> str:
        return f"Request({self.target}/{self.name} {self.id})"


def request(ask: Ask | Login, request_id: str) -> Request:
    """Give the request that asks for `ask`."""
    match ask:
        case Login():
            parameters = {"Username": ask.username, "Password": ask.password, "VKey": ask.vkey}
            return Request("Auth", LOGIN, request_id, tuple(parameters.items()))
        case CdrsAsk():
            name, asked = "GetCDRs", _cdrs(ask)
        case TotalsAsk():
            name, asked = "GetTotals", {"Period": ask.period.value, "Number": ask.number}
        case RecordAsk():
            name, asked = "GetCDR", {"CDRUID": ask.uid, "CDRRef": ask.ref}
    sent = tuple((element, str(value)) for element, value in asked.items() if value is not None)
    return Request("NoveroCDR", name, request_id, sent)


def document(requests: list[Request], *, session_id: str | None) -> bytes:
    """Give the document of these requests, in their order, with the SessionId above them where there is one."""
    lines = ['<?xml version="1.0"?>', "<NoveroRequest>"]
    if session_id is not None:
        lines.append(f"<SessionId>{_text(session_id)}</SessionId>")
    for one in requests:
        lines.append(f'<Request target="{one.target}" name="{one.name}" id="{one.id}">')
        lines += [f"<{element}>{_text(value)}</{element}>" for element, value in one.parameters]
        lines.append("</Request>")
    lines += ["</NoveroRequest>", ""]
    return "\n".join(lines).encode()


def can_be_sent(value: str) -> bool:
    """Say whether XML can carry `value`: control characters have no form in it."""
    # Nearly every value is plain; the set of all characters takes as long to compile as the rest of a start's patterns.
    return (value.isascii() and value.isprintable()) or not _forbidden().search(value)


@cache
def _forbidden() -> re.Pattern[str]:
    return re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _cdrs(ask: CdrsAsk) -> dict[str, object]:
    return {
        "Number": ask.number,
        "LastId": ask.after_uid,
        "StartDate": ask.start_date and ask.start_date.isoformat(),
        "EndDate": ask.end_date and ask.end_date.isoformat(),
        "offset": ask.offset or None,  # the default of the operator's page
        "limit": ask.limit,
    }


def _text(value: str) -> str:
    return escape(value, {"\r": "&#13;"})


def checked(url: str, login: Login) -> httpx.URL:
    """Give the URL to post to. Raises ConfigError with every problem of it and of the credentials."""
    credentials = {"username": login.username, "password": login.password, "vkey": login.vkey}
    problems = [
        f"{name}: holds a character that XML can't carry" for name in credentials if not can_be_sent(credentials[name])
    ]
    try:
        parsed = httpx.URL(url)
        problems += _problems(parsed)
    except httpx.InvalidURL as error:
        raise ConfigError([*problems, f"api_url: not a URL: {error}"]) from None
    if problems:
        raise ConfigError(problems)
    return parsed


def _problems(url: httpx.URL) -> list[str]:
    if url.scheme not in {"http", "https"} or not url.host:
        return ["api_url: must be https://HOST/…"]
    if url.userinfo:
        return ["api_url: must not hold a user name or password; those are username, password and vkey"]
    if url.scheme == "http" and not _is_loopback(url.host):
        return ["api_url: plain http would send the password readable by all; it is for this machine only (127.0.0.1)"]
    return []


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
