"""Where configuration stands: files of accounts, files of secrets, marks of editors, and what may not be a flag."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest

from cdrsync.config import Inputs, Reading, load, read
from cdrsync.errors import ConfigError
from tests.support.canary import PASSWORD, VKEY

BOM = b"\xef\xbb\xbf"
MANY = 1000


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def folder(files: dict[str, str], shared: str = f'password = "{PASSWORD}"\nvkey = "{VKEY}"\n') -> None:
    Path("cdrsync.toml").write_text(shared, encoding="utf-8")
    Path("accounts.d").mkdir(exist_ok=True)
    for name, content in files.items():
        Path("accounts.d", name).write_text(content, encoding="utf-8")


def found(environ: dict[str, str] | None = None, flags: dict[str, str] | None = None) -> Reading:
    return read(Inputs(environ=environ or {}, flags=flags or {}))


def problems(environ: dict[str, str] | None = None, flags: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        found(environ, flags).settings(credentials=True)
    return caught.value.problems


def test_each_file_of_the_folder_is_an_account() -> None:
    """The file's name is the account's; what it leaves out is shared; files that are no .toml are nothing to us."""
    folder(
        {
            "sales.toml": 'username = "sales@example.com"\npage_size = 50\n',
            "support.toml": 'username = "support@example.com"\npassword_file = "support.password"\n',
            "support.password": VKEY + "\n",
            ".sales.toml": "page_size = 3",
            "sales.toml~": "page_size = 4",
            "README": "who may change these",
        }
    )
    found = read(Inputs(environ={}))
    sales, support = found.settings(credentials=True).accounts
    assert (sales.name, sales.page_size, sales.password) == ("sales", 50, PASSWORD)
    assert (support.name, support.page_size, support.password) == ("support", 1000, VKEY)
    assert found.accounts["sales"]["page_size"].source == "accounts.d/sales.toml"


def test_the_folder_stands_beside_the_file_that_is_named(tmp_path: Path) -> None:
    """And not in the directory that a command happens to be given in."""
    folder({"here.toml": 'username = "here"'})
    elsewhere = tmp_path / "etc"
    (elsewhere / "accounts.d").mkdir(parents=True)
    (elsewhere / "x.toml").write_text(f'password = "{PASSWORD}"\nvkey = "v"\n', encoding="utf-8")
    (elsewhere / "accounts.d/there.toml").write_text('username = "there"', encoding="utf-8")
    assert [a.name for a in load(Inputs(config=elsewhere / "x.toml", environ={})).accounts] == ["there"]


def test_a_folder_needs_no_file_beside_it() -> None:
    """All that accounts share may come from the environment."""
    folder({"sales.toml": 'username = "sales"'})
    Path("cdrsync.toml").unlink()
    (account,) = load(Inputs(environ={"CDRSYNC_PASSWORD": PASSWORD, "CDRSYNC_VKEY": VKEY})).accounts
    assert (account.name, account.vkey) == ("sales", VKEY)


def test_every_problem_of_every_file_at_once() -> None:
    """Each names its file."""
    folder(
        {
            "a.toml": "page_size = 0\nauto_migrate = true",
            "b.toml": "username = ",
            "c d.toml": "",
            "e.toml": 'user = "x"',
            "sales.toml": 'username = "sales"',
        },
        '[accounts.sales]\nusername = "sales"\n',
    )
    said = problems()
    assert set(said) >= {
        "account name 'c d' must begin with a letter or digit; then '_', '-' and '.' too, at most 63",
        "accounts.d/b.toml is not valid TOML: look at end of document (texts need quotes)",
        "account sales stands in cdrsync.toml [accounts.sales] and in accounts.d/sales.toml: keep one",
        "auto_migrate in accounts.d/a.toml is for the whole program: write it into cdrsync.toml, above all tables",
        "page_size must be between 1 and 10000, not 0 (from accounts.d/a.toml)",
        "unknown key 'user' in accounts.d/e.toml; did you mean username?",
    }
    assert "no username, password, vkey for account e: write them into accounts.d/e.toml" in said
    assert not [
        line for line in said if "account b:" in line
    ]  # what stands in a file that can't be read is not missing


@pytest.mark.parametrize(
    "login",
    [
        ("User@example.com", "user@example.com"),
        ("12345", "12345"),
    ],
)
def test_two_files_with_one_login_are_refused(login: tuple[str, str]) -> None:
    """Every call would be stored twice, also where each is limited to numbers of its own."""
    first, second = login
    folder({"a.toml": f'username = "{first}"\nnumbers = ["01213691057"]', "b.toml": f'username = "{second}"'})
    assert problems() == ["accounts a and b have the same login: every call would be stored twice"]


def test_a_thousand_accounts_are_checked_in_a_second() -> None:
    """Counted as processor time: other programs' work is not ours."""
    folder({f"customer-{n}.toml": f'username = "c{n}@example.com"\nstart_date = 2024-01-01\n' for n in range(MANY)})
    began = time.process_time()
    settings = found().settings(credentials=True)
    assert len(settings.accounts) == MANY
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize(
    ("account", "environ", "said"),
    [
        (
            "", {"CDRSYNC_USERNAME": "u", "CDRSYNC_VKEY": VKEY},
            "no password: set CDRSYNC_PASSWORD or write it into cdrsync.toml",
        ),
        (
            "[accounts.sales]\n", {"CDRSYNC_USERNAME": "u"},
            "no password, vkey for account sales: set CDRSYNC_PASSWORD, CDRSYNC_VKEY or write them into cdrsync.toml",
        ),
    ],
)  # fmt: skip
def test_what_is_missing_is_said_with_the_place_to_put_it(account: str, environ: dict[str, str], said: str) -> None:
    """One key is "it", several are "them"; the file is the one that was read, or would be."""
    if account:
        Path("cdrsync.toml").write_text(account, encoding="utf-8")
    assert problems(environ) == [said]


def test_the_mark_that_some_editors_write_is_none_of_the_text() -> None:
    """A byte order mark at the beginning of a TOML file, of an account's, and of a secret's."""
    folder({})
    Path("cdrsync.toml").write_bytes(BOM + b'page_size = 7\npassword_file = "secret"\nvkey = "v"\n')
    Path("accounts.d/sales.toml").write_bytes(BOM + b'username = "sales"\n')
    Path("secret").write_bytes(BOM + PASSWORD.encode() + b"\r\n")
    (account,) = load(Inputs(environ={})).accounts
    assert (account.page_size, account.username, account.password) == (7, "sales", PASSWORD)


@pytest.mark.parametrize("key", ["password", "vkey", "doorbell_token", "pseudonym_key", "http_password", "PASSWORD"])
def test_a_secret_is_no_flag(key: str) -> None:
    """Every user of the machine sees a command line. The message does not repeat it."""
    said = problems({"CDRSYNC_USERNAME": "u", "CDRSYNC_VKEY": VKEY, "CDRSYNC_PASSWORD": PASSWORD}, {key: VKEY})
    name = key.lower()
    ways = f"set CDRSYNC_{name.upper()} or CDRSYNC_{name.upper()}_FILE"
    assert said == [f"{name} can't be given by --set: every user of this machine could read it; {ways}"]


def test_a_database_is_a_flag() -> None:
    """Where it holds no password it is no secret; --database-url is the contract's."""
    settings = found({}, {"database_url": "sqlite:///x.db"}).settings(credentials=False)
    assert settings.database_url == "sqlite:///x.db"


@pytest.mark.parametrize(
    ("key", "written", "said"),
    [
        ("doorbell_token", "short", "must be 16 characters or more"),
        ("http_password", "1234567", "must be 8 characters or more"),
        ("api_rate", "0", "must be a number of requests a second"),
        ("api_rate", "fast", "must be a number of requests a second"),
        ("http_hosts", "https://x.example.com", "is no host's name"),
        ("http_hosts", "x.example.com:9810", "is no host's name"),
        ("workers", "0", "must be between 1 and 256"),
        ("lease_seconds", "1", "must be between 3 and 3600"),
    ],
)
def test_values_that_would_not_protect_are_refused(key: str, written: str, said: str) -> None:
    """One problem, that names the key and never repeats a secret."""
    (problem,) = problems(
        {"CDRSYNC_USERNAME": "u", "CDRSYNC_VKEY": VKEY, "CDRSYNC_PASSWORD": PASSWORD, f"CDRSYNC_{key.upper()}": written}
    )
    assert problem.startswith(f"{key} ")
    assert said in problem


def test_hosts_are_names_without_decoration() -> None:
    """As a Host header has them, without the port."""
    settings = found({"CDRSYNC_HTTP_HOSTS": "CDR.example.com., [::1], 10.0.0.7"}).settings(credentials=False)
    assert settings.http_hosts == ("cdr.example.com", "::1", "10.0.0.7")


# ── what is no file ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("what", ["configuration", "account", "secret"])
def test_a_pipe_that_nobody_writes_holds_up_nobody(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor one whose writer does not come to an end: it is said by name."""
    monkeypatch.setattr(sys.modules["cdrsync.config.read"], "PIPE_SECONDS", 0.3)
    folder({})
    pipe = {"configuration": "cdrsync.toml", "account": "accounts.d/x.toml", "secret": "pipe"}[what]
    Path(pipe).unlink(missing_ok=True)
    os.mkfifo(pipe)
    environ = {"CDRSYNC_PASSWORD_FILE": pipe} if what == "secret" else {"CDRSYNC_CONFIG": "cdrsync.toml"}
    assert any(f"{pipe}: nobody writes into this pipe" in problem for problem in problems(environ))
    writer = os.open(pipe, os.O_RDWR)
    os.write(writer, b"#")
    assert any(f"{pipe}: nobody writes into this pipe" in problem for problem in problems(environ))
    os.close(writer)


def test_a_pipe_is_read_as_a_file_is() -> None:
    """As a shell's `<(…)` makes one: what comes late and in pieces is read to its end."""
    reader, writer = os.pipe()

    def write() -> None:
        for piece in (b"page_", b"size =", b" 5\n"):
            time.sleep(0.05)
            os.write(writer, piece)
        os.close(writer)

    thread = threading.Thread(target=write)
    thread.start()
    told = read(Inputs(config=Path(f"/dev/fd/{reader}"), environ={}, flags={}))
    thread.join()
    os.close(reader)
    assert told.problems == []
    assert told.accounts["default"]["page_size"].value == 5


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/urandom"])
def test_a_device_without_an_end_is_no_configuration(path: str) -> None:
    assert problems({"CDRSYNC_CONFIG": path})[0].endswith("File too large")
