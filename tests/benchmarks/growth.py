"""Does size matter? Peak memory by length of the catch-up, and the rate into a big table (PostgreSQL)."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg

from tests.benchmarks.bed import Bed, made
from tests.benchmarks.data import FIRST_UID, Recipe, last_full_hour
from tests.benchmarks.measure import run
from tests.benchmarks.programs import CDRSYNC, libpq_url

if TYPE_CHECKING:
    from tests.benchmarks.programs import Target

DAYS = 365
POSTGRESQL = "postgresql"
SMALL = 10_000
OLDEST_FILLED = 3650  # days before the records of the run: ten years of calls


def memory(records: int, kind: str) -> dict[str, Any]:
    """Peak memory of a catch-up of `records` and of SMALL, both over the same days."""
    peaks = {}
    for count in (SMALL, records):
        with made(Recipe(count, DAYS, last_full_hour()), (kind,)) as bed, bed.target(kind, CDRSYNC) as target:
            peaks[count] = bed.timed(CDRSYNC, target, "new", visible=count).cost.peak_mb
    return {"records": records, "database": kind, "peak_mb": peaks[records], "small_peak_mb": peaks[SMALL]}


def growth(rows: int, records: int, pairs: int) -> dict[str, Any]:
    """Catch-up of `records` into an empty table and into one that holds `rows` older calls, in turn."""
    empty_seconds, full_seconds, idle_seconds = [], [], []
    with (
        made(Recipe(records, DAYS, last_full_hour()), ("postgresql",)) as bed,
        bed.target("postgresql", CDRSYNC) as big,
    ):
        sys.stdout.write(f"filling a table with {rows:,} rows\n")
        _fill(bed, big, rows)
        for _ in range(pairs):
            with bed.target(POSTGRESQL, CDRSYNC) as empty:
                empty_seconds.append(bed.timed(CDRSYNC, empty, "new", visible=records).cost.seconds)
            _forget(big)
            bed.settle(POSTGRESQL)
            full_seconds.append(run(CDRSYNC.command(big, "new"), CDRSYNC.variables(big)).seconds)
            idle_seconds.append(run(CDRSYNC.command(big, "new"), CDRSYNC.variables(big)).seconds)
            held = _held(big)
            if held != rows + records:
                raise RuntimeError(f"{held} rows instead of {rows + records}")
    return {"rows": rows, "empty_seconds": empty_seconds, "full_seconds": full_seconds, "idle_seconds": idle_seconds}


def _fill(bed: Bed, target: Target, rows: int) -> None:
    """Older calls of the same account, written by the server itself; indexes are made afterwards."""
    bed.api.control(visible=0)
    run(CDRSYNC.command(target, "new"), CDRSYNC.variables(target))  # makes the tables and the account
    bed.api.control(visible=bed.visible)
    newest = target.first_day - timedelta(days=2)
    with psycopg.connect(libpq_url(target.database_url), autocommit=True) as connection:
        indexes = connection.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'cdr' AND indexname LIKE 'ix_%'"
        ).fetchall()
        for name, _ in indexes:
            connection.execute(f'DROP INDEX "{name}"'.encode())
        connection.execute(
            """
            INSERT INTO cdr (account_id, uid, ref, call_date, call_time, started_at, anumber, anumber_location, bnumber,
              alias, dialled, dialled_location, duration, ring_time, user_cost, reason, reason_q805, has_recorded_call,
              has_voicemail_recording, has_fax_document, first_seen_at, changed_at)
            SELECT (SELECT min(id) FROM account), %(first)s - %(rows)s + n - 1000, lpad(to_hex(n), 16, '0'),
              began::date, began::time, began AT TIME ZONE 'UTC', '7' || (n * 7919 %% 1000000007), 'UK O2 Mobile',
              '12' || (n %% 40 + 10000000), '', '447512345678', 'UK O2 Mobile', n %% 600, n %% 30, (n %% 600) / 5000.0,
              1, 1, false, false, false, now(), now()
            FROM (
              SELECT n, date_trunc(
                'second', %(newest)s::timestamp - (%(rows)s - n) * (%(days)s * interval '1 day' / %(rows)s)
              ) AS began FROM generate_series(1, %(rows)s::bigint) AS n
            ) AS calls
            """,
            {"first": FIRST_UID, "rows": rows, "newest": newest, "days": OLDEST_FILLED},
        )
        for _, definition in indexes:
            connection.execute(definition.encode())
        connection.execute("VACUUM ANALYZE cdr")


def _forget(target: Target) -> None:
    """As if the run's records had never been read."""
    with psycopg.connect(libpq_url(target.database_url), autocommit=True) as connection:
        connection.execute("DELETE FROM cdr WHERE uid >= %s", (FIRST_UID,))
        for table in ("checkpoint", "coverage", "cdr_change", "sync_run"):
            connection.execute(f"DELETE FROM {table}".encode())
        connection.execute("VACUUM cdr")


def _held(target: Target) -> int:
    with psycopg.connect(libpq_url(target.database_url)) as connection:
        return int(connection.execute("SELECT count(*) FROM cdr").fetchone()[0])  # type: ignore[index] # count has a row
