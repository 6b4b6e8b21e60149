"""The operator of the tests: the sandbox, gone wrong in every way that `Fault` names, as often as told.

In-process, without a socket, time in the test's hand:

    clock = Clock("2024-05-23T09:30:00+01:00")
    world = World(Settings(end_date_included=False), clock=clock.seconds, sleep=clock.advance, seed=7)
    world.add_history(calls=5_000, days=3)
    client = httpx.Client(transport=transport(world))      # any http:// URL reaches it
    world.faults.script(Fault.HTTP_503, None, Fault.TRUNCATED)
    late = world.add_late(delay=600, duration=62)
    clock.advance(601)                                     # now it is visible, under a uid that was passed long ago

Over a port, for other processes (HTTP/1.1, keep-alive, real resets):

    with running(world) as url: …
    httpx.post(f"{url.removesuffix('api/')}_sandbox/faults", json={"script": ["http-503"]})   # see control.py
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx

from cdrsync.sandbox import Call, Login, RequestSeen, Totals
from tests.support.operator.faults import Fault
from tests.support.operator.server import app
from tests.support.operator.wire import Server
from tests.support.operator.world import Settings, World

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Call",
    "Fault",
    "Login",
    "RequestSeen",
    "Settings",
    "Totals",
    "World",
    "app",
    "running",
    "transport",
]


@contextmanager
def running(world: World, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """A real server on its own threads; gives the API's URL. Raises OSError where the address can't be had."""
    with Server(app(world), host, port) as server:
        yield f"http://{f'[{host}]' if ':' in host else host}:{server.port}/api/"


def transport(world: World) -> httpx.BaseTransport:
    """For `httpx.Client(transport=…)`: the app without a socket. A reset raises httpx.ReadError there as well."""
    return httpx.WSGITransport(app=app(world))
