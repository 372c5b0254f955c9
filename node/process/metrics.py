"""All Prometheus metrics of a node, declared once: names, units, labels.

Every metric carries the labels run, arm and node (the rank), so that several runs can share one
Prometheus. Counters end in _total, units are base units (seconds, bytes). The training loop pushes
its figures; counters of the exchange and the kernel are read when Prometheus scrapes.
"""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    make_wsgi_app,
    start_http_server,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.registry import Collector

from gannet.node.exchange.counters import PeerCounts
from gannet.node.exchange.mailbox import Verdict
from gannet.node.process.usage import Scheduling, resident_bytes, throttled_seconds
from gannet.node.training.meter import LAYERS, StepStats

_LABELS = ("run", "arm", "node")
_REASONS = tuple(verdict.name.lower() for verdict in Verdict if verdict is not Verdict.ACCEPTED)


class NodeMetrics:
    """The metrics of one node, in a separate registry."""

    def __init__(self, run: str, arm: str, rank: int) -> None:
        self.registry = CollectorRegistry()
        self._labels = {"run": run, "arm": arm, "node": str(rank)}
        r = self.registry
        self._steps = Counter("gannet_steps", "Gradient steps made.", _LABELS, registry=r)
        self._loss = Gauge("gannet_loss", "Loss of the last step.", (*_LABELS, "player"), registry=r)
        self._clock = Gauge("gannet_training_clock_seconds", "Training clock.", _LABELS, registry=r)
        self._step_seconds = Histogram(
            "gannet_step_seconds",
            "Wall time of a step.",
            _LABELS,
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=r,
        )
        self._spent = Counter("gannet_spent_seconds", "Where a step's time goes.", (*_LABELS, "activity"), registry=r)
        self._sent = Counter(
            "gannet_sent_bytes", "Bytes sent, as each layer counts them.", (*_LABELS, "layer"), registry=r
        )
        self._refused = Counter(
            "gannet_refused_messages", "Message segments refused, by reason.", (*_LABELS, "reason"), registry=r
        )
        self._missing = Counter(
            "gannet_missing_messages", "Messages absent from a mix.", (*_LABELS, "peer"), registry=r
        )
        self._lost = Gauge("gannet_peers_lost", "Peers known to be gone.", _LABELS, registry=r)
        self._diverged = Gauge(
            "gannet_diverged", "1 once a loss or a gradient is not finite, else 0.", _LABELS, registry=r
        )
        self._last_t_s = 0.0
        # Export rare events as 0 from the start: a rate needs a first value, a panel something to show.
        for metric in (self._steps, self._lost, self._diverged):
            metric.labels(**self._labels)
        for reason in _REASONS:
            self._refused.labels(**self._labels, reason=reason)
        r.register(_Process(self._labels))

    def begin(self, incoming: set[int], outgoing: set[int], read: Callable[[], Mapping[int, PeerCounts]]) -> None:
        """Training begins: messages come from `incoming` and go to `outgoing`; `read` gives the counts by peer."""
        for peer in sorted(incoming):
            self._missing.labels(**self._labels, peer=str(peer))
        self.registry.register(_Exchange(self._labels, incoming, outgoing, read))

    def step(self, stats: StepStats) -> None:
        """Count one step."""
        labels = self._labels
        self._steps.labels(**labels).inc()
        self._clock.labels(**labels).set(stats.t_s)
        self._step_seconds.labels(**labels).observe(max(0.0, stats.t_s - self._last_t_s))
        self._last_t_s = stats.t_s
        for player, loss in stats.loss.items():
            self._loss.labels(**labels, player=player).set(loss)
            if not math.isfinite(loss):
                self.diverged()
        spent = {"compute": stats.compute_s, "wait": stats.wait_s, "other": stats.other_s}
        for activity, seconds in spent.items():
            self._spent.labels(**labels, activity=activity).inc(seconds)
        for layer in LAYERS:
            self._sent.labels(**labels, layer=layer).inc(max(0, getattr(stats, f"{layer}_bytes")))
        for peer in stats.missing:
            self._missing.labels(**labels, peer=str(peer)).inc()

    def refused(self, reason: str) -> None:
        """Count a refused segment."""
        self._refused.labels(**self._labels, reason=reason).inc()

    def lost(self, count: int) -> None:
        """Set the number of peers known to be gone."""
        self._lost.labels(**self._labels).set(count)

    def diverged(self) -> None:
        """Record that this node's numbers are no longer finite."""
        self._diverged.labels(**self._labels).set(1)

    def serve(self, host: str, port: int, listener: socket.socket | None = None) -> tuple[WSGIServer, int]:
        """Serve /metrics on host:port (0: any free port); returns the server and its port.

        `listener`: a socket that listens there already.
        """
        # Otherwise every counter exports a second, unused series.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        if listener is None:
            server, _thread = start_http_server(port, host, self.registry)
            return server, server.server_port
        server = ThreadingWSGIServer((host, port), _SilentRequest, bind_and_activate=False)
        server.socket.close()
        server.socket, server.server_name, server.server_port = listener, host, port
        server.setup_environ()
        server.set_app(make_wsgi_app(self.registry))
        threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
        return server, port


class _SilentRequest(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Scrapes are not worth a line each."""


class _Process(Collector):
    """The kernel's counters of this process."""

    def __init__(self, labels: Mapping[str, str]) -> None:
        self._values = tuple(labels.values())
        self._scheduling = Scheduling()

    def collect(self) -> Iterator[Metric]:
        ran_s, waited_s = self._scheduling.read()
        for name, what, count in (
            ("gannet_cpu_seconds", "Processor time of all threads.", ran_s),
            ("gannet_run_queue_seconds", "Time that threads were ready to run but had no processor.", waited_s),
            ("gannet_throttled_seconds", "Time that a CPU limit held the container still.", throttled_seconds()),
        ):
            counter = CounterMetricFamily(name, what, labels=_LABELS)
            counter.add_metric(self._values, count)
            yield counter
        memory = GaugeMetricFamily(
            "gannet_resident_memory_bytes", "Memory in RAM, pages shared with others included.", labels=_LABELS
        )
        memory.add_metric(self._values, resident_bytes())
        yield memory


class _Exchange(Collector):
    """The exchange's counters, peer by peer."""

    def __init__(
        self,
        labels: Mapping[str, str],
        incoming: set[int],
        outgoing: set[int],
        read: Callable[[], Mapping[int, PeerCounts]],
    ) -> None:
        self._values, self._incoming, self._outgoing, self._read = tuple(labels.values()), incoming, outgoing, read

    def collect(self) -> Iterator[Metric]:
        labels = (*_LABELS, "peer")
        sent = CounterMetricFamily("gannet_peer_sent_bytes", "Exchange messages sent to a peer.", labels=labels)
        busy = CounterMetricFamily(
            "gannet_peer_busy_seconds", "Time with a segment in flight to a peer, until its receipt.", labels=labels
        )
        received = CounterMetricFamily(
            "gannet_peer_received_bytes", "Message payloads taken from a peer.", labels=labels
        )
        waited = CounterMetricFamily(
            "gannet_peer_wait_seconds", "Time that training was blocked on a peer's messages.", labels=labels
        )
        stale = GaugeMetricFamily(
            "gannet_staleness_rounds",
            "Rounds since a peer's message was last in a mix; 0: none missing.",
            labels=labels,
        )
        for peer, counts in self._read().items():
            values = (*self._values, str(peer))
            if peer in self._outgoing:
                sent.add_metric(values, counts.sent_bytes)
                busy.add_metric(values, counts.busy_s)
            if peer in self._incoming:
                received.add_metric(values, counts.received_bytes)
                waited.add_metric(values, counts.wait_s)
                stale.add_metric(values, counts.stale_rounds)
        yield from (sent, busy, received, waited, stale)
