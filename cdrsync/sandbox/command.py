"""`cdrsync sandbox`: the stand-in on a port, for as long as it is wanted."""

from __future__ import annotations

import os
import shlex
import signal
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TextIO

from cdrsync.errors import ConfigError
from cdrsync.sandbox.settings import DEMO_LOGIN
from cdrsync.sandbox.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdrsync.sandbox.settings import Settings


def serve(host: str, port: int, settings: Settings, *, calls: int, days: float, seed: int, out: TextIO) -> None:
    """Serve until SIGINT or SIGTERM; prints to `out` what to paste. Raises ConfigError where it can't listen there."""
    from cdrsync.sandbox import running

    with _ended_by_signals():
        world = World(settings, logins=[DEMO_LOGIN], seed=seed)
        world.add_history(calls=calls, days=days)
        with ExitStack() as stack:
            try:
                url = stack.enter_context(running(world, host=host, port=port))
            except OSError as error:
                raise ConfigError(
                    [f"can't listen on {host}, port {port}: {error.strerror or error}"],
                    hint="Give another --port (0 takes a free one), or a --host that is this machine's",
                ) from None
            print(_introduction(url, world, days), file=out, flush=True)
            threading.Event().wait()


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGINT and SIGTERM end the process at once and without a word: all that it holds is invented."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: os._exit(0)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _introduction(url: str, world: World, days: float) -> str:
    login, counters, rate = world.logins[0], world.counters(), world.settings.rate
    live = f"{rate:g} new calls per second" if rate else "no new calls arrive"
    environment = {
        "CDRSYNC_API_URL": url,
        "CDRSYNC_USERNAME": login.username,
        "CDRSYNC_PASSWORD": login.password,
        "CDRSYNC_VKEY": login.vkey,
    }
    exports = "\n".join(f"  export {name}={shlex.quote(value)}" for name, value in environment.items())
    return (
        f"A stand-in for the operator's API is listening at {url}\n"
        f"{counters['visible']:,} invented calls of the last {days:g} days; {live}. Ctrl-C ends it.\n\n"
        f"These credentials are stand-ins and open nothing but this sandbox. To sync from it, in another terminal:\n\n"
        f"{exports}\n  cdrsync sync\n\n"
        f"It reads today's calls first, then all {days:g} days of history, in seconds.\n"
        f"What it really holds: {url.removesuffix('/api/')}/_sandbox/records and /_sandbox/counters"
    )
