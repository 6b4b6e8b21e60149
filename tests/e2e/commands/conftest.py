"""An operator with more calls than elsewhere, and the environment of a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.canary import LOGIN
from tests.support.operator import Settings, World
from tests.support.processes import environment

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def world() -> World:
    """An operator with some calls of the last days."""
    made = World(Settings(), logins=[LOGIN], seed=11)
    made.add_history(calls=400, days=4)
    return made


@pytest.fixture
def env(api: str, file: Path) -> dict[str, str]:
    """The environment of a command with a SQLite database of its own."""
    return environment(api, f"sqlite:///{file}")
