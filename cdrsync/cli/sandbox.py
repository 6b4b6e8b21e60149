"""`cdrsync sandbox`: a stand-in for the operator's API, to try things against."""

from __future__ import annotations

import os
import shlex
import signal
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import click

from cdrsync.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdrsync.sandbox import World


@click.command("sandbox")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=9811, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 takes a free one."
)
@click.option("--calls", default=50_000, show_default=True, type=click.IntRange(min=0), help="Calls of the past.")
@click.option("--days", default=60, show_default=True, type=click.IntRange(1, 3650), help="Days they are spread over.")
@click.option("--rate", default=0.0, show_default=True, type=click.FloatRange(0, 10_000), help="New calls per second.")
@click.option("--seed", default=1, show_default=True, help="The same seed makes the same calls.")
def sandbox(host: str, port: int, *, calls: int, days: int, rate: float, seed: int) -> None:
    """Serve a stand-in for the operator's API with believable UK calls, until Ctrl-C.

    \b
      cdrsync sandbox --rate 2
      cdrsync sync --set api_url=http://127.0.0.1:9811/api/   (the sandbox prints the login to use)
    """
    from cdrsync.sandbox import DEMO_LOGIN, Settings, World, running

    with _ended_by_signals(), ExitStack() as stack:
        world = World(Settings(rate=rate), logins=[DEMO_LOGIN], seed=seed)
        world.add_history(calls=calls, days=days)
        try:
            url = stack.enter_context(running(world, host=host, port=port))
        except OSError as error:
            raise ConfigError(
                [f"can't listen on {host}, port {port}: {error.strerror or error}"],
                hint="Give another --port (0 takes a free one), or a --host that is this machine's",
            ) from None
        click.echo(_introduction(url, world, days))
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


def _introduction(url: str, world: World, days: int) -> str:
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
