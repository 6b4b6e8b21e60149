"""Every Prometheus metric, in one place. No number or name of a caller ever becomes a label.

prometheus-client is imported when `Metrics` is made: only the daemon does.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from cdrsync import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from cdrsync.model import PageSaved
    from cdrsync.monitor.activity import Activity, Snapshot

REQUEST_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The daemon's counters, and gauges read from the activity at every scrape. `registry` is what /metrics prints."""

    def __init__(self, activity: Activity) -> None:
        import prometheus_client as prometheus

        # Without a second series for every counter, of use to nobody here. (The library's function has no types.)
        prometheus.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry: CollectorRegistry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=self.registry)
        self.registry.register(_ActivityCollector(activity))
        registry = self.registry
        prometheus.Info("cdrsync_build", "Version of the program.", registry=registry).info(
            {"version": __version__, "python": platform.python_version()}
        )
        self._cdrs = prometheus.Counter(
            "cdrsync_cdrs_total", "Records saved, by what the commit did.", ["account", "result"], registry=registry
        )
        self._pages = prometheus.Counter(
            "cdrsync_pages_total",
            "Pages committed, by step of the algorithm.",
            ["account", "origin"],
            registry=registry,
        )
        self._failures = prometheus.Counter(
            "cdrsync_failures_total", "Failures of a task, by class.", ["account", "kind"], registry=registry
        )
        self._requests = prometheus.Counter(
            "cdrsync_api_requests_total", "Documents sent to the API.", ["account", "outcome"], registry=registry
        )
        self._request_seconds = prometheus.Histogram(
            "cdrsync_api_request_seconds",
            "Time of one document.",
            ["account"],
            buckets=REQUEST_SECONDS,
            registry=registry,
        )
        self._bytes = prometheus.Counter(
            "cdrsync_api_bytes_total", "Decoded bytes received.", ["account"], registry=registry
        )
        self._rejects = prometheus.Gauge(
            "cdrsync_rejects_open", "Records in quarantine.", ["account"], registry=registry
        )
        self._gaps = prometheus.Gauge(
            "cdrsync_gaps", "Days on which the last audit found a gap.", ["account"], registry=registry
        )
        self._audited = prometheus.Gauge(
            "cdrsync_last_audit_timestamp_seconds", "End of the last audit.", ["account"], registry=registry
        )
        self._doorbells = prometheus.Counter(
            "cdrsync_doorbells_total", "POSTs to /doorbell.", ["outcome"], registry=registry
        )

    def page_saved(self, account: str, saved: PageSaved) -> None:
        """Count one commit."""
        self._pages.labels(account, saved.origin.value).inc()
        for result in ("inserted", "updated", "unchanged", "rejected"):
            count = getattr(saved, result)
            if count:
                self._cdrs.labels(account, result).inc(count)

    def request_done(self, account: str, *, seconds: float, size: int, outcome: str) -> None:
        """Count one document sent to the API; `size` in bytes."""
        self._requests.labels(account, outcome).inc()
        self._request_seconds.labels(account).observe(seconds)
        self._bytes.labels(account).inc(size)

    def failed(self, account: str, kind: str) -> None:
        """Count a failure of a task."""
        self._failures.labels(account, kind).inc()

    def rejects_open(self, account: str, count: int) -> None:
        """Set the number of records in quarantine."""
        self._rejects.labels(account).set(count)

    def audited(self, account: str, *, gaps: int, at: float) -> None:
        """Set what the last audit found; `at` is a Unix time."""
        self._gaps.labels(account).set(gaps)
        self._audited.labels(account).set(at)

    def doorbell(self, outcome: str) -> None:
        """Count a ring of the doorbell: accepted, refused, limited."""
        self._doorbells.labels(outcome).inc()


class _ActivityCollector:
    """Gauges of the activity's snapshot, made at each scrape."""

    def __init__(self, activity: Activity) -> None:
        self._activity = activity

    def describe(self) -> Iterable[Metric]:
        """Nothing is collected at registration."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """One gauge a fact, one sample an account; a fact that is not known has no sample."""
        from prometheus_client.core import GaugeMetricFamily

        snapshot = self._activity.snapshot()
        for name, help_text, values in _gauges(snapshot):
            family = GaugeMetricFamily(name, help_text, labels=["account"])
            for account, value in values.items():
                if value is not None:
                    family.add_metric([account], value)
            yield family


def _gauges(snapshot: Snapshot) -> Iterable[tuple[str, str, dict[str, float | None]]]:
    states = {state.name: state for state in snapshot.accounts}
    yield (
        "cdrsync_last_success_timestamp_seconds",
        "End of the last poll that read the tail to its end.",
        {name: None if s.last_success is None else s.last_success.timestamp() for name, s in states.items()},
    )
    yield (
        "cdrsync_lag_seconds",
        "By how much the table may be behind the operator.",
        {name: s.lag(snapshot.taken_at) for name, s in states.items()},
    )
    yield (
        "cdrsync_high_water_uid",
        "The uid after which the next poll asks.",
        {name: s.high_water_uid for name, s in states.items()},
    )
    yield (
        "cdrsync_newest_call_timestamp_seconds",
        "Start of the youngest call saved since the daemon's start.",
        {name: None if s.newest_call is None else s.newest_call.timestamp() for name, s in states.items()},
    )
    yield (
        "cdrsync_lease_held",
        "1 where this instance may write for the account.",
        {name: float(s.lease_held) for name, s in states.items()},
    )
    yield (
        "cdrsync_login_refused",
        "1 where the operator refused the login.",
        {name: float(s.last_error_kind == "LoginRefused") for name, s in states.items()},
    )
    yield (
        "cdrsync_parked",
        "1 where the account waits for a person.",
        {name: float(s.phase.value == "parked") for name, s in states.items()},
    )
