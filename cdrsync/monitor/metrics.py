"""Every Prometheus metric, in one place. No number or name of a caller ever becomes a label.

prometheus-client is imported when `Metrics` is made: only the daemon does.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any, NamedTuple

from cdrsync import __version__
from cdrsync.monitor import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from cdrsync.model import PageSaved
    from cdrsync.monitor.activity import AccountState, Activity, Snapshot
    from cdrsync.monitor.status import Summary
    from cdrsync.source.exchange import RequestDone

REQUEST_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The daemon's counters, and gauges read from the activity at every scrape. `registry` is what /metrics prints."""

    def __init__(self, activity: Activity) -> None:
        import prometheus_client as prometheus

        # Without a second series for every counter, of use to nobody here. (The library's function has no types.)
        prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry: CollectorRegistry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=self.registry)
        self.database: Callable[[], Figures | None] = lambda: None
        """What the database holds; None where it can't tell. Whoever can read it sets this."""
        self.registry.register(_AtScrape(lambda: _of_activity(activity.snapshot())))
        self.registry.register(_AtScrape(lambda: _of_database(self.database())))

        def made(kind: Any, name: str, help_text: str, *labels: str, **options: Any) -> Any:
            return kind(f"cdrsync_{name}", help_text, labels, registry=self.registry, **options)

        build = {"version": __version__, "python": platform.python_version()}
        made(prometheus.Info, "build", "Version of the program.").info(build)
        counter = prometheus.Counter
        self._cdrs = made(counter, "cdrs_total", "Records saved, by what the commit did.", "account", "result")
        self._pages = made(counter, "pages_total", "Pages committed, by step of the algorithm.", "account", "origin")
        self._failures = made(counter, "failures_total", "Failures of a task, by class.", "account", "kind")
        self._requests = made(counter, "api_requests_total", "Documents sent to the API.", "account", "outcome")
        self._request_seconds = made(
            prometheus.Histogram,
            "api_request_seconds",
            "Time of one document, all accounts.",
            buckets=REQUEST_SECONDS,
        )
        self._bytes = made(counter, "api_bytes_total", "Decoded bytes received.", "account")
        self._doorbells = made(counter, "doorbells_total", "POSTs to /doorbell.", "outcome")

    def page_saved(self, account: str, saved: PageSaved) -> None:
        self._pages.labels(account, saved.origin.value).inc()
        for result in ("inserted", "updated", "unchanged", "rejected"):
            count = getattr(saved, result)
            if count:
                self._cdrs.labels(account, result).inc(count)

    def request_done(self, account: str, done: RequestDone) -> None:
        """Count one document sent to the API."""
        self._requests.labels(account, done.outcome).inc()
        self._request_seconds.observe(done.seconds)
        self._bytes.labels(account).inc(done.bytes)

    def failed(self, account: str, kind: str) -> None:
        self._failures.labels(account, kind).inc()

    def doorbell(self, outcome: str) -> None:
        """Count a ring of the doorbell: accepted, refused, limited."""
        self._doorbells.labels(outcome).inc()


class Figures(NamedTuple):
    """What the database has to say at a scrape."""

    accounts: Iterable[Summary]
    disk_free: int | None  # bytes, where the database is a file of this machine


class _AtScrape:
    """Metrics that `made` makes at each scrape; a fact that is not known has no sample."""

    def __init__(self, made: Callable[[], Iterable[Metric]]) -> None:
        self.collect = made

    def describe(self) -> Iterable[Metric]:
        """Nothing is collected at registration."""
        return ()


def _of_activity(snapshot: Snapshot) -> Iterable[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    yield CounterMetricFamily("cdrsync_log_lines_dropped", "Log lines that could not be written.", logs.dropped())
    refused = float(snapshot.reload_refused is not None)
    help_text = "1 where the last change of the configuration was refused."
    yield GaugeMetricFamily("cdrsync_reload_refused", help_text, refused)
    yield from _gauges(GAUGES, snapshot.accounts, snapshot.taken_at)


def _of_database(figures: Figures | None) -> Iterable[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    if figures is None:
        return
    yield from _gauges(HELD, figures.accounts)
    if figures.disk_free is not None:
        yield GaugeMetricFamily("cdrsync_disk_free_bytes", "Free bytes where SQLite's file is.", figures.disk_free)


def _gauges(table: Mapping[str, tuple[str, Any]], accounts: Iterable[Any], *now: datetime) -> Iterable[Metric]:
    """One gauge a fact, one sample an account."""
    from prometheus_client.core import GaugeMetricFamily

    for name, (help_text, value_of) in table.items():
        family = GaugeMetricFamily(f"cdrsync_{name}", help_text, labels=["account"])
        for account in accounts:
            if (value := value_of(account, *now)) is not None:
                family.add_metric([account.name], float(value))
        yield family


def _timestamp(instant: datetime | None) -> float | None:
    return None if instant is None else instant.timestamp()


HELD: dict[str, tuple[str, Callable[[Summary], float | None]]] = {
    "calls_held": ("Calls held, by the ledger.", lambda held: held.calls),
    "history_days_read": (
        "Days of the wanted history that are read to their end.",
        lambda held: None if held.history is None else held.history.read,
    ),
    "unread_days": (
        "Days of the wanted history that are not read to their end; none where its beginning is not known yet.",
        lambda held: (
            None if held.history is None or held.history.wanted is None else held.history.wanted - held.history.read
        ),
    ),
    "audit_unsure": (
        "Periods of which the last audit can't say whether calls are missing.",
        lambda held: len(held.unsure),
    ),
    "gaps": ("Days on which the last audit found a gap.", lambda held: len(held.gaps)),
    "last_audit_timestamp_seconds": ("End of the last audit.", lambda held: _timestamp(held.audited_at)),
    "rejects_open": ("Records in quarantine.", lambda held: held.rejects_open),
}


GAUGES: dict[str, tuple[str, Callable[[AccountState, datetime], float | None]]] = {
    "last_success_timestamp_seconds": (
        "End of the last poll that read the tail to its end.",
        lambda state, _: _timestamp(state.last_success),
    ),
    "lag_seconds": ("By how much the table may be behind the operator.", lambda state, now: state.lag(now)),
    "high_water_uid": ("The uid after which the next poll asks.", lambda state, _: state.high_water_uid),
    "newest_call_timestamp_seconds": (
        "Start of the youngest call held.",
        lambda state, _: _timestamp(state.newest_call),
    ),
    "lease_held": ("1 where this instance may write for the account.", lambda state, _: state.lease_held),
    "login_refused": (
        "1 where the operator refused the login.",
        lambda state, _: state.last_error_kind == "LoginRefused",
    ),
    "parked": ("1 where the account waits for a person.", lambda state, _: state.phase == "parked"),
}
