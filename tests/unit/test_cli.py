"""The command line without API and database: help, configuration, errors as one line and an exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote

import click
import pytest
from click.testing import CliRunner

from cdrsync import cli
from cdrsync.errors import LoginRefused
from cdrsync.monitor.words import visible
from tests.support.canary import DATABASE_PASSWORD, LOGIN, PASSWORD, VKEY
from tests.support.operator import World, running
from tests.support.processes import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))  # for the tests that start a process
    for variable in [name for name in os.environ if name.startswith("CDRSYNC_")]:
        monkeypatch.delenv(variable)


@pytest.fixture
def _login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDRSYNC_USERNAME", "canary@example.com")
    monkeypatch.setenv("CDRSYNC_PASSWORD", PASSWORD)
    monkeypatch.setenv("CDRSYNC_VKEY", VKEY)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """All commands of the contract, each with a line."""
    assert cli.main(["--help"]) == 0
    listed = capsys.readouterr().out.partition("Commands:\n")[2].split("\n")
    assert [line.split()[0] for line in listed if line.strip()] == list(cli.COMMANDS)
    contract = {"run", "sync", "backfill", "fetch", "totals", "audit", "status", "rejects", "db", "config", "doctor"}
    assert contract | {"healthcheck", "sandbox", "demo"} <= set(cli.COMMANDS)


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`cdrsync COMMAND --help` works, and shells that complete a name show the line of the list."""
    command = cli.cdrsync.get_command(click.Context(cli.cdrsync), name)
    assert command is not None
    assert command.get_short_help_str(100) == cli.COMMANDS[name][1]
    assert cli.main([name, "--help"]) == 0
    assert f"cdrsync {name}" in capsys.readouterr().out


def test_a_misspelt_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, with a suggestion."""
    assert cli.main(["stat"]) == 2
    assert "did you mean status?" in capsys.readouterr().err


def test_config_check_reports_all_problems_at_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 78, one line a problem."""
    monkeypatch.setenv("CDRSYNC_PAGE_SIZE", "many")
    assert cli.main(["config", "check", "--set", "sweep=1"]) == 78
    assert capsys.readouterr().err.splitlines() == [
        "error: unknown key 'sweep' given by --set; did you mean sweep_days?",
        "error: page_size must be a whole number (from environment CDRSYNC_PAGE_SIZE)",
        (
            "error: no username, password, vkey: set CDRSYNC_USERNAME, CDRSYNC_PASSWORD, CDRSYNC_VKEY "
            "or write them into cdrsync.toml"
        ),
    ]


@pytest.mark.usefixtures("_login")
def test_config_check_says_that_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 0."""
    assert cli.main(["config", "check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "version": 1,
        "command": "config check",
        "ok": True,
        "file": None,
        "accounts": ["default"],
        "problems": [],
    }


@pytest.mark.usefixtures("_login")
def test_config_show_names_sources_and_masks_secrets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every value with its source; what is secret shows as ***."""
    monkeypatch.setenv("CDRSYNC_DATABASE_URL", f"postgresql+psycopg://cdr:{quote(DATABASE_PASSWORD, safe='')}@db/calls")
    assert cli.main(["config", "show", "--set", "page_size=7"]) == 0
    rows = {line.split()[0]: " ".join(line.split()[1:]) for line in capsys.readouterr().out.splitlines()}
    assert rows["page_size"] == "7 flag"
    assert rows["password"] == "*** environment CDRSYNC_PASSWORD"
    assert rows["database_url"] == "postgresql+psycopg://cdr:***@db/calls environment CDRSYNC_DATABASE_URL"
    assert rows["sweep_days"] == "7 default"


def test_config_may_stand_before_or_after_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both are natural to type."""
    file = tmp_path / "x.toml"
    file.write_text("page_size = 77\n", encoding="utf-8")
    for args in (
        ["--config", str(file), "config", "show", "--json"],
        ["config", "show", "--config", str(file), "--json"],
    ):
        cli.main(args)
        shown = json.loads(capsys.readouterr().out)
        assert shown["accounts"]["default"]["page_size"]["value"] == "77"


def test_an_error_is_one_line_and_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    """People read standard error, programs the object on standard output."""
    cli.report(LoginRefused("the operator refused the login: Code 401", hint="Check vkey"), ["sync", "--json"])
    captured = capsys.readouterr()
    assert captured.err == "error: the operator refused the login: Code 401. Check vkey\n"
    assert json.loads(captured.out) == {
        "version": 1,
        "command": "sync",
        "error": {
            "kind": "LoginRefused",
            "message": "the operator refused the login: Code 401",
            "hint": "Check vkey",
            "exit_code": 77,
        },
    }


@pytest.mark.usefixtures("_login")
def test_an_unknown_account_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2 before anything is connected."""
    assert cli.main(["sync", "--account", "sales"]) == 2
    assert "no account 'sales'; the configuration has default" in capsys.readouterr().err


@pytest.mark.usefixtures("_login")
@pytest.mark.parametrize("args", [["fetch", "--uid", "5"], ["run", "--account", "nosuch"]])
def test_an_account_that_is_not_said_is_a_usage_error(
    args: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where several have a right to be meant."""
    monkeypatch.delenv("CDRSYNC_USERNAME")
    config = tmp_path / "two.toml"
    config.write_text('[accounts.a]\nusername = "a"\n[accounts.b]\nusername = "b"\n', encoding="utf-8")
    assert cli.main([*args, "--config", str(config)]) == 2
    assert "a, b" in capsys.readouterr().err


def test_a_configuration_that_may_not_be_read_is_a_configuration_error(tmp_path: Path) -> None:
    """Exit 78 as for one that is missing, with the reason. Where the suite runs as root, without root's privilege."""
    config = tmp_path / "cdrsync.toml"
    config.touch(mode=0o000)
    run = unprivileged(["db", "current", "--config", str(config)])
    assert (run.returncode, run.stderr.splitlines()[0]) == (78, f"error: can't read {config}: Permission denied")


@pytest.mark.parametrize("what", ["configuration", "accounts.d", "credentials"])
def test_a_folder_of_the_configuration_that_may_not_be_entered_or_listed_is_a_configuration_error(
    what: str, tmp_path: Path
) -> None:
    """No account that stands in it may silently be missing, and nobody sees an internal error."""
    config, accounts = tmp_path / "etc/cdrsync.toml", tmp_path / "etc/accounts.d"
    accounts.mkdir(parents=True)
    config.write_text('api_url = "https://127.0.0.1/"\n', encoding="utf-8")
    closed = accounts if what == "accounts.d" else config.parent
    arguments = ["config", "check", *(["--config", str(config)] if what != "credentials" else [])]
    closed.chmod(0o000)
    try:
        run = unprivileged(arguments, CREDENTIALS_DIRECTORY=str(closed) if what == "credentials" else "")
    finally:
        closed.chmod(0o700)
    first = {"configuration": config, "accounts.d": accounts, "credentials": closed / "password"}[what]
    assert run.returncode == 78
    assert f"error: can't read {first}: Permission denied" in run.stderr.splitlines()


def test_a_working_folder_that_may_not_be_entered_is_no_obstacle(tmp_path: Path) -> None:
    """As where root runs a command as another user: nothing of ours stands there, and the configuration is named."""
    config, closed = tmp_path / "cdrsync.toml", tmp_path / "root"
    config.write_text('username = "u"\npassword = "p"\nvkey = "v"\n', encoding="utf-8")
    closed.mkdir()
    enter = f"import os, runpy, sys; os.chdir({str(closed)!r}); os.chmod('.', 0); sys.argv[0] = 'cdrsync'; "
    for arguments in (["config", "check", "--config", str(config)], ["config", "show"]):
        closed.chmod(0o700)
        run = unprivileged(arguments, program=["-c", enter + "runpy.run_module('cdrsync', run_name='__main__')"])
        assert (run.returncode, run.stderr) == (0, "")
    closed.chmod(0o700)


@pytest.mark.usefixtures("_login")
@pytest.mark.parametrize(
    "arguments",
    [
        ["sync"],
        pytest.param(["doctor"], marks=pytest.mark.waits),
        ["demo"],
        ["export", "-o", "calls.csv"],
        ["db", "upgrade"],
    ],
)
def test_a_working_folder_that_is_gone_is_said(arguments: list[str], tmp_path: Path) -> None:
    """As after a deployment that replaced it under an open shell: one line, and no internal error."""
    gone = tmp_path / "gone"
    gone.mkdir()
    leave = f"import os, runpy, sys; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r}); sys.argv[0] = 'cdrsync'; "
    program = ["-c", leave + "runpy.run_module('cdrsync', run_name='__main__')"]
    run = unprivileged(arguments, program=program, CDRSYNC_API_URL="http://127.0.0.1:9/")
    assert "internal error" not in run.stderr
    said = "there is no database" if arguments[0] == "export" else "error: the working folder is gone"
    assert (run.returncode in {69, 78}, said in run.stderr) == (True, True)


def test_a_daemon_outlives_a_database_folder_that_may_not_be_entered(tmp_path: Path) -> None:
    """What it warns of at its start, files that others may read, it can't see: that ends nothing."""
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o000)
    look = (
        "import pathlib; from cdrsync.wiring.database import open_to_others; print(open_to_others(pathlib.Path({!r})))"
    )
    run = unprivileged([], program=["-c", look.format(str(closed / "calls.db"))])
    closed.chmod(0o700)
    assert (run.stdout, run.stderr) == ("[]\n", "")


def unprivileged(
    arguments: list[str], *, program: Sequence[str] = ("-m", "cdrsync"), **environment: str
) -> subprocess.CompletedProcess[str]:
    """A command without root's privilege to read what it may not, where the suite runs as root."""
    dropped = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    return subprocess.run(
        [*dropped, sys.executable, *program, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.usefixtures("_login")
@pytest.mark.parametrize(
    ("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": "", "TERM": "dumb"}, False)]
)
def test_doctor_colours_only_where_it_is_wanted(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch, *, coloured: bool
) -> None:
    """NO_COLOR and a terminal that has none."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with running(World(logins=[LOGIN])) as url:
        args = ["doctor", "--set", f"api_url={url}", "--database-url", "sqlite:////nonexistent/calls.db"]
        run = CliRunner().invoke(cli.cdrsync, args, color=True, env=variables, standalone_mode=False)
    assert "FAIL" in run.output
    assert ("\x1b" in run.output) is coloured


def test_set_needs_an_equals_sign(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2."""
    assert cli.main(["config", "show", "--set", "page_size"]) == 2
    assert "--set takes KEY=VALUE" in capsys.readouterr().err


@pytest.mark.usefixtures("_login")
@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["fetch"], "give either --uid or --ref"),
        (["fetch", "--uid", "1", "--ref", "x"], "give either --uid or --ref"),
        (["backfill", "--since", "2024-02-02", "--until", "2024-02-01"], "is after --until"),
        (["backfill", "--since", "2099-01-01"], "the default of --until"),
        (["backfill", "--since", "2024-02-01", "--until", "2099-01-01"], "is in the future"),
        (["backfill"], "Missing option '--since'"),
        (["backfill", "--since", "0001-01-01"], "0001-01-01 is not between 1990-01-01 and 2100-12-31"),
        (["audit", "--explain", "9999-12-31"], "9999-12-31 is not between"),
        (["audit", "accept", "0001-01-01", "--note", "x"], "0001-01-01 is not between"),
        (["export", "--until", "9999-12-31"], "9999-12-31 is not between"),
        (["rejects", "show", "9" * 30], "is not in the range"),
        (["rejects", "dismiss", str(2**63), "--note", "x"], "is not in the range"),
        (["audit", "--number", ""], "'' is no phone number"),
        (["audit", "--number", "a;b"], "'a;b' is no phone number"),
        (["totals", "--number", "<>&"], "'<>&' is no phone number"),
        (["checkpoint", "set", "--uid", "1", "--reason", "x", "--number", ","], "',' is no phone number"),
        (["backfill", "--since", "01/02/2024"], "does not match the format"),
    ],
)
def test_arguments_that_make_no_sense_are_usage_errors(
    args: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2 before anything is connected."""
    assert cli.main(args) == 2
    assert problem in capsys.readouterr().err


def test_a_bug_is_one_line_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 70; the traceback only with CDRSYNC_DEBUG=1, and never with the values of variables."""

    def broken(*_: object, **__: object) -> None:
        hidden = PASSWORD
        raise RuntimeError(f"length {len(hidden) * 0}\nSELECT 07921255043")

    monkeypatch.setattr(cli.cdrsync, "invoke", broken)
    assert cli.main(["status"]) == 70
    assert capsys.readouterr().err == (
        "internal error: RuntimeError: length 0. Run with CDRSYNC_DEBUG=1 for the traceback\n"
    )
    monkeypatch.setenv("CDRSYNC_DEBUG", "1")
    assert cli.main(["status"]) == 70
    assert "Traceback" in capsys.readouterr().err


def test_interrupting_says_so(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C: 130, no traceback."""

    def interrupted(*_: object) -> None:
        raise click.Abort

    monkeypatch.setattr(cli.cdrsync, "invoke", interrupted)
    assert cli.main(["status"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_what_a_terminal_could_obey_is_made_visible() -> None:
    """Records carry what strangers sent."""
    assert visible("a\x1b[2Jb\n\u202ec") == "a\\x1b[2Jb\\n\\u202ec"


def test_a_reader_that_goes_away_is_no_error() -> None:
    """`cdrsync config show | head -1` ends quietly."""
    run = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {sys.executable} -m cdrsync --help | head -c 1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stderr == ""


def test_help_imports_nothing_heavy() -> None:
    """`cdrsync --help`, each command's and completion start at once: no library of API, database or terminal."""
    heavy = ("sqlalchemy", "httpx", "lxml", "alembic", "rich", "flask", "structlog", "prometheus_client", "apscheduler")
    asked = [["--help"], *([name, "--help"] for name in cli.COMMANDS if name != "demo")]  # demo reads a database itself
    told = f"for one in {asked}: cli.main(one)\nprint([m for m in {heavy} if m in sys.modules])"
    code = f"import sys; from cdrsync import cli\n{told}"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


def test_completion_is_offered() -> None:
    """`eval "$(_CDRSYNC_COMPLETE=bash_source cdrsync)"` gives a shell function."""
    run = subprocess.run(
        [sys.executable, "-m", "cdrsync"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "_CDRSYNC_COMPLETE": "zsh_source"},
    )
    assert "#compdef cdrsync" in run.stdout
