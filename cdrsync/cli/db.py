"""`cdrsync db`: the schema of the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cdrsync.cli import output
from cdrsync.cli.options import config_options, json_option, settings_of
from cdrsync.errors import EXIT_OK

if TYPE_CHECKING:
    from cdrsync.config import Inputs


@click.group("db", short_help="The schema: upgrade, check, current")
def db() -> None:
    """Look after the schema of the database. No login is needed.

    The same migrations run with `alembic upgrade head` in a checkout.
    """


@db.command("upgrade", short_help="Create the tables, or bring them up to date")
@config_options
@json_option
def upgrade(inputs: Inputs, *, as_json: bool) -> int:
    """Create the tables, or bring them up to date. Nothing is done where they are.

    JSON: {"before": version or null, "after": version}.
    """
    from cdrsync import wiring
    from cdrsync.store import migrate

    settings = settings_of(inputs, credentials=False)
    with wiring.engine(settings.database_url) as engine:
        before = migrate.current(engine)
        migrate.upgrade(engine)
        after = migrate.current(engine)
    if as_json:
        output.emit("db upgrade", before=before, after=after)
    else:
        output.line(f"the schema is at {after}" + ("" if before == after else f", it was at {before or 'nothing'}"))
    return EXIT_OK


@db.command("check", short_help="Is the schema the one this program needs?")
@config_options
@json_option
def check(inputs: Inputs, *, as_json: bool) -> int:
    """Check that the schema is the one this program needs. Exit 78 where it is not.

    JSON: {"ok": true, "current", "needed"}.
    """
    from cdrsync import wiring
    from cdrsync.store import migrate

    settings = settings_of(inputs, credentials=False)
    with wiring.engine(settings.database_url) as engine:
        migrate.check(engine)
    if as_json:
        output.emit("db check", ok=True, current=migrate.head(), needed=migrate.head())
    else:
        output.line(f"the schema is at {migrate.head()}, as this program needs it")
    return EXIT_OK


@db.command("current", short_help="Print the schema's version")
@config_options
@json_option
def current(inputs: Inputs, *, as_json: bool) -> int:
    """Print the schema's version, and the one this program needs.

    JSON: {"current": version or null, "needed": version}.
    """
    from cdrsync import wiring
    from cdrsync.store import migrate

    settings = settings_of(inputs, credentials=False)
    with wiring.engine(settings.database_url) as engine:
        found = migrate.current(engine)
    if as_json:
        output.emit("db current", current=found, needed=migrate.head())
    else:
        output.facts({"current": found or "none yet", "needed": migrate.head()})
    return EXIT_OK
