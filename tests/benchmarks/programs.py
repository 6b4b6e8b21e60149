"""The programs that are measured: how each is told to do the same work, and where its rows are."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tests.benchmarks import server
from tests.benchmarks.data import FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PEERS_PYTHON = ROOT / ".venv-bench" / "bin" / "python"  # `make bench`: the dependency group `bench`

Task = Literal["new", "again"]
"""new: bring the table up to date. again: read everything once more although the table is up to date."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to read and where to write."""

    api_url: str
    database_url: str  # as SQLAlchemy spells it
    first_day: date  # oldest UK day wanted
    end_day: date  # the day after the newest
    directory: str  # empty at first: what a program keeps between its runs

    @property
    def kind(self) -> str:
        """The database's kind: postgresql, mariadb or sqlite."""
        backend = self.database_url.partition(":")[0].partition("+")[0]
        return "mariadb" if backend == "mysql" else backend


@dataclass(frozen=True, slots=True)
class Program:
    """One program: `command` gives its arguments and `environment` its variables."""

    name: str
    databases: tuple[str, ...]
    command: Callable[[Target, Task], list[str]]
    environment: Callable[[Target], dict[str, str]]
    columns: tuple[str, ...]  # of `table`, comparable with `Call`
    table: str = "cdr"
    prepare: Callable[[Target], None] | None = None

    def variables(self, target: Target) -> dict[str, str]:
        """The whole environment of the process: nothing of the developer's own settings."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        return kept | {"PYTHONDONTWRITEBYTECODE": ""} | self.environment(target)


def _cdrsync_command(target: Target, task: Task) -> list[str]:
    base = [sys.executable, "-m", "cdrsync"]
    return [*base, "sync"] if task == "new" else [*base, "backfill", "--since", target.first_day.isoformat()]


def cdrsync_environment(target: Target) -> dict[str, str]:
    """Defaults, but for what names this run's server, database and days."""
    return {
        "CDRSYNC_API_URL": target.api_url,
        "CDRSYNC_USERNAME": server.USERNAME,
        "CDRSYNC_PASSWORD": server.PASSWORD,
        "CDRSYNC_VKEY": server.VKEY,
        "CDRSYNC_DATABASE_URL": target.database_url,
        "CDRSYNC_START_DATE": target.first_day.isoformat(),
        "CDRSYNC_PAGE_SIZE": "1000",
        "CDRSYNC_HTTP_LISTEN": "",
    }


def _peer(name: str) -> Callable[[Target, Task], list[str]]:
    def command(target: Target, task: Task) -> list[str]:
        del target
        return [str(PEERS_PYTHON), str(HERE / f"peer_{name}.py"), *(["--again"] if task == "again" else [])]

    return command


def _peer_environment(target: Target) -> dict[str, str]:
    return {
        "BENCH_API_URL": target.api_url,
        "BENCH_USERNAME": server.USERNAME,
        "BENCH_PASSWORD": server.PASSWORD,
        "BENCH_VKEY": server.VKEY,
        "BENCH_DATABASE_URL": target.database_url,
        "BENCH_FIRST_DAY": target.first_day.isoformat(),
        "BENCH_END_DAY": target.end_day.isoformat(),
    }


def _dlt_environment(road: str) -> Callable[[Target], dict[str, str]]:
    def environment(target: Target) -> dict[str, str]:
        return _peer_environment(target) | {
            "BENCH_DATABASE_URL": libpq_url(target.database_url),
            "BENCH_WORK_DIRECTORY": target.directory,
            "BENCH_DLT_ROAD": road,
            "DATA_WRITER__QUOTING": "quote_all",  # or empty texts arrive as NULL
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            "RUNTIME__LOG_LEVEL": "ERROR",
        }

    return environment


def libpq_url(database_url: str) -> str:
    """A URL that dlt takes for complete: it insists on a host and a password."""
    return database_url.replace("postgresql+psycopg://postgres@/", "postgresql://postgres:unused@localhost/")


def _prepare_dlt(target: Target) -> None:
    """The table that dlt would make has neither a primary key nor indexes: give it those of the others."""
    import psycopg

    with psycopg.connect(libpq_url(target.database_url), autocommit=True) as connection:
        connection.execute(
            """
            CREATE SCHEMA calls;
            CREATE TABLE calls.cdr (
              uid bigint PRIMARY KEY, ref varchar, call_date date, call_time time without time zone, anumber varchar,
              anumber_location varchar, bnumber varchar, alias varchar, dialled varchar, dialled_location varchar,
              duration bigint, ring_time bigint, user_cost numeric(18, 6), reason bigint, reason_q805 bigint,
              has_recorded_call boolean, has_voicemail_recording boolean, has_fax_document boolean
            );
            CREATE INDEX ON calls.cdr (call_date, duration, user_cost);
            CREATE INDEX ON calls.cdr (anumber);
            CREATE INDEX ON calls.cdr (bnumber);
            CREATE INDEX ON calls.cdr (call_date, call_time)
            """
        )


CDRSYNC = Program(
    "cdrsync",
    ("postgresql", "mariadb", "sqlite"),
    _cdrsync_command,
    cdrsync_environment,
    columns=(*FIELDS, "started_at"),
)
GOOD_SCRIPT = Program(
    "good_script", ("postgresql", "mariadb", "sqlite"), _peer("good_script"), _peer_environment, columns=FIELDS
)
MERGE = Program("merge", ("postgresql", "mariadb", "sqlite"), _peer("merge"), _peer_environment, columns=FIELDS)
DLT, DLT_ARROW = (
    Program(
        name,
        ("postgresql",),
        _peer("dlt"),
        _dlt_environment(road),
        columns=FIELDS,
        table="calls.cdr",
        prepare=_prepare_dlt,
    )
    for name, road in (("dlt", "rows"), ("dlt_arrow", "arrow"))
)
PROGRAMS = {program.name: program for program in (CDRSYNC, GOOD_SCRIPT, MERGE, DLT, DLT_ARROW)}
