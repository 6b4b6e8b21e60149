"""What deploy/'s tests work on: a database that the real program filled from the sandbox."""

from __future__ import annotations

from cdrsync.sandbox import World, running
from tests.support.canary import LOGIN
from tests.support.processes import cdrsync, environment

CALLS = 300


def filled(database_url: str) -> None:
    """Sync CALLS calls of the last two days into a new database, and audit them, by the command line."""
    world = World(logins=[LOGIN])
    world.add_history(calls=CALLS, days=2)
    with running(world) as url:
        env = environment(url, database_url)
        for command in ("sync", "audit"):
            done = cdrsync(command, env=env)
            assert (done.returncode, done.stderr) == (0, ""), command
