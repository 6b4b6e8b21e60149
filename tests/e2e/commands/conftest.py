"""An operator with more calls than elsewhere."""

from __future__ import annotations

import pytest

from tests.support.canary import LOGIN
from tests.support.operator import Settings, World


@pytest.fixture
def world() -> World:
    """An operator with some calls of the last days."""
    made = World(Settings(), logins=[LOGIN], seed=11)
    made.add_history(calls=400, days=4)
    return made
