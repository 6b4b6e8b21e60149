"""What is tested is what is shipped: the wheel, built from the source archive, alone in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import cdrsync

REPOSITORY = Path(__file__).parents[2]
NAME = f"cdrsync-{cdrsync.__version__}"
EXTRAS = ("psycopg", "pymysql", "pyarrow", "xlsxwriter")


def _run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command; its environment has nothing of cdrsync's but what is given."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("CDRSYNC_", "PYTHON"))}
    run = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the unpacked source archive: neither lacks a file that the other step needs."""
    folder = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", folder, cwd=REPOSITORY)
    with tarfile.open(folder / f"{NAME}.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    _run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder, cwd=folder / NAME)
    return folder / f"{NAME}-py3-none-any.whl"


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `cdrsync` command of an environment that has the wheel and what it needs: no EXTRAS, and not our checkout."""
    folder = tmp_path_factory.mktemp("installed")
    _run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    python = folder / "venv/bin/python"
    site = Path(_run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=folder).stdout.strip())
    install: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
    ]
    _run(*install, wheel, cwd=folder)
    # Not a .pth file: that would run ours, among them the one that leads to the checkout.
    for name in ("purelib", "platlib"):
        for entry in Path(sysconfig.get_path(name)).iterdir():
            left_out = entry.name.lower().startswith(("cdrsync", "_cdrsync", "__", *EXTRAS))
            if not left_out and not (site / entry.name).exists():
                (site / entry.name).symlink_to(entry)
    return folder / "venv/bin/cdrsync"


def test_the_source_archive_carries_all_that_is_tracked(wheel: Path) -> None:
    """`make demo`, `make test` and the Dockerfile work from it as from a checkout."""
    listed = _run("git", "-c", f"safe.directory={REPOSITORY}", "ls-files", cwd=REPOSITORY).stdout.split()
    missing = [name for name in listed if not (wheel.parent / NAME / name).is_file()]
    assert missing == []


def test_the_wheel_carries_everything_and_nothing_else(wheel: Path) -> None:
    """Package, type marker, licence and migrations are in it; tests and settings are not."""
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"cdrsync", f"{NAME}.dist-info"}
    tracked = {f"cdrsync/{p.relative_to(REPOSITORY)}" for p in (REPOSITORY / "migrations").rglob("*.py")}
    tracked |= {f"cdrsync/{p.relative_to(REPOSITORY)}" for p in (REPOSITORY / "migrations").rglob("*.sql")}
    assert tracked - set(names) == set()
    assert {"cdrsync/py.typed", f"{NAME}.dist-info/licenses/LICENSE"} - set(names) == set()


def test_the_installed_wheel_upgrades_a_database_by_itself(installed: Path, tmp_path: Path) -> None:
    """Far from any checkout: `db upgrade` makes today's schema, `db check` agrees."""
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    where = _run(installed.parent / "python", "-c", "import cdrsync; print(cdrsync.__file__)", cwd=tmp_path).stdout
    assert str(installed.parents[1]) in where
    _run(installed, "db", "upgrade", cwd=tmp_path, CDRSYNC_DATABASE_URL=url)
    _run(installed, "db", "check", cwd=tmp_path, CDRSYNC_DATABASE_URL=url)


def test_every_command_of_the_wheel_loads(installed: Path, tmp_path: Path) -> None:
    """The entry point works, and every line of --help names a command that can be given."""
    assert _run(installed, "--version", cwd=tmp_path).stdout == f"cdrsync {cdrsync.__version__}\n"
    load_all = (
        "from importlib import import_module; from cdrsync.cli import COMMANDS\n"
        "for place, _ in COMMANDS.values(): getattr(import_module(place.split(':')[0]), place.split(':')[1])"
    )
    _run(installed.parent / "python", "-c", load_all, cwd=tmp_path)
