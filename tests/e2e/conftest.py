"""A database file that the program would have made itself, and an operator with some calls."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from cdrsync.store.admin import migrate
from cdrsync.store.databases.engine import open_engine
from tests.support.canary import LOGIN
from tests.support.operator import Settings, World, running
from tests.support.processes import environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def empty_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Today's tables, without a row."""
    file = tmp_path_factory.mktemp("empty") / "calls.db"
    engine = open_engine(f"sqlite:///{file}")
    migrate.upgrade(engine)
    engine.dispose()
    return file


@pytest.fixture
def file(empty_db: Path, tmp_path: Path) -> Path:
    """A SQLite database of the test's own: to copy the tables is faster than to make them."""
    copy = tmp_path / "calls.db"
    shutil.copy2(empty_db, copy)
    return copy


@pytest.fixture
def world() -> World:
    """An operator with some calls of the last days."""
    made = World(Settings(), logins=[LOGIN], seed=7)
    made.add_history(calls=300, days=3)
    return made


@pytest.fixture
def api(world: World) -> Iterator[str]:
    with running(world) as url:
        yield url


@pytest.fixture
def env(api: str, file: Path) -> dict[str, str]:
    """The environment of a command with a SQLite database of its own."""
    return environment(api, f"sqlite:///{file}")
