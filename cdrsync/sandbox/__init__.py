"""A stand-in for the operator's API, written from its reference page alone: it shares no code with `source`.

It answers what the page prints, as the page prints it, from a `World` of invented calls, and goes wrong in every way
that `Fault` names, as often as told. What the page leaves open is a field of `Settings`.

In-process, without a socket, time in the test's hand:

    clock = ManualClock("2024-05-23T09:30:00+01:00")
    world = World(Settings(end_date_included=False), clock=clock, sleep=clock.advance, seed=7)
    world.add_history(calls=5_000, days=3)
    client = httpx.Client(transport=transport(world))      # any http:// URL reaches it
    world.faults.script(Fault.HTTP_503, None, Fault.TRUNCATED)
    late = world.add_late(delay=600, duration=62)
    clock.advance(601)                                     # now it is visible, under a uid that was passed long ago
    assert [call.uid for call in world.records()] == …     # the truth to compare with

Over a port, for other processes (HTTP/1.1, keep-alive, real resets):

    with running(world) as url: …                          # http://127.0.0.1:PORT/api/
    httpx.get(f"{url.removesuffix('api/')}_sandbox/records")   # JSON lines of what is visible; see control.py

Flask, lxml and httpx are imported by `app`, `running` and `transport`, not by this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdrsync.sandbox.calls import Call, Totals
from cdrsync.sandbox.faults import Fault
from cdrsync.sandbox.settings import DEMO_LOGIN, Login, Settings
from cdrsync.sandbox.timeline import ManualClock
from cdrsync.sandbox.world import RequestSeen, World

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from wsgiref.types import WSGIApplication

    import httpx

__all__ = [
    "DEMO_LOGIN",
    "Call",
    "Fault",
    "Login",
    "ManualClock",
    "RequestSeen",
    "Settings",
    "Totals",
    "World",
    "app",
    "running",
    "transport",
]


def app(world: World) -> WSGIApplication:
    """The WSGI app over a world: the API on every path, the control endpoints under /_sandbox/."""
    from cdrsync.sandbox.server import app as build

    return build(world)


def running(world: World, *, host: str = "127.0.0.1", port: int = 0) -> AbstractContextManager[str]:
    """A real server on its own threads while the context lasts; gives the API's URL.

    Raises OSError where the address can't be had.
    """
    from cdrsync.sandbox.server import running as run

    return run(world, host=host, port=port)


def transport(world: World) -> httpx.BaseTransport:
    """For `httpx.Client(transport=…)`: the app without a socket. A reset raises httpx.ReadError there as well."""
    import httpx

    return httpx.WSGITransport(app=app(world))
