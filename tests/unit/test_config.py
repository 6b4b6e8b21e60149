"""Configuration: layers, accounts, sources, every problem at once, and never a secret in a message."""

from __future__ import annotations

import dataclasses
from datetime import date, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from cdrsync.config import KEYS, AccountSettings, Inputs, Listen, Settings, Start, load, read
from cdrsync.errors import ConfigError
from tests.support.canary import PASSWORD, VKEY
from tests.support.configuration import LOGIN, problems, settings


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_defaults_are_those_of_the_contract() -> None:
    """With a login and nothing else, everything has the documented default."""
    found = settings()
    (account,) = found.accounts
    assert dataclasses.asdict(dataclasses.replace(account, password="", vkey="")) == {
        "name": "default",
        "api_url": "https://xml.ttnc.co.uk/api/",
        "username": "canary@example.com",
        "password": "",
        "vkey": "",
        "timezone": ZoneInfo("Europe/London"),
        "start_date": Start.ALL,
        "numbers": (),
        "page_size": 1000,
        "poll_interval": timedelta(seconds=60),
        "lookback": timedelta(hours=2),
        "lookback_interval": timedelta(minutes=10),
        "sweep_days": 7,
        "backfill_workers": 2,
        "audit_time": time(4, 30),
    }
    assert found.database_url == "sqlite:///cdrsync.db"
    assert found.auto_migrate is True
    assert found.http_listen == Listen("127.0.0.1", 9810)
    assert (found.doorbell_token, found.retention_months, found.pseudonym_key) == (None, None, None)
    assert (found.log_format, found.log_level, found.log_numbers) == ("auto", "info", False)


def test_the_table_of_keys_and_the_settings_agree() -> None:
    """Every key has a field, every field a key, and every key a line of help."""
    account = {field.name for field in dataclasses.fields(AccountSettings)} - {"name"}
    shared = {field.name for field in dataclasses.fields(Settings)} - {"accounts"}
    assert {name for name, key in KEYS.items() if key.account} == account
    assert {name for name, key in KEYS.items() if not key.account} == shared
    assert [key.name for key in KEYS.values() if not key.help] == []


def test_flag_beats_environment_beats_file_beats_default() -> None:
    """The contract's precedence, and each value says where it came from."""
    toml = "page_size = 300\nsweep_days = 3\nbackfill_workers = 3\n"
    environ = {**LOGIN, "CDRSYNC_PAGE_SIZE": "200", "CDRSYNC_SWEEP_DAYS": "2"}
    Path("cdrsync.toml").write_text(toml, encoding="utf-8")
    found = read(Inputs(flags={"page_size": "100"}, environ=environ))
    (account,) = found.settings(credentials=True).accounts
    assert (account.page_size, account.sweep_days, account.backfill_workers, account.lookback) == (
        100,
        2,
        3,
        timedelta(hours=2),
    )
    assert {
        key: found.accounts["default"][key].source
        for key in ("page_size", "sweep_days", "backfill_workers", "lookback")
    } == {
        "page_size": "flag",
        "sweep_days": "environment CDRSYNC_SWEEP_DAYS",
        "backfill_workers": "cdrsync.toml",
        "lookback": "default",
    }


def test_every_problem_at_once() -> None:
    """A person mends the configuration in one go, misspellings included."""
    found = problems(
        'page_sise = 5\npoll_interval = "5x"\n[accounts.sales]\ntimezone = "Europe/Londn"\nauto_migrate = true\n',
        {"sweepdays": "1"},
        {"CDRSYNC_PAGESIZE": "4", "CDRSYNC_API_URL": "http://api.example.com/"},
    )
    assert found == [
        "unknown key 'sweepdays' given by --set; did you mean sweep_days?",
        "unknown environment variable CDRSYNC_PAGESIZE; did you mean CDRSYNC_PAGE_SIZE?",
        "unknown key 'page_sise' in cdrsync.toml; did you mean page_size?",
        (
            "auto_migrate in cdrsync.toml [accounts.sales] is for the whole program: "
            "write it into cdrsync.toml, above all tables"
        ),
        (
            "api_url must be https: the password would travel in clear (plain http only to this machine) "
            "(from environment CDRSYNC_API_URL)"
        ),
        "timezone is not a time zone: 'Europe/Londn'; did you mean Europe/London? (from cdrsync.toml [accounts.sales])",
        "poll_interval must be seconds or a duration like 90s, 10m, 2h, 7d (from cdrsync.toml)",
        (
            "no username, password, vkey for account sales: set CDRSYNC_USERNAME, CDRSYNC_PASSWORD, CDRSYNC_VKEY "
            "or write them into cdrsync.toml"
        ),
    ]


def test_without_a_login_it_says_what_to_set() -> None:
    """The first thing that a new user sees tells the next step."""
    assert problems(environ={}) == [
        (
            "no username, password, vkey: set CDRSYNC_USERNAME, CDRSYNC_PASSWORD, CDRSYNC_VKEY "
            "or write them into cdrsync.toml"
        )
    ]


def test_what_needs_no_login_loads_without_one() -> None:
    """`cdrsync status` and `cdrsync db upgrade` need a database only."""
    assert load(Inputs(environ={}), credentials=False).accounts[0].username == ""


@pytest.mark.parametrize("way", ["environment", "toml", "credential"])
def test_secrets_come_from_files_too(way: str, tmp_path: Path) -> None:
    """CDRSYNC_PASSWORD_FILE, password_file and $CREDENTIALS_DIRECTORY; one line end at the end is dropped."""
    (tmp_path / "password").write_text(PASSWORD + "\n", encoding="utf-8")
    environ = {key: value for key, value in LOGIN.items() if key != "CDRSYNC_PASSWORD"}
    toml = ""
    if way == "environment":
        environ["CDRSYNC_PASSWORD_FILE"] = str(tmp_path / "password")
    elif way == "toml":
        toml = 'password_file = "password"\n'  # relative to the file it stands in
    else:
        environ["CREDENTIALS_DIRECTORY"] = str(tmp_path)
    Path("cdrsync.toml").write_text(toml, encoding="utf-8")
    assert load(Inputs(environ=environ)).accounts[0].password == PASSWORD


def test_a_secret_file_that_can_not_be_read_is_one_problem() -> None:
    """No second problem that claims the password were not set."""
    environ = {**LOGIN, "CDRSYNC_PASSWORD": "", "CDRSYNC_PASSWORD_FILE": "nowhere"}
    assert problems(environ=environ) == ["CDRSYNC_PASSWORD_FILE: can't read nowhere: No such file or directory"]


def test_a_secret_given_twice_is_a_problem() -> None:
    """Whoever rotates one of the two would wonder."""
    found = problems(environ={**LOGIN, "CDRSYNC_VKEY_FILE": "x"})
    assert found == ["both CDRSYNC_VKEY and CDRSYNC_VKEY_FILE are set: keep one"]


def test_accounts_override_their_own_keys(tmp_path: Path) -> None:
    """[accounts.NAME] beats the keys above it; what it leaves out is shared; credentials may be per account."""
    (tmp_path / "password.sales").write_text(PASSWORD, encoding="utf-8")
    toml = """
        page_size = 500
        vkey = "shared"
        [accounts.sales]
        username = "sales@example.com"
        start_date = 2024-01-31
        [accounts.support]
        username = "support@example.com"
        password = "other"
        page_size = 50
        numbers = ["0121 369 1057"]
    """
    Path("cdrsync.toml").write_text(toml, encoding="utf-8")
    found = read(Inputs(environ={"CREDENTIALS_DIRECTORY": str(tmp_path)}))
    sales, support = found.settings(credentials=True).accounts
    assert (sales.name, sales.page_size, sales.password, sales.start_date) == (
        "sales",
        500,
        PASSWORD,
        date(2024, 1, 31),
    )
    assert (support.name, support.page_size, support.password, support.vkey) == ("support", 50, "other", "shared")
    assert support.numbers == ("01213691057",)
    assert found.accounts["sales"]["password"].source == "credential password.sales"


def test_two_accounts_with_the_same_login_are_refused() -> None:
    """Every call would be stored, and counted, twice."""
    found = problems("[accounts.a]\n[accounts.b]\n")
    assert found == ["accounts a and b have the same login: every call would be stored twice"]


def test_one_variable_does_not_replace_the_passwords_of_several_accounts() -> None:
    """The wrong password would be sent for all but one."""
    toml = '[accounts.a]\nusername = "a"\npassword = "1"\n[accounts.b]\nusername = "b"\npassword = "2"\n'
    found = problems(toml, environ={"CDRSYNC_PASSWORD": PASSWORD, "CDRSYNC_VKEY": VKEY})
    assert found == [
        (
            "environment CDRSYNC_PASSWORD would replace the password of accounts a, b: "
            "unset it, or use password_file in each of them"
        )
    ]


def test_variables_that_kubernetes_sets_are_no_mistakes() -> None:
    """A service called cdrsync puts its address into every container beside it."""
    links = {
        "CDRSYNC_SERVICE_HOST": "10.0.0.1",
        "CDRSYNC_SERVICE_PORT": "9810",
        "CDRSYNC_SERVICE_PORT_HTTP": "9810",
        "CDRSYNC_PORT": "tcp://10.0.0.1:9810",
        "CDRSYNC_PORT_9810_TCP_ADDR": "10.0.0.1",
        "CDRSYNC_SANDBOX_SERVICE_HOST": "10.0.0.2",
    }
    assert settings(environ=links).accounts[0].name == "default"


def test_empty_variables_are_unset_ones() -> None:
    """Compose files set them so; only http_listen and numbers have an empty value that means something."""
    found = settings("page_size = 5", CDRSYNC_PAGE_SIZE="", CDRSYNC_HTTP_LISTEN="", CDRSYNC_DOORBELL_TOKEN="")
    assert (found.accounts[0].page_size, found.http_listen, found.doorbell_token) == (5, None, None)


@pytest.mark.parametrize(
    ("toml", "start"),
    [
        (f'password = "{VKEY}\n', "cdrsync.toml is not valid TOML: look at line 1"),
        ("accounts = 3", "accounts must be tables like [accounts.sales]"),
        ("[accounts]\npage_size = 3", "accounts.page_size must be a table"),
        ('[accounts."a b"]', "account name 'a b' must begin with a letter or digit; then '_', '-' and"),
        ('[accounts."..a"]', "account name '..a' must begin with a letter or digit"),
        ("page_size = true", "page_size must be a whole number"),
        ('password = "two\\nlines"', "password has control characters"),
        ("password = 5", "password must be a text in quotes, not a number"),
    ],
)
def test_a_broken_file_is_explained_without_its_secrets(toml: str, start: str) -> None:
    """Not even the line that a TOML parser would quote."""
    environ = {"CDRSYNC_USERNAME": "u", "CDRSYNC_VKEY": "v"}
    first = problems(toml, environ=environ)[0]
    assert first.startswith(start)


@pytest.mark.parametrize("content", [b'password = "', b"\xff", None])
def test_what_stands_in_a_file_that_can_not_be_read_is_not_called_missing(content: bytes | None) -> None:
    """One problem, and no advice to set what is set."""
    if content is None:
        Path("cdrsync.toml").unlink(missing_ok=True)
        Path("cdrsync.toml").mkdir()
    else:
        Path("cdrsync.toml").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(Inputs(config=Path("cdrsync.toml"), environ={}))
    assert len(caught.value.problems) == 1


def test_a_file_that_is_not_there_is_a_problem_only_when_asked_for() -> None:
    """The default places may be empty."""
    Path("cdrsync.toml").unlink(missing_ok=True)
    with pytest.raises(ConfigError) as caught:
        load(Inputs(config=Path("no.toml"), environ=LOGIN))
    assert caught.value.problems == ["can't read no.toml: No such file or directory"]
    assert load(Inputs(environ=LOGIN)).accounts[0].name == "default"
