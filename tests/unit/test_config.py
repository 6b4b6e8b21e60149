"""Configuration: layers, sources, every problem at once, and never a secret in a message."""

from __future__ import annotations

import contextlib
import dataclasses
from datetime import date, time, timedelta
from pathlib import Path
from urllib.parse import quote
from zoneinfo import ZoneInfo

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdrsync.config import KEYS, AccountSettings, Inputs, Listen, Settings, Start, load, read
from cdrsync.config.values import mask_url, show, url_password
from cdrsync.errors import ConfigError
from tests.support.canary import DATABASE_PASSWORD, PASSWORD, VKEY

LOGIN = {"CDRSYNC_USERNAME": "canary@example.com", "CDRSYNC_PASSWORD": PASSWORD, "CDRSYNC_VKEY": VKEY}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def settings(
    toml: str = "", /, *, flags: dict[str, str] | None = None, environ: dict[str, str] | None = None, **more: str
) -> Settings:
    Path("cdrsync.toml").write_text(toml, encoding="utf-8")
    return load(Inputs(flags=flags or {}, environ={**LOGIN, **(environ or {}), **more}))


def problems(toml: str = "", flags: dict[str, str] | None = None, environ: dict[str, str] | None = None) -> list[str]:
    Path("cdrsync.toml").write_text(toml, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(Inputs(flags=flags or {}, environ=LOGIN if environ is None else environ))
    return caught.value.problems


def test_defaults_are_those_of_the_contract() -> None:
    """With a login and nothing else, everything has the documented default."""
    found = settings()
    (account,) = found.accounts
    assert dataclasses.asdict(dataclasses.replace(account, sources={}, password="", vkey="")) == {
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
        "sources": {},
    }
    assert found.database_url == "sqlite:///cdrsync.db"
    assert found.auto_migrate is True
    assert found.http_listen == Listen("127.0.0.1", 9810)
    assert (found.doorbell_token, found.retention_months, found.pseudonym_key) == (None, None, None)
    assert (found.log_format, found.log_level, found.log_numbers) == ("auto", "info", False)


def test_the_table_of_keys_and_the_settings_agree() -> None:
    """Every key has a field, every field a key, and every key a line of help."""
    account = {field.name for field in dataclasses.fields(AccountSettings)} - {"name", "sources"}
    shared = {field.name for field in dataclasses.fields(Settings)} - {"accounts", "sources"}
    assert {name for name, key in KEYS.items() if key.account} == account
    assert {name for name, key in KEYS.items() if not key.account} == shared
    assert [key.name for key in KEYS.values() if not key.help] == []


def test_flag_beats_environment_beats_file_beats_default() -> None:
    """The contract's precedence, and each value says where it came from."""
    toml = "page_size = 300\nsweep_days = 3\nbackfill_workers = 3\n"
    found = settings(toml, flags={"page_size": "100"}, CDRSYNC_PAGE_SIZE="200", CDRSYNC_SWEEP_DAYS="2")
    (account,) = found.accounts
    assert (account.page_size, account.sweep_days, account.backfill_workers, account.lookback) == (
        100,
        2,
        3,
        timedelta(hours=2),
    )
    assert {key: account.sources[key] for key in ("page_size", "sweep_days", "backfill_workers", "lookback")} == {
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
    sales, support = load(Inputs(environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})).accounts
    assert (sales.name, sales.page_size, sales.password, sales.start_date) == (
        "sales",
        500,
        PASSWORD,
        date(2024, 1, 31),
    )
    assert (support.name, support.page_size, support.password, support.vkey) == ("support", 50, "other", "shared")
    assert support.numbers == ("01213691057",)
    assert sales.sources["password"] == "credential password.sales"


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
        ('[accounts."a b"]', "account name 'a b' must be letters"),
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


def test_a_file_that_is_not_there_is_a_problem_only_when_asked_for() -> None:
    """The default places may be empty."""
    Path("cdrsync.toml").unlink(missing_ok=True)
    with pytest.raises(ConfigError) as caught:
        load(Inputs(config=Path("no.toml"), environ=LOGIN))
    assert caught.value.problems == ["can't read no.toml: No such file or directory"]
    assert load(Inputs(environ=LOGIN)).accounts[0].name == "default"


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
