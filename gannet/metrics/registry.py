"""The controller's Prometheus metrics, declared once (name, kind, help text, labels), and their registry.

Every metric has the labels run and arm. `node` is a rank; `src` and `dst` are the ranks at the ends of a directed
link. A run that has ended stays on the registry for a while, so that its last values are scraped too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_EDGE = ("src", "dst")
_KEPT_S = 30.0

GAUGES: dict[str, tuple[str, tuple[str, ...]]] = {
    # The run.
    "gannet_run_info": (
        "Settings of the run; always 1.",
        ("label", "algorithm", "topology", "codec", "links", "seed"),
    ),
    "gannet_run_nodes": ("Configured number of nodes.", ()),
    "gannet_run_state": ("0 setting up, 1 training, 2 finished, 3 stopped, 4 failed.", ()),
    "gannet_run_failed_info": ("Why the run failed; always 1.", ("reason",)),
    "gannet_run_trusted": ("1 while the run is trusted, else 0.", ()),
    "gannet_reasons": ("Number of reasons not to trust the run.", ()),
    "gannet_reason_info": ("A reason not to trust the run, in words; always 1.", ("reason",)),
    "gannet_last_step_timestamp_seconds": ("When the node last reported a step (Unix time).", ("node",)),
    # Learning.
    "gannet_consensus_distance": ("Mean of |x_i - mean|^2 over the nodes, by player.", ("player",)),
    "gannet_consensus_spread_ratio": ("Root of the consensus distance over |mean|, by player.", ("player",)),
    "gannet_node_drift": ("|x_i - mean| of a node's whole state.", ("node",)),
    "gannet_quality_score": ("Score of the nodes' averaged model on a small sample; lower is better.", ("score",)),
    "gannet_quality_by_training_time": ("gannet_quality_score by second of training.", ("score", "training_s")),
    "gannet_quality_classes_ratio": ("Share of the data's classes among the generated images.", ()),
    # Links as configured.
    "gannet_configured_up_bits_per_second": ("Uplink rate limit of a node; absent if unlimited.", ("node",)),
    "gannet_configured_down_bits_per_second": ("Downlink rate limit of a node; absent if unlimited.", ("node",)),
    "gannet_configured_rate_bits_per_second": ("Rate limit of a link: the smaller limit of its two ends.", _EDGE),
    "gannet_configured_delay_seconds": ("One-way delay of a link, as configured.", _EDGE),
    "gannet_configured_jitter_seconds": ("Jitter of a link, as configured.", _EDGE),
    "gannet_configured_loss_ratio": ("Share of packets that a link loses, as configured; 1: the link is cut.", _EDGE),
    "gannet_link_change_timestamp_seconds": ("When links were changed (Unix time).", ("by", "operation", "detail")),
    # Links as measured before training: the certificate.
    "gannet_certificate_trusted": ("1 while every link matches its profile, else 0.", ()),
    "gannet_certified_link": ("1 if a link matched its profile when measured, else 0.", _EDGE),
    "gannet_measured_rate_bits_per_second": ("Rate of a link as measured before training.", _EDGE),
    "gannet_measured_delay_seconds": ("One-way delay of a link as measured before training, median.", _EDGE),
    "gannet_measured_loss_ratio": ("Share of packets lost as measured before training.", _EDGE),
    # Links during training.
    "gannet_rtt_seconds": ("Round-trip time of a small echo between two nodes during training.", _EDGE),
    "gannet_backlog_bytes": ("Bytes waiting in front of a node's rate limits.", ("node",)),
    "gannet_link_backlog_bytes": ("Bytes in flight on a link: held for as long as its delay.", _EDGE),
    "gannet_late_seconds": ("How late the link engine released packets, by quantile.", ("node", "quantile")),
    "gannet_agent_lost": ("1 once a node's link agent is lost, else 0.", ("node",)),
}

COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "gannet_reported_refusals": ("Messages rejected, as reported to the controller.", (*_EDGE, "reason")),
    "gannet_link_changes": ("Changes of links, by their origin.", ("by",)),
    "gannet_unknown_link_events": ("Link events that this version does not know.", ("event",)),
    "gannet_interface_sent_bytes": ("Bytes of frames that a node's shaped interface sent.", ("node",)),
    "gannet_interface_received_bytes": ("Bytes of frames that came through a node's downlink.", ("node",)),
    "gannet_dropped_packets": ("Packets dropped in front of a node's rate limits.", ("node",)),
    "gannet_retransmitted_segments": ("TCP segments that a node retransmitted.", ("node",)),
    "gannet_delayed_packets": ("Packets that the link engine delayed and released.", ("node",)),
    "gannet_link_bytes": ("Bytes that arrived on a link, headers included.", _EDGE),
    "gannet_link_packets": ("Packets that arrived on a link.", _EDGE),
    "gannet_link_lost_packets": ("Packets that a link lost, as configured or because a queue was full.", _EDGE),
    "gannet_bad_windows": ("Intervals in which a node's links deviated from their profile.", ("node",)),
    "gannet_bad_window_seconds": ("Total length of a node's bad intervals.", ("node",)),
    "gannet_engine_run_queue_seconds": (
        "Time that the link engine was ready to run but had no processor.",
        ("node",),
    ),
}

LIVE = (
    "gannet_rtt_seconds",
    "gannet_backlog_bytes",
    "gannet_link_backlog_bytes",
    "gannet_late_seconds",
    "gannet_last_step_timestamp_seconds",
)
"""Gauges that have no meaning once a run has ended."""

Values = dict[tuple[str, ...], float]


@dataclass(eq=False)
class RunRegistry:
    """One run's values. All methods may be called from any thread."""

    run: str
    arm: str
    lock: threading.Lock

    def __post_init__(self) -> None:
        self.values: dict[str, Values] = {name: {} for name in (*GAUGES, *COUNTERS)}
        self.ended_s: float | None = None

    def set(self, name: str, value: float, *labels: object) -> None:
        """Set a gauge, or a counter that another component counts."""
        with self.lock:
            self.values[name][tuple(map(str, labels))] = value

    def add(self, name: str, value: float, *labels: object) -> None:
        with self.lock:
            values, key = self.values[name], tuple(map(str, labels))
            values[key] = values.get(key, 0.0) + value

    def drop(self, name: str, *first: object) -> None:
        """Remove the values whose first labels are these (all values if none is given)."""
        with self.lock:
            start = tuple(map(str, first))
            self.values[name] = {k: v for k, v in self.values[name].items() if k[: len(start)] != start}


class MetricsRegistry(Collector):
    """The runs of one controller, for Prometheus to scrape."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._runs: list[RunRegistry] = []
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def begin(self, run: str, arm: str) -> RunRegistry:
        """A new run's registry, which is not exposed yet."""
        return RunRegistry(run, arm, self._lock)

    def show(self, registry: RunRegistry) -> None:
        """Expose a run from now on; runs that ended a while ago are removed."""
        now_s = self._clock()
        with self._lock:
            if registry not in self._runs:
                self._runs = [b for b in self._runs if b.ended_s is None or now_s - b.ended_s < _KEPT_S]
                self._runs.append(registry)

    def end(self, registry: RunRegistry) -> None:
        """End a run: remove the values that only mean something during it."""
        for name in LIVE:
            registry.drop(name)
        registry.ended_s = self._clock()

    def serve(self, host: str, port: int) -> tuple[WSGIServer, int]:
        """Serve /metrics on host:port (0: any free port); returns the server and its port."""
        server, _thread = start_http_server(port, host, self.registry)
        return server, server.server_port

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            runs = [((b.run, b.arm), {name: dict(values) for name, values in b.values.items()}) for b in self._runs]
        for family, declared in ((GaugeMetricFamily, GAUGES), (CounterMetricFamily, COUNTERS)):
            for name, (what, labels) in declared.items():
                metric = family(name, what, labels=("run", "arm", *labels))
                for of, values in runs:
                    for key, value in values[name].items():
                        metric.add_metric((*of, *key), value)
                yield metric
