"""Alert rules by the real promtool; a real Prometheus that scrapes a real daemon and runs every query we ship."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from tests.support import plain_http
from tests.support.canary import LOGIN
from tests.support.operator import World, running
from tests.support.ports import free_port
from tests.support.processes import daemon, environment, until
from tests.support.tools import program

if TYPE_CHECKING:
    from collections.abc import Iterator

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = DEPLOY / "prometheus/alerts.yml"
TESTS = ("alerts_test.yml", "alerts_slow_test.yml")
RULES = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]
BOARD = json.loads((DEPLOY / "grafana/dashboards/cdrsync-operation.json").read_text())

# Queries that have nothing to show of a daemon that is well and has not audited yet.
SILENT = {"Failures per hour", "Days with a gap"}


def promtool(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program("promtool"), *args], cwd=DEPLOY / "prometheus", capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "args",
    [("check", "rules", "alerts.yml"), ("check", "config", "prometheus.yml"), ("test", "rules", *TESTS)],
    ids=" ".join,
)
def test_promtool_is_content(args: tuple[str, ...]) -> None:
    done = promtool(*args)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_to_fire() -> None:
    """In the tests for promtool, with its texts as a person would read them."""
    tests = [yaml.safe_load((DEPLOY / "prometheus" / name).read_text())["tests"] for name in TESTS]
    cases = [case for test in itertools.chain(*tests) for case in test.get("alert_rule_test", ())]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == {rule["alert"] for rule in RULES}
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == {rule["alert"] for rule in RULES}


def test_every_alert_is_explained() -> None:
    """Each says what it means and what to do, under a heading of its own in deploy/README.md."""
    headings = re.findall(r"(?m)^#+ (Cdrsync\w+)", (DEPLOY / "README.md").read_text())
    anchors = {f"deploy/README.md#{heading.lower()}" for heading in headings}
    assert {rule["annotations"]["runbook"] for rule in RULES} <= anchors
    assert {rule["labels"]["severity"] for rule in RULES} == {"warning", "critical"}


class Prometheus:
    """A Prometheus of the test's own."""

    def __init__(self, url: str) -> None:
        self._client = plain_http.client(base_url=url)

    def ready(self) -> bool:
        try:
            return self._client.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an expression now."""
        answer = self._client.get("/api/v1/query", params={"query": expression})
        assert answer.status_code == 200, answer.text
        found: list[dict[str, Any]] = answer.json()["data"]["result"]
        return found

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus with our rules that has scraped a real daemon several times."""
    folder = tmp_path_factory.mktemp("prometheus")
    binary, port = program("prometheus"), free_port()
    world = World(logins=[LOGIN])
    world.add_history(calls=300, days=2)
    with running(world) as api:
        env = environment(
            api, f"sqlite:///{folder}/calls.db", http_listen="127.0.0.1:0", poll_interval="1s", log_format="json"
        )
        with daemon(env) as process:
            page = httpx.URL(process.event("started")["page"])
            config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
            config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
            config["rule_files"] = [str(ALERTS)]
            config["scrape_configs"][0]["static_configs"][0]["targets"] = [f"{page.host}:{page.port}"]
            (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
            with (folder / "log").open("w") as log:
                server = subprocess.Popen(
                    [
                        binary,
                        f"--config.file={folder}/prometheus.yml",
                        f"--storage.tsdb.path={folder}/data",
                        f"--web.listen-address=127.0.0.1:{port}",
                    ],
                    stdout=log,
                    stderr=log,
                )
            found = Prometheus(f"http://127.0.0.1:{port}")
            try:
                until(found.ready, f"Prometheus: {(folder / 'log').read_text()[-2000:]}")
                until(
                    lambda: found.query('rate(cdrsync_api_requests_total{outcome="ok"}[1m]) > 0'), "a rate of requests"
                )
                until(lambda: found.query("cdrsync_last_success_timestamp_seconds"), "a success")
                # The audit is daily: what it says is in the store's tests; here it is the metric's own road.
                yield found
            finally:
                found.close()
                server.terminate()
                server.wait(30)


def expanded(expression: str) -> str:
    """The query as Grafana sends it."""
    return expression.replace("$account", ".+").replace("$__rate_interval", "1m")


@pytest.mark.parametrize("panel", BOARD["panels"], ids=lambda panel: panel["title"])
def test_every_query_over_the_metrics_works(panel: dict[str, Any], prometheus: Prometheus) -> None:
    """It is understood, and it has something to show."""
    for target in panel["targets"]:
        expression = expanded(target["expr"])
        if panel["title"] not in SILENT:
            until(partial(prometheus.query, expression), expression)
        samples = prometheus.query(expression)
        if "{{account}}" in target["legendFormat"]:
            assert {sample["metric"]["account"] for sample in samples} <= {"default"}


def test_names_in_rules_and_dashboards_are_exported(prometheus: Prometheus) -> None:
    """No rule watches a metric that nobody writes."""
    text = ALERTS.read_text() + json.dumps(BOARD)
    named = set(re.findall(r"\bcdrsync_[a-z_]+[a-z]\b", text)) - set(re.findall(r"cdrsync_\w+_bucket", text))
    only_after = {"cdrsync_failures_total", "cdrsync_last_audit_timestamp_seconds"}

    def missing() -> set[str]:
        exported = {sample["metric"]["__name__"] for sample in prometheus.query('{__name__=~"cdrsync_.+"}')}
        return named - only_after - exported

    until(lambda: not missing(), lambda: f"these to be exported: {missing()}")


def test_nothing_alarms_when_all_is_well(prometheus: Prometheus) -> None:
    states = {sample["metric"]["alertname"] for sample in prometheus.query('ALERTS{alertstate="firing"}')}
    assert states == set()


def test_no_label_holds_a_number_or_a_name_of_a_caller(prometheus: Prometheus) -> None:
    """Accounts, steps, outcomes: nothing of the calls themselves."""
    labels: set[str] = set()
    for sample in prometheus.query('{__name__=~"cdrsync_.+"}'):
        labels |= set(sample["metric"])
    ours = labels - {"__name__", "instance", "job", "le"}
    assert ours <= {"account", "result", "origin", "outcome", "kind", "version", "python"}
