"""Superset's dashboard: what its files name is there, and every chart's query is right on every database."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from sqlalchemy import make_url, text

from cdrsync.store.admin import dictionary
from cdrsync.store.databases.engine import open_engine
from tests.conftest import KINDS
from tests.support.deployed import CALLS, filled
from tests.support.eyes import seen

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import Engine

    from tests.support.servers import Servers

SUPERSET = Path(__file__).parents[2] / "deploy/superset"
FILES: dict[Path, dict[str, Any]] = {
    path.relative_to(SUPERSET): yaml.safe_load(path.read_text(encoding="utf-8")) for path in SUPERSET.rglob("*.yaml")
}
DATABASE = FILES[Path("databases/cdrsync.yaml")]
DATASETS = {found["uuid"]: found for path, found in FILES.items() if path.parts[0] == "datasets"}
CHARTS = {path.stem: found for path, found in FILES.items() if path.parts[0] == "charts"}
BOARD = FILES[Path("dashboards/cdrsync_calls.yaml")]
VIEWS = {view.name: view for view in dictionary.views()}
TYPES = {"timestamptz": "timestamp with time zone", "timestamp": "timestamp without time zone"}
DIMENSIONS = ("x_axis", "groupby")
METRICS = ("metric", "metrics", "x_axis_sort", "timeseries_limit_metric")
PROVEN = ("complete", "healed")


def several(params: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    """What a chart says under these names, in lists or alone."""
    found: list[str] = []
    for name in names:
        value = params.get(name, [])
        found += [value] if isinstance(value, str) else value
    return list(dict.fromkeys(found))


def source(dataset: dict[str, Any]) -> str:
    return f"({dataset['sql']})" if dataset["sql"] else dataset["table_name"]


def expressions(dataset: dict[str, Any]) -> dict[str, str]:
    """Every column and metric, as SQL says it."""
    columns = {column["column_name"]: column.get("expression", column["column_name"]) for column in dataset["columns"]}
    return columns | {metric["metric_name"]: metric["expression"] for metric in dataset["metrics"]}


def condition(found: dict[str, Any], known: dict[str, str]) -> str:
    if found["expressionType"] == "SQL":
        return str(found["sqlExpression"])
    subject = known[found["subject"]]
    if found["operator"] == "TEMPORAL_RANGE":  # of all days here
        return f"{subject} IS NOT NULL"
    return f"{subject} IS NULL" if found["operator"] == "IS NULL" else f"{subject} <> '{found['comparator']}'"


def query(chart: dict[str, Any]) -> str:
    """A chart's query, over all days."""
    params, dataset = chart["params"], DATASETS[chart["dataset_uuid"]]
    known = expressions(dataset)
    dimensions = several(params, DIMENSIONS)
    shown = [f"{known[name]} AS {name}" for name in dict.fromkeys((*dimensions, *several(params, METRICS)))]
    conditions = [condition(found, known) for found in params["adhoc_filters"]] or ["1 = 1"]
    said = f"SELECT {', '.join(shown)} FROM {source(dataset)} AS virtual_table WHERE {' AND '.join(conditions)}"
    return said + (f" GROUP BY {', '.join(known[name] for name in dimensions)}" if dimensions else "")


@pytest.fixture(scope="module", params=KINDS)
def charted(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Engine]:
    """A database with calls of two days, and the ledger of the days that `sync` read and `audit` proved."""
    server = servers.get(request.param)
    url = server.create()
    filled(url)
    made = open_engine(url)
    yield made
    made.dispose()
    server.drop(url)


@pytest.fixture
def engine(charted: Engine) -> Engine:
    return charted


class Truth:
    """What the charts are to show, from the rows."""

    def __init__(self, engine: Engine) -> None:
        self.calls = seen(engine, "SELECT * FROM calls")
        self.ledger = seen(engine, "SELECT call_date, verdict FROM coverage")
        self.today = str(datetime.now(UTC).date())

    def missed(self) -> list[dict[str, Any]]:
        return [call for call in self.calls if call["outcome"] == "missed"]


def rows(engine: Engine, name: str) -> list[tuple[Any, ...]]:
    """What a chart shows; whole numbers are numbers, whichever type a database gives a sum."""
    return [tuple(map(_number, row.values())) for row in seen(engine, query(CHARTS[name]))]


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isdecimal() and value == str(int(value)) else value


def pounds(calls: list[dict[str, Any]]) -> Decimal:
    return Decimal(sum(call["cost_micros"] for call in calls)) / 10**6


def weekday(day: str) -> str:
    return f"{(found := date.fromisoformat(day)):%u} {found:%a}"


def test_figures_are_those_of_the_calls(engine: Engine) -> None:
    """The row of figures on top."""
    truth = Truth(engine)
    assert rows(engine, "calls") == [(CALLS,)]
    assert round(Decimal(rows(engine, "cost")[0][0]), 6) == pounds(truth.calls)
    share = Decimal(rows(engine, "missed_share")[0][0])
    assert abs(share - Decimal(len(truth.missed())) / CALLS) < Decimal("0.0001")
    unproven = [day for day in truth.ledger if day["call_date"] < truth.today and day["verdict"] not in PROVEN]
    assert rows(engine, "unproven_days") == [(len(unproven),)]
    assert rows(engine, "last_audit") == [
        tuple(row.values()) for row in seen(engine, "SELECT MAX(audited_at) FROM coverage_daily")
    ]


def test_days_without_a_call_are_zero(engine: Engine) -> None:
    truth = Truth(engine)
    counts = Counter(call["call_date"] for call in truth.calls)
    assert dict(rows(engine, "calls_per_day")) == {day["call_date"]: counts[day["call_date"]] for day in truth.ledger}
    assert len(truth.ledger) > len(counts)


def test_silent_hours_lower_the_mean(engine: Engine) -> None:
    """All 168 hours of a week, each by all of its days that are over, whether somebody called or not."""
    truth = Truth(engine)
    over = [day["call_date"] for day in truth.ledger if day["call_date"] < truth.today]
    days = Counter(map(weekday, over))
    missed = Counter(
        (f"{call['call_hour']:02}:00", weekday(call["call_date"]))
        for call in truth.missed()
        if call["call_date"] < truth.today
    )
    shown = {(hour, day): Decimal(mean) for hour, day, mean in rows(engine, "missed_by_hour")}
    assert shown.keys() == {(f"{hour:02}:00", day) for hour in range(24) for day in days}
    assert len(days) == 7
    assert missed
    for (hour, day), mean in shown.items():
        assert abs(mean - Decimal(missed[hour, day]) / days[day]) < Decimal("0.0001")


def test_costs_are_those_of_the_departments(engine: Engine) -> None:
    groups = defaultdict(list)
    for call in Truth(engine).calls:
        groups[call["alias"] or call["called_number"]].append(call)
    shown = {str(department): round(Decimal(cost), 6) for department, cost in rows(engine, "cost_by_department")}
    assert shown == {department: pounds(calls) for department, calls in groups.items()}


def test_callers_to_call_back_were_not_answered(engine: Engine) -> None:
    """Each once, under the number to dial, and nobody who is withheld."""
    truth = Truth(engine)
    answered: defaultdict[str, str] = defaultdict(str)
    for call in truth.calls:
        if call["outcome"] == "answered":
            answered[call["caller"]] = max(answered[call["caller"]], call["started_at"])
    open_calls = [
        call
        for call in truth.missed()
        if call["caller_kind"] != "withheld" and call["started_at"] >= answered[call["caller"]]
    ]
    tries = Counter(call["caller_national"] or call["caller_number"] for call in open_calls)
    columns = seen(engine, query(CHARTS["to_call_back"]))
    assert {row["number_to_dial"]: int(row["tries"]) for row in columns} == tries
    assert tries


def test_the_proof_is_the_ledger(engine: Engine) -> None:
    truth = Truth(engine)
    shown = rows(engine, "proof")  # day, account, calls, days, proven, gaps, last audit
    assert sum(row[2] for row in shown) == CALLS
    assert sum(row[3] for row in shown) == len(truth.ledger)
    assert sum(row[4] for row in shown) == sum(day["verdict"] in PROVEN for day in truth.ledger)
    assert sum(row[5] for row in shown) == 0


@pytest.mark.parametrize("dataset", [d for d in DATASETS.values() if d["sql"]], ids=lambda found: found["table_name"])
def test_a_dataset_has_the_columns_of_its_sql(dataset: dict[str, Any], engine: Engine) -> None:
    with engine.connect() as connection:
        found = connection.execute(text(f"SELECT * FROM {source(dataset)} AS virtual_table WHERE 1 = 0")).keys()
    assert list(found) == [column["column_name"] for column in dataset["columns"]]


@pytest.mark.parametrize("dataset", [d for d in DATASETS.values() if not d["sql"]], ids=lambda d: d["table_name"])
def test_a_dataset_has_the_columns_of_its_view(dataset: dict[str, Any]) -> None:
    """In their order, with PostgreSQL's types; what is calculated stands behind them."""
    view = [(column.name, TYPES.get(column.type, column.type)) for column in VIEWS[dataset["table_name"]].columns]
    assert [(c["column_name"], c["type"].lower()) for c in dataset["columns"] if "expression" not in c] == view
    times = [column["column_name"] for column in dataset["columns"] if column.get("is_dttm")]
    assert times == [name for name, kind in view if kind.startswith(("date", "timestamp"))]
    assert dataset["main_dttm_col"] in times


@pytest.mark.parametrize("chart", CHARTS.values(), ids=CHARTS)
def test_a_chart_names_what_its_dataset_has(chart: dict[str, Any]) -> None:
    dataset, params = DATASETS[chart["dataset_uuid"]], chart["params"]
    assert chart["viz_type"] == params["viz_type"]
    metrics = {metric["metric_name"] for metric in dataset["metrics"]}
    columns = {column["column_name"] for column in dataset["columns"]}
    assert {*several(params, ("metric", "metrics"))} <= metrics
    assert {*several(params, METRICS)} <= metrics | {*several(params, DIMENSIONS)}
    assert {*several(params, DIMENSIONS)} <= columns
    assert {found["subject"] for found in params["adhoc_filters"] if found["expressionType"] == "SIMPLE"} <= columns


def test_the_dashboard_shows_every_chart() -> None:
    """Twelve columns wide at most; its filters know their columns and their charts."""
    places = {key: part for key, part in BOARD["position"].items() if isinstance(part, dict)}
    shown = [part["meta"] for part in places.values() if part["type"] == "CHART"]
    assert {place["uuid"]: place["sliceName"] for place in shown} == {
        chart["uuid"]: chart["slice_name"] for chart in CHARTS.values()
    }
    for part in places.values():
        assert all(part["id"] in places[above].get("children", ()) for above in part.get("parents", ())[-1:])
        if part["type"] == "ROW":
            assert sum(places[chart]["meta"]["width"] for chart in part["children"]) <= 12
    for found in BOARD["metadata"]["native_filter_configuration"]:
        assert {*found["scope"]["excluded"]} <= {place["chartId"] for place in shown}
        for target in filter(None, found["targets"]):
            columns = [column["column_name"] for column in DATASETS[target["datasetUuid"]]["columns"]]
            assert target["column"]["name"] in columns


def test_the_files_are_one_bundle() -> None:
    """`superset import-dashboards` takes them: one version, one database, ids of their own, and no password."""
    assert FILES[Path("metadata.yaml")] == {"version": "1.0.0", "type": "Dashboard"}
    assert {found["version"] for found in FILES.values()} == {"1.0.0"}
    ids = [found["uuid"] for found in FILES.values() if "uuid" in found]
    assert len(ids) == len(set(ids)) == len(FILES) - 1
    assert {dataset["database_uuid"] for dataset in DATASETS.values()} == {DATABASE["uuid"]}
    assert {dataset["table_name"] for dataset in DATASETS.values()} == {
        path.stem for path in FILES if path.parts[0] == "datasets"
    }
    assert make_url(DATABASE["sqlalchemy_uri"]).password is None
    assert [key for found in FILES.values() for key in found if "password" in key] == []
