"""What a person reads when something is not as it should be: the thing's name, the remedy, the right exit code."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from cdrsync.sandbox import Settings, World, running
from tests.support.canary import DATABASE_PASSWORD, DOORBELL_TOKEN, LOGIN, PASSWORD, VKEY
from tests.support.forks import Program
from tests.support.processes import DEADLINE, REPOSITORY, cdrsync

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUOTED = quote(DATABASE_PASSWORD, safe="")
UNPRIVILEGED = ["setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner"] if os.geteuid() == 0 else []
"""Where the suite runs as root, without root's privilege."""


@pytest.fixture
def api() -> Iterator[str]:
    world = World(Settings(), logins=[LOGIN], seed=11)
    world.add_history(calls=30, days=3)
    with running(world) as url:
        yield url


def unprivileged(*args: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    program = [*UNPRIVILEGED, sys.executable, "-m", "cdrsync", *args]
    return subprocess.run(program, env=env, capture_output=True, text=True, check=False, timeout=120)


class TestFiles:
    """Permissions and folders."""

    @pytest.mark.parametrize("what", ["file", "folder"])
    def test_a_database_that_may_not_be_read(self, what: str, env: dict[str, str], tmp_path: Path) -> None:
        """Exit 69 or 78, one line that names the file, whatever wants to read it."""
        folder = tmp_path / "held"
        folder.mkdir()
        env = {**env, "CDRSYNC_DATABASE_URL": f"sqlite:///{folder / 'calls.db'}"}
        assert cdrsync("sync", env=env).returncode == 0
        closed = folder / "calls.db" if what == "file" else folder
        closed.chmod(0)
        try:
            for command in ("status", "audit", "sync", "rejects list", "db current", "export -o -"):
                run = unprivileged(*command.split(), env=env)
                assert (run.returncode in (69, 78), run.stderr.count("error: ")) == (True, 1), run.stderr
                assert str(folder / "calls.db") in run.stderr
        finally:
            closed.chmod(0o700)

    def test_the_daemon_does_not_blame_http_listen(self, env: dict[str, str], tmp_path: Path) -> None:
        """A database in a folder that may not be entered is no trouble of the web server's."""
        folder = tmp_path / "held"
        folder.mkdir(mode=0)
        told = {**env, "CDRSYNC_DATABASE_URL": f"sqlite:///{folder / 'calls.db'}", "CDRSYNC_HTTP_LISTEN": "127.0.0.1:0"}
        program = [*UNPRIVILEGED, sys.executable, "-m", "cdrsync", "run"]
        with subprocess.Popen(program, env=told, stderr=subprocess.PIPE, text=True) as run:
            lines: list[str] = []
            assert run.stderr is not None
            while not any("held/calls.db" in line for line in lines):
                line = run.stderr.readline()
                assert line, lines
                lines.append(line)
            run.terminate()
            run.communicate(timeout=30)
        folder.chmod(0o700)
        assert [line for line in lines if "http_listen" in line] == []

    def test_doctor_tells_a_missing_folder_from_a_read_only_one(self, env: dict[str, str], tmp_path: Path) -> None:
        """Each with its own remedy."""
        missing = tmp_path / "nowhere"
        told = {**env, "CDRSYNC_DATABASE_URL": f"sqlite:///{missing / 'calls.db'}"}
        run = cdrsync("doctor", env=told)
        assert (run.returncode, f"there is no folder {missing}" in run.stdout) == (69, True)
        assert f"mkdir -p {missing}" in run.stdout
        assert "read-only" not in run.stdout
        missing.mkdir(mode=0o500)
        run = unprivileged("doctor", env=told)
        assert (run.returncode, f"{missing} is read-only for this user" in run.stdout) == (69, True)

    @pytest.mark.parametrize("left", ["", "-wal", "-shm"])
    def test_doctor_names_the_file_that_another_user_left_read_only(
        self, left: str, env: dict[str, str], tmp_path: Path
    ) -> None:
        """As after one command of root's: a sync would end with "attempt to write a readonly database"."""
        file = tmp_path / f"calls.db{left}"
        file.touch()
        file.chmod(0o444)
        run = unprivileged("doctor", env={**env, "CDRSYNC_DATABASE_URL": f"sqlite:///{tmp_path / 'calls.db'}"})
        assert (run.returncode, f"{file} is read-only for this user" in run.stdout) == (69, True)

    @pytest.mark.parametrize(
        ("mode", "content", "said"),
        [
            (0o644, f'password = "{PASSWORD}"', "holds a secret and everybody may read it"),
            (0o640, f'vkey = "{VKEY}"', "holds a secret and its group may read it"),
            (0o660, f'doorbell_token = "{DOORBELL_TOKEN}"', "holds a secret and its group may change it"),
            (0o644, f'database_url = "mysql://u:{QUOTED}@127.0.0.1:9/x"', "holds a secret and everybody may read it"),
            (0o666, "page_size = 5", "is configuration and everybody may change it"),
            (0o644, "page_size = 5", None),
            (0o644, 'database_url = "postgresql://u@127.0.0.1:9/x"', None),
            (0o600, f'password = "{PASSWORD}"', None),
        ],
        ids=["password", "vkey", "doorbell", "url-with-password", "written-by-all", "plain", "url-without", "private"],
    )  # fmt: skip
    def test_doctor_warns_of_files_that_others_may_read_or_change(
        self, mode: int, content: str, said: str | None, env: dict[str, str], tmp_path: Path
    ) -> None:
        """Where a secret stands in the file, not where the file only names another."""
        config = tmp_path / "cdrsync.toml"
        config.write_text(content, encoding="utf-8")
        config.chmod(mode)
        key = content.partition(" ")[0].upper()
        told = {name: value for name, value in env.items() if name != f"CDRSYNC_{key}"}
        lines = cdrsync("doctor", "--config", str(config), env=told).stdout.splitlines()
        warnings = [line for line in lines if str(config) in line and "WARN" in line]
        assert len(warnings) == (said is not None), lines
        if said:
            assert said in warnings[0]
            assert lines[lines.index(warnings[0]) + 1].strip() == f"→ chmod 600 {config}"

    def test_doctor_looks_at_a_secrets_own_file(self, env: dict[str, str], tmp_path: Path) -> None:
        """The file that is readable, not the one that names it."""
        config, secret = tmp_path / "cdrsync.toml", tmp_path / "password"
        config.write_text('password_file = "password"', encoding="utf-8")
        secret.write_text(PASSWORD, encoding="utf-8")
        config.chmod(0o644)
        secret.chmod(0o604)
        told = {name: value for name, value in env.items() if name != "CDRSYNC_PASSWORD"}
        shown = cdrsync("doctor", "--config", str(config), env=told).stdout
        assert f"{secret} holds a secret and everybody may read it" in shown
        assert f"{config} holds" not in shown
        assert stat.S_IMODE(secret.stat().st_mode) == 0o604  # looking changes nothing


class TestStreams:
    """Standard output and standard error on a full disk."""

    @pytest.mark.parametrize("command", ["doctor", "--help", "sync --help", "--version", "config check"])
    def test_standard_output_that_is_full(self, command: str, env: dict[str, str]) -> None:
        """Exit 2 and one line, also of what click prints by itself; where standard error is full, too, exit 2."""
        with open("/dev/full", "wb") as full, tempfile.TemporaryFile() as said:  # noqa: PTH123 - the plainest way
            codes = []
            for errors in (said, full):
                program = Program(tuple(command.split()), env, REPOSITORY, stdout=full.fileno(), stderr=errors.fileno())
                codes.append(program.wait(DEADLINE))
            said.seek(0)
            words = said.read().decode()
        assert codes == [2, 2], words
        assert (words.startswith("error: can't write to standard output: "), words.count("\n")) == (True, 1), words


class TestRemedies:
    """A remedy can be typed as it stands."""

    @pytest.mark.parametrize("url", ["sqlite://calls.db", "sqlite://data/calls.db", "sqlite://calls.db?timeout=5"])
    def test_a_file_of_sqlite_needs_three_slashes(self, url: str, env: dict[str, str]) -> None:
        run = cdrsync("status", "--database-url", url, env=env)
        path = url.removeprefix("sqlite://").partition("?")[0]
        assert (run.returncode, f"sqlite:///{path}" in run.stderr) == (78, True), run.stderr

    @pytest.mark.parametrize(
        ("args", "module", "extra"),
        [
            (("status", "--database-url", "postgresql://u@127.0.0.1:9/x"), "psycopg", "postgres"),
            (("status", "--database-url", "mysql://u@127.0.0.1:9/x"), "pymysql", "mysql"),
            (("export", "--format", "parquet", "-o", "x.parquet"), "pyarrow", "parquet"),
        ],
    )
    def test_what_is_missing_is_installed_into_this_very_environment(
        self, args: tuple[str, ...], module: str, extra: str, env: dict[str, str], tmp_path: Path
    ) -> None:
        """Not with whatever pip comes first in the PATH."""
        if module == "pyarrow":  # asked for when the database has been looked at
            assert cdrsync("sync", env=env).returncode == 0
        hidden = tmp_path / "hidden"
        hidden.mkdir()
        (hidden / "sitecustomize.py").write_text(f"import sys\nsys.modules[{module!r}] = None\n", encoding="utf-8")
        path = os.pathsep.join([str(hidden), env.get("PYTHONPATH", "")])
        run = subprocess.run(
            [sys.executable, "-m", "cdrsync", *args],
            env={**env, "PYTHONPATH": path}, cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert run.returncode == 78, run.stderr
        assert f"{sys.executable} -m pip install 'cdrsync[{extra}]'" in run.stderr

    @pytest.mark.waits
    @pytest.mark.parametrize(
        "change",
        [
            {"CDRSYNC_API_URL": "http://127.0.0.1:9/api/"},
            {"CDRSYNC_DATABASE_URL": "postgresql+psycopg://u@127.0.0.1:9/x"},
            {"CDRSYNC_DATABASE_URL": "mysql+pymysql://u@127.0.0.1:9/x"},
            {"CDRSYNC_DATABASE_URL": "sqlite:////nonexistent/x.db"},
            {"CDRSYNC_VKEY": "another"},
        ],
    )
    def test_one_cause_has_one_wording(self, change: dict[str, str], env: dict[str, str]) -> None:
        """Two runs say the same, so that a log can be searched and a mail is not sent twice."""
        first, second = (cdrsync("sync", env={**env, **change}) for _ in range(2))
        assert (first.returncode, first.stderr) == (second.returncode, second.stderr)


@pytest.mark.parametrize("encoding", ["iso-8859-1", "utf-8"])
class TestEncodings:
    """A terminal that lacks a character shows one like it."""

    def told(self, env: dict[str, str], encoding: str) -> dict[str, str]:
        return {**env, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}

    def test_every_command_prints(self, encoding: str, env: dict[str, str]) -> None:
        """No exit 70 because of a box or three dots."""
        assert cdrsync("sync", env=env).returncode == 0
        for command in ("--help", "status", "audit", "doctor", "db describe calls"):
            program = [sys.executable, "-m", "cdrsync", *command.split()]
            run = subprocess.run(program, env=self.told(env, encoding), capture_output=True, check=False)
            assert (run.returncode, run.stderr) == (0, b""), command
            shown = run.stdout.decode(encoding)
            if command == "status":
                assert ("■" in shown, "#" in shown) == (encoding == "utf-8", encoding != "utf-8")

    def test_json_loses_nothing(self, encoding: str, env: dict[str, str], tmp_path: Path) -> None:
        """What can't be shown is escaped."""
        import json

        config = tmp_path / "cdrsync.toml"
        config.write_text('[accounts.x]\nusername = "Зоя@example.com"\n', encoding="utf-8")
        program = [sys.executable, "-m", "cdrsync", "config", "show", "--json", "--config", str(config)]
        told = {k: v for k, v in self.told(env, encoding).items() if k != "CDRSYNC_USERNAME"}
        run = subprocess.run(program, env=told, capture_output=True, check=False)
        assert run.returncode == 0, run.stderr
        shown = json.loads(run.stdout.decode(encoding))
        assert shown["accounts"]["x"]["username"]["value"] == "Зоя@example.com"
