"""`cdrsync healthcheck`: asks the daemon beside it, for containers."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING

import click

from cdrsync.cli import output
from cdrsync.cli.options import report_options, settings_of
from cdrsync.errors import EXIT_FOUND, EXIT_OK, EXIT_UNREACHABLE, ConfigError

if TYPE_CHECKING:
    from cdrsync.config import Inputs, Listen

ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - who listens on every address is asked on the loopback
TIMEOUT = 5.0  # seconds
MAX_BYTES = 4096


@click.command("healthcheck")
@click.option("--live", is_flag=True, help="Only whether it runs; by default whether it works, too, as /readyz says.")
@report_options
def healthcheck(inputs: Inputs, *, live: bool, as_json: bool) -> int:
    """Ask the daemon at http_listen whether it is well. Exit 0: it is; 1: it says why not; 69: no answer.

    JSON: {"ok", "answer"}.
    """
    settings = settings_of(inputs, credentials=False)
    if settings.http_listen is None:
        raise ConfigError(["http_listen is empty: the daemon can't be asked"], hint="Give it an address")
    answer = _ask(settings.http_listen, "/livez" if live else "/readyz")
    code = EXIT_UNREACHABLE if answer is None else EXIT_OK if answer[0] == http.client.OK else EXIT_FOUND
    text = f"no answer from {settings.http_listen}" if answer is None else answer[1]
    return output.answer("healthcheck", text, as_json=as_json, code=code, ok=code == EXIT_OK, answer=text)


def _ask(listen: Listen, path: str) -> tuple[int, str] | None:
    connection = http.client.HTTPConnection(ANYWHERE.get(listen.host, listen.host), listen.port, timeout=TIMEOUT)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read(MAX_BYTES).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
