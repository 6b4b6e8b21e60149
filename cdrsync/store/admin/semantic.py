"""The dictionary for tools that build on it: dbt's sources with their tests, and a diagram for Mermaid."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cdrsync.store.admin.dictionary import type_name
from cdrsync.store.admin.views import ORDER
from cdrsync.store.schema.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cdrsync.store.admin.dictionary import Described

UNIQUE = {("calendar", "call_date"), ("hours", "call_hour")}
"""Columns of views that are a key; those of tables are known."""

NEVER_NULL = ("account_id", "account", "uid", "call_hour", "outcome", "forwarded_to", "calls", "duration", "cost")
"""Columns of views that always say something."""

ACCEPTED = {
    ("calls", "outcome"): ("answered", "voicemail", "missed", "unknown"),
    ("calls", "forwarded_to"): ("number", "voicemail", "nowhere", "unknown"),
    ("calendar", "clocks_go"): ("forward", "back"),
    ("call_day", "split"): ("day", "hour", "number", "destination", "number-month"),
}

RELATED = {
    "account_id": ("account", "id"),
    "call_date": ("calendar", "call_date"),
    "call_hour": ("hours", "call_hour"),
    "called_number": ("numbers", "called_number"),
}
"""What columns of views lead to."""

LINKS = (
    ("cdr", "account", "account_id"),
    ("cdr", "coverage", "call_date"),
    ("cdr", "number", "anumber, bnumber, dialled"),
    ("cdr_change", "cdr", "uid"),
)
"""What belongs together though no foreign key says so: many, one, by which columns."""

EXPOSURES = (
    (
        "grafana_calls",
        "The dashboard of calls in deploy/grafana",
        (
            *("calls_daily", "calls_hourly", "numbers_daily", "destinations_daily", "hours"),
            *("account", "audit_result", "cdr_change", "coverage", "reject"),
        ),
    ),
    (
        "superset_calls",
        "The dashboard of calls in deploy/superset",
        ("calls_daily", "calls_hourly", "numbers_daily", "callbacks", "calendar", "hours", "coverage_daily"),
    ),
)


def dbt(described: Iterable[Described]) -> str:
    """A properties file of dbt 1.10 or newer: a source `cdrsync` with descriptions and tests, and exposures.

    Its place is that of the target unless the variables `cdrsync_database` and `cdrsync_schema` say otherwise.
    """
    objects = list(described)
    tables = [
        {
            "name": one.name,
            "description": one.comment,
            "columns": [_column(one, column.name, column.comment, {o.name for o in objects}) for column in one.columns],
        }
        for one in objects
    ]
    source = {
        "name": "cdrsync",
        "description": "A TTNC account's call data records",
        "database": "{{ var('cdrsync_database', target.database) }}",
        "schema": "{{ var('cdrsync_schema', target.schema) }}",
        "tables": tables,
    }
    names = {one.name for one in objects}
    exposures = [
        {
            "name": name,
            "type": "dashboard",
            "description": description,
            "owner": {"name": "Whoever runs cdrsync"},
            "depends_on": [f"source('cdrsync', '{view}')" for view in reads],
        }
        for name, description, reads in EXPOSURES
        if names.issuperset(reads)
    ]
    return "\n".join(_yaml({"version": 2, "sources": [source], "exposures": exposures})) + "\n"


def mermaid() -> str:
    """The tables with their keys, and what leads where."""
    lines = ["erDiagram"]
    links = list(LINKS)
    for table in metadata.sorted_tables:
        lines.append(f"    {table.name} {{")
        for column in table.columns:
            keys = [word for word, held in (("PK", column.primary_key), ("FK", column.foreign_keys)) if held]
            if keys:
                lines.append(f"        {type_name(column.type)} {column.name} {', '.join(keys)}")
            links += [(table.name, key.column.table.name, column.name) for key in column.foreign_keys]
        lines.append("    }")
    lines += [f'    {one} ||--o{{ {many} : "{columns}"' for many, one, columns in sorted(links)]
    return "\n".join(lines) + "\n"


def _column(one: Described, name: str, comment: str, known: set[str]) -> dict[str, Any]:
    tests: list[Any] = []
    table = metadata.tables.get(one.name)
    if (one.name, name) in UNIQUE or (table is not None and [c.name for c in table.primary_key] == [name]):
        tests.append("unique")
    if name in NEVER_NULL if table is None else not table.columns[name].nullable:
        tests.append("not_null")
    if accepted := ACCEPTED.get((one.name, name)):
        tests.append({"accepted_values": {"arguments": {"values": list(accepted)}}})
    to, field = RELATED.get(name, ("", ""))
    if one.name in ORDER and one.name != to and to in known:
        tests.append({"relationships": {"arguments": {"to": f"source('cdrsync', '{to}')", "field": field}}})
    return {"name": name, "description": comment} | ({"data_tests": tests} if tests else {})


def _yaml(value: Any, indent: str = "") -> Iterator[str]:
    """Lists and mappings as YAML; every text as JSON writes it, which is YAML too."""
    items = value.items() if isinstance(value, dict) else ((None, one) for one in value)
    for key, one in items:
        lead = f"{indent}- " if key is None else f"{indent}{key}:"
        if not isinstance(one, dict | list):
            yield f"{lead if key is None else lead + ' '}{json.dumps(one, ensure_ascii=False)}"
            continue
        inner = list(_yaml(one, f"{indent}  "))
        if key is None:
            yield lead + inner[0].lstrip()
            yield from inner[1:]
        else:
            yield lead
            yield from inner
