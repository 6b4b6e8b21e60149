"""`cdrsync db`: the schema of the database."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from cdrsync.cli import output
from cdrsync.cli.options import json_option, report_options, settings_of
from cdrsync.config.values import did_you_mean
from cdrsync.errors import EXIT_OK, SchemaMismatch
from cdrsync.wiring import database

if TYPE_CHECKING:
    from cdrsync.config import Inputs


@click.group("db")
def db() -> None:
    """Look after the schema of the database, and who may read it. No login is needed.

    The same migrations run with `alembic upgrade head` in a checkout.
    """


@db.command("upgrade", short_help="Create the tables, or bring them up to date")
@report_options
def upgrade(inputs: Inputs, *, as_json: bool) -> int:
    """Create the tables, or bring them up to date. Where they are, the views are made anew.

    JSON: {"before": version or null, "after": version}.
    """
    from cdrsync.store.admin import migrate

    with database.engine(settings_of(inputs, credentials=False).database_url) as engine:
        before = migrate.current(engine)
        migrate.upgrade(engine)
        after = migrate.current(engine)
    text = f"the schema is at {after}" + ("" if before == after else f", it was at {before or 'nothing'}")
    return output.answer("db upgrade", text, as_json=as_json, before=before, after=after)


@db.command("check", short_help="Is the schema the one this program needs?")
@report_options
def check(inputs: Inputs, *, as_json: bool) -> int:
    """Check that the schema is the one this program needs, and that every view can be read. Exit 78 where not.

    JSON: {"ok": true, "current", "needed"}.
    """
    from cdrsync.store.admin import views
    from cdrsync.store.schema import versions

    with database.existing(settings_of(inputs, credentials=False)) as engine:
        needed = versions.head()
        if broken := views.broken(engine):
            raise SchemaMismatch(f"views that do not work: {', '.join(broken)}", hint=versions.UPGRADE_HINT)
    text = f"the schema is at {needed}, as this program needs it"
    return output.answer("db check", text, as_json=as_json, ok=True, current=needed, needed=needed)


@db.command("current", short_help="Print the schema's version")
@report_options
def current(inputs: Inputs, *, as_json: bool) -> int:
    """Print the schema's version, and the one this program needs.

    JSON: {"current": version or null, "needed": version}.
    """
    from cdrsync.store.admin import migrate
    from cdrsync.store.schema import versions

    with database.found(settings_of(inputs, credentials=False)) as engine:
        found, needed = migrate.current(engine), versions.head()
    text = f"current  {found or 'none yet'}\nneeded   {needed}"
    return output.answer("db current", text, as_json=as_json, current=found, needed=needed)


@db.command("describe", short_help="The data dictionary: what each view, table and column means")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "dbt", "mermaid"]),
    default="text",
    help="dbt: sources with tests; mermaid: a diagram of the tables' keys.",
)
@json_option
def describe(names: tuple[str, ...], form: str, *, as_json: bool) -> int:
    """Print what every view, table and column means, or only those named. No database is needed.

    Types are PostgreSQL's. On SQLite, times are texts that sort by time, true and false are 1 and 0, and a cost is a
    float whose 15 digits are exact.

    \b
      cdrsync db describe calls
      cdrsync db describe --format dbt > models/cdrsync.yml

    JSON: {"objects": [{"name", "kind": "view" or "table", "comment", "columns": [{"name", "type", "comment"}]}]}.
    """
    from cdrsync.store.admin import dictionary, semantic

    objects = dictionary.dictionary()
    known = [one.name for one in objects]
    for name in names:
        if name not in known:
            raise click.UsageError(f"no table or view {name!r}{did_you_mean(name, known)}")
    chosen = [one for one in objects if not names or one.name in names]
    if as_json:
        output.emit("db describe", objects=[asdict(one) for one in chosen])
    elif form == "markdown":
        output.document(dictionary.markdown(chosen))
    elif form == "dbt":
        output.document(semantic.dbt(chosen))
    elif form == "mermaid":
        output.document(semantic.mermaid())
    else:
        for one in chosen:
            output.line(f"{one.name} ({one.kind}): {one.comment}")
            output.table([(f"  {c.name}", c.type, c.comment) for c in one.columns], ("  column", "type", "meaning"))
            output.line()
    return EXIT_OK


@db.command("grant-reader", short_help="Let a database role read the views, and nothing else")
@click.argument("role")
@click.option("--tables", is_flag=True, help="Let it read the tables too.")
@click.option("--account", "names", multiple=True, metavar="NAME", help="Only this account's rows (PostgreSQL).")
@report_options
def grant_reader(inputs: Inputs, role: str, names: tuple[str, ...], *, tables: bool, as_json: bool) -> int:
    """Let an existing ROLE of PostgreSQL, MySQL or MariaDB read the views, and nothing else.

    What it was granted on cdrsync's tables and views before is taken back first. Give it again after an upgrade of the
    schema that brought new views. With --account, on PostgreSQL, the role sees only these accounts' rows, in views of
    its own that it finds under the same names.

    JSON: {"role", "objects": [name], "accounts": [name], "statements": [SQL]}; accounts empty: all.
    """
    from cdrsync.store.admin import grant as granting

    settings = settings_of(inputs, credentials=False)
    with database.existing(settings) as engine:
        granted = granting.grant_reader(engine, role, tables=tables, accounts=names)
    whose = f" of {', '.join(granted.accounts)}" if granted.accounts else ""
    text = f"{role} may read{whose}: {', '.join(granted.objects)}"
    return output.answer("db grant-reader", text, as_json=as_json, **output.fields(granted))


@db.command("distribute", short_help="Spread the tables over the nodes of a Citus cluster, by account")
@click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@report_options
def distribute(inputs: Inputs, *, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Spread the tables of PostgreSQL over the nodes of a Citus cluster: all of an account is on one node.

    It prints what it will do, and asks. While a table moves whoever writes waits; daemons may run on. What was cut off
    is finished by the next run; where nothing is left to be done it says so. Give readers their rights again afterwards
    (cdrsync db grant-reader): on a cluster they need those on the tables that views read.

    JSON: {"nodes", "shards", "steps": [{"what", "statements": [SQL]}], "readers": [{"role", "tables": true or false}],
    "done": true or false}.
    """
    from cdrsync.store.admin import distribute as spreading

    with database.existing(settings_of(inputs, credentials=False)) as engine:
        plan = spreading.plan(engine)
        if not as_json or not (yes or dry_run):
            for step in plan.steps:
                (output.note if as_json else output.line)(step.what)
        going = bool(plan.steps) and not dry_run
        if going and not yes:
            click.confirm(f"Spread the tables over {plan.nodes} nodes. Go on?", abort=True, err=True)
        if going:
            spreading.distribute(engine, plan)
    text = "nothing is left to be done" if not plan.steps else "nothing was done" if dry_run else "done"
    if going and plan.readers:
        grants = [f"{'--tables ' if one.tables else ''}{shlex.quote(one.role)}" for one in plan.readers]
        text += f". Now, again: {', '.join(f'cdrsync db grant-reader {one}' for one in grants)}"
    return output.answer("db distribute", text, as_json=as_json, **output.fields(plan), done=going or not plan.steps)
