"""Where and as whom to ask: what is refused before anything is sent."""

from __future__ import annotations

import pytest

from cdrsync.errors import ConfigError
from cdrsync.source.request import Login
from tests.support.api import api


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://xml.example.com/api/", "api_url: plain http would send the password readable by all"),
        ("http://127.0.0.1.example.com/", "api_url: plain http"),
        ("http://10.0.0.1/", "api_url: plain http"),
        ("ftp://127.0.0.1/", "api_url: must be https://HOST/…"),
        ("127.0.0.1", "api_url: must be https://HOST/…"),
        ("https://", "api_url: must be https://HOST/…"),
        ("https://user:pass@example.com/", "api_url: must not hold a user name or password"),
        ("https://exa mple.com:x/", "api_url: not a URL"),
    ],
)
def test_an_address_that_must_not_be_asked(url: str, problem: str) -> None:
    """Credentials go over TLS, or to this machine only."""
    with pytest.raises(ConfigError) as raised:
        api(url)

    assert len(raised.value.problems) == 1
    assert raised.value.problems[0].startswith(problem)


@pytest.mark.parametrize(
    "url", ["https://xml.ttnc.co.uk/api/", "http://localhost:1/", "http://127.9.9.9/", "http://[::1]/"]
)
def test_an_address_that_may_be_asked(url: str) -> None:
    """Https anywhere, plain http to loopback."""
    api(url).close()


def test_every_problem_is_said_at_once() -> None:
    """What XML can't carry and a bad address are all named, without their values."""
    with pytest.raises(ConfigError) as raised:
        api("http://example.com/", Login("a\x00", "b\x01", "c\ufffe"))

    assert [one.split(":")[0] for one in raised.value.problems] == ["username", "password", "vkey", "api_url"]
    assert "\x01" not in str(raised.value)
