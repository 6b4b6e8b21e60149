"""The command line. Commands parse, call one function and print; this is where errors become one line and an exit code.

Commands are imported when they are used, so that `cdrsync --help` and a small command start at once.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

import click

from cdrsync import __version__
from cdrsync.cli import output
from cdrsync.cli.options import config_option
from cdrsync.config.read import Inputs
from cdrsync.config.values import did_you_mean
from cdrsync.daemon.signals import INTERRUPT, Interrupted
from cdrsync.errors import EXIT_BUG, EXIT_OK, EXIT_USAGE, CdrsyncError, ConfigError, OutputFailed
from cdrsync.monitor import logs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

EXIT_ABORTED = 130  # as after SIGINT
RESUMABLE = frozenset({"sync", "backfill"})  # what an interrupted one had not done, the next one does
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE
COMPLETE_VARIABLE = "_CDRSYNC_COMPLETE"

COMMANDS: Mapping[str, tuple[str, str]] = {  # name → (where it is, its line in --help), in the order of a reader's need
    "demo": ("cdrsync.cli.demo:demo", "Watch the whole thing work against a stand-in operator"),
    "doctor": ("cdrsync.cli.doctor:doctor", "Check that everything is reachable, and say what to do"),
    "sync": ("cdrsync.cli.work:sync", "Catch up once, then exit"),
    "run": ("cdrsync.cli.run:run", "Stay current: the daemon, in the foreground"),
    "status": ("cdrsync.cli.status:status", "Show what is held and how current it is"),
    "audit": ("cdrsync.cli.audit:audit", "Prove completeness against the operator's totals"),
    "backfill": ("cdrsync.cli.work:backfill", "(Re)read a range of days"),
    "fetch": ("cdrsync.cli.work:fetch", "Fetch, store and print one record"),
    "totals": ("cdrsync.cli.totals:totals", "Print the operator's own totals"),
    "rejects": ("cdrsync.cli.rejects:rejects", "Records that can't be read: list, show, retry, dismiss"),
    "account": ("cdrsync.cli.account:account", "The accounts: list, retry, rename, retire, forget"),
    "checkpoint": ("cdrsync.cli.checkpoint:checkpoint", "How far an account is read, and where it is to go on"),
    "export": ("cdrsync.cli.export:export", "Write the calls to a CSV, Excel or Parquet file"),
    "erase": ("cdrsync.cli.erase:erase", "Erase one person's number, or what is too old to keep"),
    "db": ("cdrsync.cli.db:db", "The schema: upgrade, check, describe, grant-reader, distribute"),
    "config": ("cdrsync.cli.config:config_group", "Show the configuration, or check it"),
    "healthcheck": ("cdrsync.cli.healthcheck:healthcheck", "Ask a running daemon whether it is well"),
    "sandbox": ("cdrsync.cli.sandbox:sandbox", "Serve a stand-in for the operator's API"),
}


class LazyGroup(click.Group):
    """A group that imports a command when it is called, and lists all without importing any."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        command.short_help = COMMANDS[cmd_name][1]
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, with a suggestion for a misspelt one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            raise click.UsageError(error.message.rstrip(".") + did_you_mean(args[0], COMMANDS), ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="cdrsync", message="%(prog)s %(version)s")
@config_option
@click.pass_context
def cdrsync(ctx: click.Context, config_file: Path | None) -> None:
    """Keep a SQL database complete and current with a TTNC account's call data records, and prove it.

    \b
    Try it:            cdrsync demo
    Set it up:         export CDRSYNC_USERNAME=… CDRSYNC_PASSWORD=… CDRSYNC_VKEY=…
                       cdrsync doctor
    Fetch once:        cdrsync sync --database-url sqlite:///calls.db
    Stay current:      cdrsync run
    Is it complete?    cdrsync audit

    \b
    Exit codes: 0 done · 1 found something (gaps, rejects) · 2 usage · 69 API or database unreachable ·
    70 our bug · 75 another instance is at work · 77 login refused · 78 configuration
    """
    ctx.obj = Inputs(config=config_file)


def main(args: Sequence[str]) -> int:
    """Run one command; return the process's exit code. Whatever goes wrong is one line on standard error."""
    output.spell_out()
    instruction = os.environ.get(COMPLETE_VARIABLE)
    if instruction:
        from click.shell_completion import shell_complete

        return shell_complete(cdrsync, {}, "cdrsync", COMPLETE_VARIABLE, instruction)
    try:
        code = _invoke(args)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output went away (`cdrsync status | head`): nobody is left to be told.
        code = EXIT_BROKEN_PIPE
    except (OSError, OutputFailed) as error:
        failure = (
            OutputFailed(f"can't write to standard output: {error.strerror}") if isinstance(error, OSError) else error
        )
        output.note(f"error: {failure}")
        code = failure.exit_code
    else:
        return code
    # What is still waiting there is not to be tried again when the interpreter ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return code


def _invoke(args: Sequence[str]) -> int:
    INTERRUPT.words = "interrupted" + ("; the same command goes on" if RESUMABLE.intersection(args) else "")
    try:
        with cdrsync.make_context("cdrsync", list(args)) as ctx:
            return cdrsync.invoke(ctx) or EXIT_OK
    except click.exceptions.Exit as wish:
        return wish.exit_code
    except click.ClickException as error:
        error.show()
        return EXIT_USAGE
    except (Interrupted, click.Abort):
        return _interrupted()
    except (BrokenPipeError, OutputFailed):
        raise
    except CdrsyncError as error:
        return _failed(error, args)
    except Exception as error:  # noqa: BLE001 - the last line of defence: a bug of ours must not print secrets or 60 lines
        return _unforeseen(error, args)


def _working_folder_is_gone() -> bool:
    try:
        os.getcwd()  # noqa: PTH109 - asks no more than that
    except FileNotFoundError:
        return True
    return False


def _interrupted() -> int:
    output.note(INTERRUPT.words)
    return INTERRUPT.code or EXIT_ABORTED


def _failed(error: CdrsyncError, args: Sequence[str]) -> int:
    if INTERRUPT.event.is_set():  # a wait for the API was given up
        return _interrupted()
    report(error, args)
    return error.exit_code


def report(error: CdrsyncError, args: Sequence[str]) -> None:
    """Print an error for people on standard error, and as the answer where `--json` asked for one."""
    problems = error.problems if isinstance(error, ConfigError) else []
    for problem in problems:
        output.note(logs.redact(f"error: {problem}"))
    output.note(logs.redact(f"hint: {error.hint}" if problems else f"error: {error}"))
    if "--json" in args:
        command = " ".join(arg for arg in args[:2] if not arg.startswith("-"))
        output.emit(command, error=output.error_object(error))


def _unforeseen(error: Exception, args: Sequence[str]) -> int:
    """Say in one line what nobody foresaw; the traceback (never with locals) only on request."""
    if isinstance(error, OSError):
        sys.stdout.flush()  # fails again where that is what can't be written: click prints by itself, too
    if isinstance(error, FileNotFoundError) and _working_folder_is_gone():
        hint = "cd to a folder that is there, or give full paths"
        return _failed(ConfigError(["the working folder is gone"], hint=hint), args)
    traceback = logs.traceback_of(error)
    if traceback:
        click.echo(traceback, err=True)
        return EXIT_BUG
    output.note(f"internal error: {logs.one_line(error)}. Run with CDRSYNC_DEBUG=1 for the traceback")
    return EXIT_BUG
