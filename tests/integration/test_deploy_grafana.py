"""The dashboards: every query of every panel, run against a real PostgreSQL with calls in it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from cdrsync.cli import main
from tests.support.analyst import panel_query
from tests.support.deployed import filled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.servers import Servers

GRAFANA = Path(__file__).parents[2] / "deploy/grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
CALLS = json.loads((GRAFANA / "dashboards/cdrsync-calls.json").read_text())


EMPTY_UNLESS_TROUBLED = {"What the operator changed later", "Rejects", "Days that are not proven complete"}


@pytest.fixture(scope="module")
def calls_database(servers: Servers) -> Iterator[Any]:
    """A connection to a PostgreSQL with 300 calls of the last two days."""
    import psycopg

    server = servers.get("postgresql")
    url = server.create()
    filled(url)
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        yield connection
    server.drop(url)


@pytest.mark.parametrize("panel", CALLS["panels"], ids=lambda panel: panel["title"])
def test_every_query_over_the_tables_works(panel: dict[str, Any], calls_database: Any) -> None:
    now = datetime.now(UTC)
    for target in panel["targets"]:
        query = panel_query(target["rawSql"], now - timedelta(days=7), now + timedelta(days=1))
        assert "$" not in query
        rows = calls_database.execute(query).fetchall()
        if panel["title"] not in EMPTY_UNLESS_TROUBLED:
            assert rows, query
        if panel["type"] == "stat":
            assert (len(rows), rows[0][0] is None) == (1, False)


def test_figures_are_those_of_the_table(calls_database: Any) -> None:
    now = datetime.now(UTC)
    figures = {}
    for panel in CALLS["panels"][:3]:
        query = panel_query(panel["targets"][0]["rawSql"], now - timedelta(days=7), now + timedelta(days=1))
        figures[panel["title"]] = calls_database.execute(query).fetchone()[0]
    truth = calls_database.execute("SELECT count(*), sum(duration), sum(user_cost) FROM cdr").fetchone()
    assert truth[0] == 300
    assert tuple(figures.values()) == truth


@pytest.mark.parametrize("span", [timedelta(days=7), timedelta(days=3650)], ids=["hours", "days"])
def test_calls_over_time_begin_when_they_began(span: timedelta, calls_database: Any) -> None:
    """Each bar counts the calls that began in it by the UK's clock, and all bars together count them all."""
    end = datetime.now(UTC) + timedelta(days=1)
    (panel,) = (panel for panel in CALLS["panels"] if (panel["type"], panel["title"]) == ("timeseries", "Calls"))
    bars = calls_database.execute(panel_query(panel["targets"][0]["rawSql"], end - span, end)).fetchall()
    width = timedelta(hours=max(1, span // timedelta(hours=1000)))
    for begun, _, count in bars:
        wall = begun.astimezone(ZoneInfo("Europe/London")).replace(tzinfo=None)
        between = "SELECT count(*) FROM calls WHERE started_local >= %s AND started_local < %s"
        assert calls_database.execute(between, (wall, wall + width)).fetchone()[0] == count
    assert sum(count for *_, count in bars) == 300


def test_the_mean_length_is_that_of_the_view(calls_database: Any) -> None:
    """One definition: the length of answered calls, without voicemail."""
    now = datetime.now(UTC)
    (panel,) = (panel for panel in CALLS["panels"] if panel["title"] == "Mean length of answered calls")
    query = panel_query(panel["targets"][0]["rawSql"], now - timedelta(days=7), now + timedelta(days=1))
    shown = calls_database.execute(query).fetchone()[0]
    assert shown == calls_database.execute("SELECT avg(duration) FROM calls WHERE answered").fetchone()[0]
    days = calls_database.execute(
        "SELECT answered, answered_duration, mean_answered_duration FROM calls_daily"
    ).fetchall()
    assert all(abs(float(mean) - seconds / answered) < 0.051 for answered, seconds, mean in days if answered)


def test_reader_reads_and_changes_nothing(calls_database: Any) -> None:
    """container/reader.sql: tables that are there and tables to come, to look at only."""
    import psycopg

    calls_database.execute((GRAFANA.parent / "container/reader.sql").read_text())
    calls_database.execute("CREATE TABLE made_later (n int)")
    try:
        calls_database.execute("SET ROLE reader")
        assert calls_database.execute("SELECT count(*) FROM cdr").fetchone() == (300,)
        assert calls_database.execute("SELECT count(*) FROM made_later").fetchone() == (0,)
        for change in ("DELETE FROM cdr", "INSERT INTO made_later VALUES (1)", "CREATE TABLE mine (n int)"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                calls_database.execute(change)
    finally:
        calls_database.execute("RESET ROLE")
        calls_database.execute("DROP TABLE made_later")
        calls_database.execute("DROP OWNED BY reader")
        calls_database.execute("DROP ROLE reader")


def test_the_guides_reader_reads_every_panel(calls_database: Any) -> None:
    """`cdrsync db grant-reader --tables`, as README and guide say, is enough for the dashboard and its variable."""
    now = datetime.now(UTC)
    url = f"postgresql+psycopg://{calls_database.info.user}@/{calls_database.info.dbname}"
    url += f"?host={calls_database.info.host}&port={calls_database.info.port}"
    calls_database.execute("CREATE ROLE grafana LOGIN")
    try:
        assert main(["db", "grant-reader", "--tables", "grafana", "--database-url", url]) == 0
        calls_database.execute("SET ROLE grafana")
        assert calls_database.execute(CALLS["templating"]["list"][1]["query"]).fetchall() == [("default",)]
        for panel in CALLS["panels"]:
            for target in panel["targets"]:
                calls_database.execute(panel_query(target["rawSql"], now - timedelta(days=7), now))
    finally:
        calls_database.execute("RESET ROLE")
        calls_database.execute("DROP OWNED BY grafana")
        calls_database.execute("DROP ROLE grafana")


def test_variable_lists_the_accounts(calls_database: Any) -> None:
    query = CALLS["templating"]["list"][1]["query"]
    assert calls_database.execute(query).fetchall() == [("default",)]


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_dashboard_is_well_formed(file: Path) -> None:
    """Panels do not overlap, ids are unique, and every data source is the dashboard's own choice."""
    board = json.loads(file.read_text())
    assert board["uid"] == file.stem
    ids = [panel["id"] for panel in board["panels"]]
    assert sorted(set(ids)) == ids
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        sources = {panel["datasource"]["uid"], *(target["datasource"]["uid"] for target in panel["targets"])}
        assert sources == {"${datasource}"}


def test_provisioning_knows_the_kinds_of_source_that_the_dashboards_ask_for() -> None:
    found = yaml.safe_load((GRAFANA / "provisioning/datasources/cdrsync.yaml").read_text())
    kinds = {source["type"] for source in found["datasources"]}
    asked = {json.loads(file.read_text())["templating"]["list"][0]["query"] for file in DASHBOARDS}
    assert kinds == asked == {"prometheus", "grafana-postgresql-datasource"}
