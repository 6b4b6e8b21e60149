"""`cdrsync sandbox`: a stand-in for the operator's API, to try things against."""

from __future__ import annotations

import sys

import click


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
    from cdrsync.sandbox import Settings
    from cdrsync.sandbox.command import serve

    serve(host, port, Settings(rate=rate), calls=calls, days=days, seed=seed, out=sys.stdout)
