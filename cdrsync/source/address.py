"""Where and as whom to ask, checked before anything is sent."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import httpx

from cdrsync.errors import ConfigError
from cdrsync.source.request import can_be_sent

if TYPE_CHECKING:
    from cdrsync.source.request import Login


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
