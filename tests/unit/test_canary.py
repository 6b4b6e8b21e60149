"""The alarm of `tests/support/canary.py` goes off on every road, shows no secret, and is quiet otherwise."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent, indent

import pytest

from cdrsync.sandbox import DEMO_LOGIN
from tests.support.canary import CANARIES, LOGIN
from tests.support.clock import Clock
from tests.support.operator import World

REPOSITORY = Path(__file__).parents[2]
ONLY_WHAT_IS_NAMED = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # pytest loads each plugin that is installed otherwise
IN_PROCESSES = ("-p", "xdist", "-n")
PROLOGUE = """\
import logging, subprocess, sys, tempfile, shutil
from pathlib import Path
import click, flask, httpx
from click.testing import CliRunner
from cdrsync.errors import LoginRefused
from tests.support.operator import World, running
from tests.support.canary import *
echo = [sys.executable, "-c", "import sys; print(sys.stdin.read())"]
"""
ROADS = {
    "output": "print(PASSWORD)",
    "output_that_the_test_reads": "print(PASSWORD); capsys.readouterr()",
    "log": "logging.getLogger().warning('login with %s', VKEY)",
    "exception": "LoginRefused(f'login refused: {PASSWORD}')",
    "hint": "LoginRefused('login refused', hint=VKEY)",
    "command": "CliRunner().invoke(click.Command('x', callback=lambda: click.echo(DATABASE_PASSWORD)))",
    "arguments": "subprocess.run([sys.executable, '-c', '', PASSWORD])",
    "process": "subprocess.run(echo, input=VKEY, text=True, capture_output=True)",
    "process_line_by_line": """
        with subprocess.Popen(echo, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            process.stdin.write(VKEY)
            process.stdin.close()
            assert len(list(process.stdout)) == 1
        """,
    "metrics": """
        app = flask.Flask('metrics')
        app.add_url_rule('/', view_func=lambda: 'cdrsync_up{login="%s"} 1' % DOORBELL_TOKEN)
        app.test_client().get('/')
        """,
    "header": """
        app = flask.Flask('status')
        app.add_url_rule('/', view_func=lambda: ('', {'X-Login': VKEY}))
        app.test_client().get('/')
        """,
    "http": """
        transport = httpx.MockTransport(lambda request: httpx.Response(200, text=f'status: {PASSWORD}'))
        httpx.Client(transport=transport).get('http://127.0.0.1/status')
        """,
    "session": "print(World().log_in(*LOGIN))",
    "deleted_file": """
        folder = tempfile.mkdtemp()
        Path(folder, 'cdrsync.log').write_text(f'key {PSEUDONYM_KEY}')
        shutil.rmtree(folder)
        """,
}
ROADS_TO_FILES = {
    "file": "(tmp_path / 'cdrsync.log').write_text(f'login {PASSWORD}')",
    "file_of_another_process": """
        code = 'import sys; open("other.log", "w").write(sys.stdin.read())'
        subprocess.run([sys.executable, '-c', code], input=PASSWORD, text=True, cwd=tmp_path)
        """,
}
HARMLESS = {
    "credentials_where_they_belong": """
        (tmp_path / 'cdrsync.toml').write_text(f'password = "{PASSWORD}"')
        assert World().log_in(*LOGIN)
        print('logged in')
        """,
}


def _run(folder: Path, tests: dict[str, str], *more: str) -> tuple[int, str]:
    """Run small tests under the plugin, in a process of its own: exit code and output."""
    config = folder / "pytest.ini"
    config.write_text("[pytest]\n")
    bodies = (f"def test_{name}(tmp_path, capsys):\n{indent(dedent(body), '    ')}\n" for name, body in tests.items())
    (folder / "test_it.py").write_text("\n".join([PROLOGUE, *bodies]))
    options = [
        "-p",
        "tests.support.canary",
        "-p",
        "no:cacheprovider",
        "-c",
        str(config),
        "--basetemp",
        str(folder / "inner"),
        *more,
    ]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", *options, str(folder / "test_it.py")],
        cwd=REPOSITORY, capture_output=True, text=True, check=False, env={**os.environ, **ONLY_WHAT_IS_NAMED},
    )  # fmt: skip
    shutil.rmtree(folder / "inner", ignore_errors=True)  # a leak made on purpose: not one of the run around it
    assert [name for name, plain in CANARIES.items() if plain in run.stdout + run.stderr] == []
    return run.returncode, run.stdout


@pytest.fixture(scope="module")
def leaking_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str]:
    """One run in which a secret gets out on every road that shows while the test runs."""
    return _run(tmp_path_factory.mktemp("leaks"), ROADS)


@pytest.mark.parametrize("road", ROADS)
def test_a_secret_that_gets_out_fails_its_test(leaking_run: tuple[int, str], road: str) -> None:
    """The test is reported as failed, for this reason, and nothing printed shows the secret."""
    code, output = leaking_run
    assert code == 1
    assert f"A secret got out of test_it.py::test_{road}:" in output, output
    assert f"PASSED test_it.py::test_{road}\n" not in output


def test_a_secret_left_in_a_file_fails_the_run(tmp_path: Path) -> None:
    """The file is found after the last test, whoever wrote it: the run ends with exit code 1."""
    code, output = _run(tmp_path, ROADS_TO_FILES)
    told = re.findall(r"A SECRET GOT OUT: the password in the file \S*/(\S+)", output)
    assert sorted(told) == ["cdrsync.log", "other.log"], output
    assert code == 1


def test_no_leak_no_alarm(tmp_path: Path) -> None:
    """Credentials that stay where they belong (a configuration file, a login) are no leak.

    Nor is what others keep in a directory, another checkout say: a nameless temporary file is opened by its name.
    """
    shared = tmp_path / "shared"
    shared.mkdir()
    code = 'import sys; open("theirs", "w").write(sys.stdin.read())'
    subprocess.run([sys.executable, "-c", code], input=CANARIES["the password"], text=True, cwd=shared, check=True)
    nameless = f"tempfile.TemporaryFile(dir={str(shared)!r}).close()"
    exit_code, output = _run(
        tmp_path, {**HARMLESS, "nameless": nameless}, *IN_PROCESSES, "1"
    )  # its figure reaches the main one
    shutil.rmtree(shared)
    assert exit_code == 0, output
    assert re.search(r"canaries: no secret in [1-9]\d* outputs", output)


def test_processes_side_by_side_watch_as_one(tmp_path: Path) -> None:
    """Under pytest-xdist a leak fails its test as ever, and what any process left in a file fails the run."""
    code, output = _run(tmp_path, {"output": ROADS["output"], **ROADS_TO_FILES}, *IN_PROCESSES, "2")
    assert code == 1
    assert "A secret got out of test_it.py::test_output:" in output, output
    told = re.findall(r"A SECRET GOT OUT: the password in the file \S*/(\S+)", output)
    assert sorted(told) == ["cdrsync.log", "other.log"], output


def test_the_sandbox_opens_to_the_canaries_alone() -> None:
    """The suite's sandbox knows no other login: what logs in anywhere in the suite has handled canaries."""
    world = World(clock=Clock("2024-05-23T09:30:00+01:00").seconds)
    assert world.logins == [LOGIN]
    assert LOGIN == DEMO_LOGIN
    session_id = world.log_in(*LOGIN)
    assert session_id is not None
    assert (len(session_id), session_id[:16]) == (32, CANARIES["a session id"])
