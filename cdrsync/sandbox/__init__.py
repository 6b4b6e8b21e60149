"""A stand-in for the operator's API, written from its reference page alone: it shares no code with `source`.

It answers what the page prints, as the page prints it, from a `World` of invented calls. What the page leaves open is a
field of `Settings`.

    world = World(seed=7)
    world.add_history(calls=5_000, days=3)
    with running(world) as url: …                          # http://127.0.0.1:PORT/api/
    assert [call.uid for call in world.records()] == …     # the truth to compare with
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdrsync.sandbox.calls import Call, Totals
from cdrsync.sandbox.settings import DEMO_LOGIN, Login, Settings
from cdrsync.sandbox.world import RequestSeen, World

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

__all__ = [
    "DEMO_LOGIN",
    "Call",
    "Login",
    "RequestSeen",
    "Settings",
    "Totals",
    "World",
    "running",
]


def running(world: World, *, host: str = "127.0.0.1", port: int = 0) -> AbstractContextManager[str]:
    """A real server on its own threads while the context lasts; gives the API's URL. Raises OSError."""
    from cdrsync.sandbox import server  # Flask is slow to import

    return server.running(server.app(world), host=host, port=port)
