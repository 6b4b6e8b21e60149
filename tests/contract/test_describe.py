"""The data dictionary says what the databases have: every table, view and column, in order, each with its meaning."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from sqlalchemy import inspect, text

from cdrsync.cli import main
from cdrsync.store.admin import dictionary, semantic

if TYPE_CHECKING:
    from tests.support.eyes import Eyes

SHORT = {
    "character varying": "text",
    "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
    "time without time zone": "time",
}


def test_everything_has_a_comment() -> None:
    """No table, view or column without a meaning, and none whose meaning is its name."""
    bare = [
        f"{one.name}.{column.name}"
        for one in dictionary.dictionary()
        for column in one.columns
        if not column.comment.strip() or column.comment == column.name
    ]
    assert bare == []
    assert [one.name for one in dictionary.dictionary() if not one.comment] == []


def test_it_describes_what_is_there(eyes: Eyes) -> None:
    """Each object of the database with its columns in their order, nothing more and nothing less."""
    with eyes.engine.connect() as connection:
        found = inspect(connection)
        names = {*found.get_table_names(), *found.get_view_names()} - {"alembic_version"}
        there = {name: [column["name"] for column in found.get_columns(name)] for name in names}
    assert there == {one.name: [column.name for column in one.columns] for one in dictionary.dictionary()}


def test_comments_and_types_are_those_in_postgresql(eyes: Eyes) -> None:
    """A person who looks in psql or a BI tool reads the same as in `cdrsync db describe`."""
    if eyes.engine.dialect.name != "postgresql":
        pytest.skip("only PostgreSQL has comments on views")
    query = text(
        "SELECT c.relname, obj_description(c.oid), a.attname, a.atttypid::regtype::text, col_description(c.oid, attnum)"
        " FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE relkind IN ('r', 'v') AND attnum > 0"
        " AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version' ORDER BY relname, attnum"
    )
    with eyes.engine.connect() as connection:
        there = [(*row[:3], SHORT.get(row[3], row[3]), row[4]) for row in connection.execute(query)]
    ours = sorted(dictionary.dictionary(), key=lambda one: one.name)
    assert [(o.name, o.comment, c.name, c.type, c.comment) for o in ours for c in o.columns] == there


def test_the_command_prints_text_markdown_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The same dictionary three times."""
    assert main(["db", "describe", "call_reasons"]) == 0
    assert capsys.readouterr().out.splitlines()[:3] == [
        "call_reasons (view): What the codes in reason and reason_q805 mean, and who says so; others are unknown",
        "  column       type     meaning",
        "  column_name  text     reason or reason_q805",
    ]
    assert main(["db", "describe", "--format", "markdown", "call_reasons"]) == 0
    assert "## call_reasons (view)\n" in (page := capsys.readouterr().out)
    assert "| code | integer | The code |\n" in page
    assert main(["db", "describe", "--json"]) == 0
    objects = json.loads(capsys.readouterr().out)["objects"]
    assert [(one["name"], one["kind"]) for one in objects][:1] == [("calls", "view")]
    assert objects[0]["columns"][0] == {
        "name": "account_id", "type": "integer", "comment": "Our number of the account",
    }  # fmt: skip


def test_dbt_gets_sources_with_tests(capsys: pytest.CaptureFixture[str]) -> None:
    """A properties file: everything is described, tests name what is there, dashboards rest on sources."""
    assert main(["db", "describe", "--format", "dbt"]) == 0
    said = yaml.safe_load(capsys.readouterr().out)
    assert said["version"] == 2
    (source,) = said["sources"]
    described = {table["name"]: {c["name"]: c for c in table["columns"]} for table in source["tables"]}
    assert {name: list(columns) for name, columns in described.items()} == {
        one.name: [column.name for column in one.columns] for one in dictionary.dictionary()
    }
    assert all(column["description"] for columns in described.values() for column in columns.values())
    assert described["account"]["id"]["data_tests"] == ["unique", "not_null"]
    assert described["calls"]["outcome"]["data_tests"] == [
        "not_null",
        {"accepted_values": {"arguments": {"values": ["answered", "voicemail", "missed", "unknown"]}}},
    ]
    for columns in described.values():
        for column in columns.values():
            for test in column.get("data_tests", []):
                if "relationships" in test:
                    to = test["relationships"]["arguments"]
                    assert to["field"] in described[to["to"].split("'")[3]]
    used = {on.split("'")[3] for exposure in said["exposures"] for on in exposure["depends_on"]}
    assert used <= set(described)
    assert [exposure["name"] for exposure in said["exposures"]] == ["grafana_calls", "superset_calls"]


def test_an_exposure_rests_on_what_its_dashboard_reads() -> None:
    deploy = Path(__file__).parents[2] / "deploy"
    panels = json.loads((deploy / "grafana/dashboards/cdrsync-calls.json").read_text(encoding="utf-8"))["panels"]
    grafana = "\n".join(target["rawSql"] for panel in panels for target in panel["targets"])
    datasets = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in deploy.glob("superset/datasets/*/*.yaml")]
    superset = " ".join(found["sql"] or f"FROM {found['table_name']}" for found in datasets)
    known = {one.name for one in dictionary.dictionary()}
    for (_, _, reads), text_of_queries in zip(semantic.EXPOSURES, (grafana, superset), strict=True):
        assert set(re.findall(r"\b(?:FROM|JOIN) (\w+)", text_of_queries)) & known == set(reads)


def test_the_diagram_in_readme_is_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """`--format mermaid`: every table with its keys. README shows it."""
    assert main(["db", "describe", "--format", "mermaid"]) == 0
    diagram = capsys.readouterr().out
    assert f"```mermaid\n{diagram}```" in (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert '    account ||--o{ cdr : "account_id"\n' in diagram
    assert "    cdr {\n        integer account_id PK\n        bigint uid PK\n    }\n" in diagram


def test_readmes_recipes_name_what_is_there() -> None:
    """Each view and column that README's table of tools names; and what Power BI relates has the column."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    columns = {view.name: {column.name for column in view.columns} for view in dictionary.views()}
    known = {*columns, *(column for names in columns.values() for column in names), "cdr", "analyst"}
    recipes = dict(re.findall(r"(?m)^\| (Grafana|Metabase|Superset|Power BI) \| (.+) \|$", readme))
    assert len(recipes) == 4
    for recipe in recipes.values():
        assert set(re.findall(r"`([a-z_]+)`", recipe)) <= known
        for query in re.findall(r"`SELECT (.+?) FROM (\w+)", recipe):
            asked = {part.split(" AS ")[0] for part in query[0].split(", ")}
            assert asked <= columns[query[1]]
    taken = re.findall(r"`(\w+)`", recipes["Power BI"].split("; take ")[1].split(", relate")[0])
    assert taken == ["calls_daily", "numbers_daily", "calendar"]
    assert all("call_date" in columns[view] for view in taken)
    assert "alias" in columns["numbers_daily"]


def test_a_misspelt_name_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """With what was perhaps meant."""
    assert main(["db", "describe", "cals"]) == 2
    assert "did you mean" in capsys.readouterr().err.lower()
