"""The figures of a dispatcher for Prometheus, through its own client library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from datahub_eventlog.dispatcher.observer import Observer
from datahub_eventlog.errors import ConfigurationError, LedgerUnavailable
from datahub_eventlog.ledger import Ledger, Outcome, Status

BUCKETS_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Of a request; 30 is the client's default timeout."""


@contextmanager
def serve_metrics(port: int, ledger: Ledger) -> Iterator[Observer]:
    """An observer whose figures are served at `/metrics` of that port until the end.

    Raises `ConfigurationError` if the port is taken.
    """
    registry = CollectorRegistry()
    registry.register(LedgerCollector(ledger.reports.status))
    observer = PrometheusObserver(registry)
    try:
        server, thread = start_http_server(port, registry=registry)
    except OSError as error:
        raise ConfigurationError(f"--metrics-port {port} can't be used: {error}") from error
    try:
        yield observer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class PrometheusObserver(Observer):
    """Counts what this process does, from its start on."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._runs = Counter(
            "datahub_eventlog_runs_settled",
            "Runs that this process was done with, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self._attempts = Counter(
            "datahub_eventlog_attempts", "Deliveries of runs that were begun.", registry=registry
        )
        self._sent = Counter(
            "datahub_eventlog_proposals_delivered",
            "Proposals that DataHub took.",
            registry=registry,
        )
        self._rejected = Counter(
            "datahub_eventlog_proposals_rejected",
            "Proposals that DataHub refused, and facts that could not be translated.",
            registry=registry,
        )
        self._requests = Histogram(
            "datahub_eventlog_request_seconds",
            "Requests to DataHub, whatever came of them.",
            buckets=BUCKETS_SECONDS,
            registry=registry,
        )
        self._verified = Counter(
            "datahub_eventlog_verified",
            "Aspects that were compared with what DataHub holds.",
            registry=registry,
        )
        self._differing = Counter(
            "datahub_eventlog_differing",
            "Of these, those that DataHub lacked or had otherwise, and that were sent again.",
            registry=registry,
        )
        for outcome in ("delivered", "filtered", "gone", "parked"):
            self._runs.labels(outcome)

    def attempted(self) -> None:
        """Count it."""
        self._attempts.inc()

    def sent(self, proposals: int, rejected: int) -> None:
        """Count them."""
        self._sent.inc(proposals)
        self._rejected.inc(rejected)

    def settled(self, outcome: Outcome) -> None:
        """Count it by its outcome."""
        self._runs.labels(outcome).inc()

    def parked(self) -> None:
        """Count it as an outcome, too."""
        self._runs.labels("parked").inc()

    def verified(self, aspects: int, differing: int) -> None:
        """Count them."""
        self._verified.inc(aspects)
        self._differing.inc(differing)

    def requested(self, seconds: float) -> None:
        """Note how long it took."""
        self._requests.observe(seconds)


class LedgerCollector(Collector):
    """Reads the ledger's status for each scrape; all dispatchers of a ledger show the same."""

    def __init__(self, status: Callable[[], Status]) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """The gauges; only `ledger_up` if the ledger can't be reached."""
        reachable = GaugeMetricFamily(
            "datahub_eventlog_ledger_up", "Whether the ledger's database can be reached."
        )
        try:
            status = self._status()
        except LedgerUnavailable:
            reachable.add_metric([], 0)
            yield reachable
            return
        reachable.add_metric([], 1)
        yield reachable
        yield from _gauges(status)


def _gauges(status: Status) -> Iterator[Metric]:
    runs = GaugeMetricFamily("datahub_eventlog_runs", "Runs by their state.", labels=["state"])
    for state, count in status.runs.items():
        runs.add_metric([state], count)
    yield runs
    plain: dict[str, tuple[str, float | None]] = {
        "lag_seconds": ("For how long the oldest run has been due.", status.oldest_pending_seconds),
        "rejected": ("Rejected proposals that `retry` would send again.", len(status.rejected)),
        "dispatchers": ("Dispatchers that are alive.", len(status.dispatchers)),
    }
    for name, (what, number) in plain.items():
        yield GaugeMetricFamily(f"datahub_eventlog_{name}", what, value=number or 0)
