"""The values of a configuration: how they may be written, which are refused, and how they are shown."""

from __future__ import annotations

import contextlib
from datetime import date, time, timedelta
from typing import TYPE_CHECKING
from urllib.parse import quote

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdrsync.config import KEYS, Inputs, Start, load, read
from cdrsync.config.values import mask_url, show, url_password
from tests.support.canary import DATABASE_PASSWORD, PASSWORD, VKEY
from tests.support.configuration import LOGIN, problems, settings

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("key", "written", "value"),
    [
        ("poll_interval", "90", timedelta(seconds=90)),
        ("poll_interval", "90s", timedelta(seconds=90)),
        ("poll_interval", "1.5h", timedelta(minutes=90)),
        ("lookback", "0", timedelta(0)),
        ("lookback", "7d", timedelta(days=7)),
        ("start_date", "ALL", Start.ALL),
        ("start_date", "2024-02-29", date(2024, 2, 29)),
        ("audit_time", "off", None),
        ("audit_time", "23:59", time(23, 59)),
        ("numbers", "01213691057, +441245830144", ("01213691057", "+441245830144")),
        ("api_url", "http://127.0.0.1:9811/api/", "http://127.0.0.1:9811/api/"),
    ],
)
def test_values_are_read_as_people_write_them(key: str, written: str, value: object) -> None:
    """Durations, dates, times and lists as texts, the same in a flag, a variable and the file."""
    assert getattr(settings(flags={key: written}).accounts[0], key) == value
    assert getattr(settings(environ={f"CDRSYNC_{key.upper()}": written}).accounts[0], key) == value
    assert getattr(settings(f'{key} = "{written}"').accounts[0], key) == value


@pytest.mark.parametrize(
    ("key", "written"),
    [
        ("poll_interval", "0"),
        ("poll_interval", "-5"),
        ("poll_interval", "2 days"),
        ("page_size", "0"),
        ("page_size", "1e3"),
        ("start_date", "2024-02-30"),
        ("start_date", "yesterday"),
        ("audit_time", "24:00"),
        ("numbers", "abc"),
        ("http_listen", "9810"),
        ("http_listen", "host:99999"),
        ("database_url", "oracle://x"),
        ("database_url", "cdrsync.db"),
        ("database_url", "sqlite:////var/lib/%00.db"),
        ("database_url", "postgresql://u@127.0.0.1/x%00"),
        ("database_url", f"sqlite:////var/lib/{'x' * 250}.db"),
        ("database_url", "postgresql://u:p@ss/w#rd@127.0.0.1/x"),
        ("database_url", "mysql+pymysql://u:p@ss@127.0.0.1/x"),
        ("database_url", "postgresql://u/x:p@127.0.0.1/x"),
        ("api_url", "ftp://example.com"),
        ("api_url", "https://user:pass@example.com/"),
        ("timezone", "../etc/passwd"),
        ("log_level", "verbose"),
        ("auto_migrate", "perhaps"),
        ("retention_months", "0"),
    ],
)
def test_values_that_make_no_sense_are_refused(key: str, written: str) -> None:
    """One problem, which names the key and where it stands."""
    (problem,) = problems(flags={key: written})
    assert problem.startswith(f"{key} ")
    assert problem.endswith("(from flag)")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://u:p%40ss%2Fw%23rd@[::1]:5432/x",
        "postgresql://u:p/w#r?d@db/x",
        "postgresql:///x?host=/tmp/a@b&user=c@d",
        "mysql+pymysql://user@server:p@server.example/x?unix_socket=/tmp/a@b",
        "sqlite:////srv/me@here/a@b.db",
    ],
)
def test_a_url_that_can_be_read_as_meant_is_accepted(url: str) -> None:
    """An @ is refused only where it ends up in a server's name or a database's."""
    assert settings(flags={"database_url": url}).database_url == url


def test_secrets_are_masked_wherever_settings_are_shown() -> None:
    """`config show` and repr() print neither password, VKey, token nor the database's password."""
    url = f"postgresql+psycopg://cdr:{quote(DATABASE_PASSWORD, safe='')}@db/calls"
    environ = {**LOGIN, "CDRSYNC_DATABASE_URL": url, "CDRSYNC_DOORBELL_TOKEN": VKEY}
    found = load(Inputs(environ=environ))
    shown = {name: KEYS[name].show(one.value) for name, one in read(Inputs(environ=environ)).shared.items()}
    assert shown["database_url"] == "postgresql+psycopg://cdr:***@db/calls"
    assert shown["doorbell_token"] == "***"
    assert "cAnArY" not in repr(found)
    assert set(found.secrets()) >= {PASSWORD, VKEY, DATABASE_PASSWORD}


def test_a_pseudonym_key_that_can_be_guessed_is_refused() -> None:
    """With it whoever holds the tables could try every number."""
    said = "must be 16 characters or more, such as openssl rand -hex 24 prints"
    (problem,) = problems('pseudonym_key = "fifteen letters"')
    assert "pseudonym_key" in problem
    assert said in problem
    assert "fifteen" not in problem


def test_retention_by_pseudonyms_needs_their_key() -> None:
    """Without it the numbers could not be told apart afterwards."""
    assert problems("retention_months = 12") == [
        "retention_policy pseudonymise needs a pseudonym_key (any long random text, kept for good)"
    ]
    assert settings('retention_months = 12\nretention_policy = "delete"').retention_months == 12


@hypothesis.settings(max_examples=40)  # for each of all keys
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40))
def test_no_text_breaks_a_parser(text: str) -> None:
    """Whatever a value holds, it is taken or refused in words."""
    for key in KEYS.values():
        with contextlib.suppress(ValueError):
            key.show(key.parse(text))


@given(st.text(min_size=1, max_size=30).filter(lambda s: "@" not in s and ":" not in s and "/" not in s))
def test_a_database_url_never_shows_its_password(password: str) -> None:
    """Also where it is not quoted as it should be."""
    url = f"mysql+pymysql://user:zq{password}@host/db"
    assert mask_url(url) == "mysql+pymysql://user:***@host/db"
    assert url_password(url) == f"zq{password}"


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=7)).map(lambda d: timedelta(seconds=d.seconds)))
def test_a_duration_is_shown_as_it_can_be_written(span: timedelta) -> None:
    """`config show` prints what the file would take."""
    assert KEYS["lookback"].parse(show(span)) == span
