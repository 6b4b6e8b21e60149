"""Rules of the house that no linter knows."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from cdrsync.model import FIELDS, Cdr, Field
from cdrsync.sandbox import Call, render
from cdrsync.store.schema.tables import cdr

REPOSITORY = Path(__file__).parents[2]
PACKAGE = sorted((REPOSITORY / "cdrsync").rglob("*.py"))
TOP_LEVEL = {
    *("pyproject.toml", "README.md", "cdrsync", "migrations", "tests", "deploy", "alembic.ini"),
    *("Makefile", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"),
}
MOST_LINES = 380
ENTRY = re.compile(
    r"^([a-z0-9-]+)==([\w.]+)(?: ;[^\\\n]*)? \\\n((?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE
)
DRAWERS = {"utils.py", "util.py", "helpers.py", "helper.py", "manager.py", "base.py", "misc.py", "common.py"}
MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
LOCKED = {path.stem: path.read_text(encoding="utf-8") for path in (REPOSITORY / ".ci/requirements").glob("*.txt")}


def _files_of_the_project() -> list[Path]:
    """Every file that belongs into the repository: what git tracks, or would."""
    git = ["git", "-C", str(REPOSITORY), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(git, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = [REPOSITORY / name for name in listed.stdout.split("\0") if name]
    return [file for file in files if file.is_file()]


def test_no_file_of_the_package_has_more_than_380_lines() -> None:
    """A longer one is two things in one."""
    lines = {str(path.relative_to(REPOSITORY)): len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE}
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}


def test_no_drawers() -> None:
    """Files are named after things and steps."""
    assert [path.name for path in PACKAGE if path.name in DRAWERS] == []


def test_the_top_level_holds_what_was_agreed() -> None:
    """Beside dot-files, only the agreed names: a reader finds their way at first sight."""
    names = {path.relative_to(REPOSITORY).parts[0] for path in _files_of_the_project()}
    assert {name for name in names if not name.startswith(".")} - TOP_LEVEL == set()


def test_no_package_registry_is_named() -> None:
    """Which registry packages come from is the machine's own setting: nothing in the project overrides it."""
    # The brackets keep this file from naming what it looks for.
    registry = re.compile(rb"(?i)p[y]pi\.org|python[h]osted|registry\.n[p]mjs|deb\.d[e]bian|index[-_]u[r]l")
    assert [path for path in _files_of_the_project() if registry.search(path.read_bytes())] == []


def test_nothing_is_left_to_do_in_secret() -> None:
    """What is unfinished stands in an issue, not in a comment."""
    mark = re.compile(r"\b(TODO|FIXME|XXX)\b")
    found = [path for path in PACKAGE if mark.search(path.read_text(encoding="utf-8"))]
    assert found == []


def test_make_help_names_every_target() -> None:
    """`make` lists every task that can be asked for, and nothing that can't."""
    run = subprocess.run(["make", "--silent"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert phony is not None
    assert re.findall(r"^  make (\w+)", run.stdout, re.MULTILINE) == phony[1].split()


def test_every_dependency_is_pinned_exactly_and_by_hash() -> None:
    """Whatever `make` and the image install has one version and known files: the same today and next year."""
    pins: dict[str, str] = {}
    for name, locked in LOCKED.items():
        entries = ENTRY.findall(locked)
        assert len(entries) == len(re.findall(r"^[^#\s]", locked, re.MULTILINE)) > 0, name
        assert "://" not in locked
        for package, version, _ in entries:
            assert pins.setdefault(package, version) == version, f"{package} in {name}"
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *(line for extra in project["project"]["optional-dependencies"].values() for line in extra),
        *(line for group in project["dependency-groups"].values() for line in group),
    ]
    names = [re.split(r"[\[<>=!~; ]", line)[0].lower().replace("_", "-") for line in wanted]
    assert [name for name in names if name not in pins] == []


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_commands_that_documents_name_exist(document: str) -> None:
    """Every `make TARGET` and `cdrsync COMMAND` in the documents can be given."""
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):.*## ", MAKEFILE, re.MULTILINE))
    assert set(re.findall(r"(?:`|^ *|\$ )make ([a-z]+)", text, re.MULTILINE)) - targets == set()
    help_page = subprocess.run(
        [sys.executable, "-m", "cdrsync", "--help"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout
    commands = set(re.findall(r"^  ([a-z]+)  ", help_page.partition("Commands:")[2], re.MULTILINE))
    assert set(re.findall(r"(?:`|^ *|\$ |/)cdrsync ([a-z]+)", text, re.MULTILINE)) - commands == set()


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_within_documents_lead_somewhere(document: str) -> None:
    """A link to a file of the project leads to one."""
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text) if "://" not in link]
    assert [link for link in links if not (REPOSITORY / link).exists()] == []


def test_the_picture_of_the_floors_is_the_contract() -> None:
    """CONTRIBUTING shows what import-linter holds, floor by floor."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (picture,) = re.findall(r"```\n(__main__\n.*?)```", text, re.DOTALL)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    (contract,) = [one for one in project["tool"]["importlinter"]["contracts"] if one["type"] == "layers"]
    shown = [re.split(r" {2,}", line)[0] for line in picture.splitlines()]
    assert shown == contract["layers"]


def test_what_contributing_names_is_there() -> None:
    """Every path of the tree in it exists; a column or a database takes four files to edit and two new ones."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:cdrsync|tests|migrations|deploy|\.ci)/[\w./-]*)`", text)
    assert [path for path in named if "NAME" not in path and not (REPOSITORY / path).exists()] == []
    for task in ("a column of the API", "a database"):
        (row,) = re.findall(rf"(?m)^\| {task} \|(.*)\|(.*)\|$", text)
        assert (len(re.findall(r"`[\w/]+\.\w+`", row[0])), row[1].count(",") + 1) == (4, 2), task


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.column)
def test_a_field_of_a_call_is_everywhere(field: Field) -> None:
    """What one file of the newcomer's task lacks is told by its name."""
    view = (REPOSITORY / "migrations/views/calls.sql").read_text(encoding="utf-8")
    places = {
        "cdrsync/model.py, Cdr": field.column in Cdr._fields,
        "cdrsync/store/schema/tables.py, cdr": field.column in cdr.c,
        "cdrsync/sandbox/calls.py, Call and SOMETIMES": field.element in render.ELEMENTS,
        "migrations/views/calls.sql": re.search(rf"\bcdr\.{field.column}\b", view),
    }
    assert [place for place, there in places.items() if not there] == []


def test_the_stand_in_prints_the_fields_in_the_order_of_the_program() -> None:
    """Two tables, for the stand-in shares nothing with the program; and no field of it is left unprinted."""
    assert list(render.ELEMENTS) == [field.element for field in FIELDS]
    assert len(render.ELEMENTS) == Call._fields.index("started"), "a field before started has no element in SOMETIMES"


def test_two_builds_of_the_wheel_are_equal(tmp_path: Path) -> None:
    """Whoever builds it from the same files gets the same bytes."""
    wheels = []
    for folder in ("first", "second"):
        build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path / folder)]
        subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
        (wheel,) = (tmp_path / folder).glob("*.whl")
        wheels.append(wheel.read_bytes())
    assert wheels[0] == wheels[1]
