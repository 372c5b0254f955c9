"""The controller's metrics of a run: configured and measured links, trust, consensus, quality.

`MetricsSink` is a Display (see gannet.experiment.sinks): it turns a run's events into metrics and serves them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

from torch import Tensor

from gannet.ledger.records import Summary
from gannet.metrics.consensus import Consensus, Snapshot
from gannet.metrics.registry import MetricsRegistry
from gannet.netem.measure.certificate import Certificate
from gannet.node.tasks import build_sampler
from gannet.node.training.meter import StepStats
from gannet.scores.live_score import Proxy, QualityWatch
from gannet.spec.run_spec import RunSpec

log = logging.getLogger(__name__)

SETTING_UP, TRAINING = 0, 1
ENDED = {"finished": 2, "stopped": 3, "failed": 4}
_CHANGES_KEPT = 200
_REASONS_KEPT = 30
_CLASS_METRICS = {
    "bytes": "gannet_link_bytes",
    "packets": "gannet_link_packets",
    "dropped": "gannet_link_lost_packets",
    "backlog_bytes": "gannet_link_backlog_bytes",
}
_QUANTILES = {"late_p50_ms": "0.5", "late_p99_ms": "0.99", "late_max_ms": "1"}


class MetricsSink:
    """A Display that Prometheus scrapes. `quality`: score some snapshots, in idle processor time only."""

    def __init__(self, quality: bool = False) -> None:
        self.registry = MetricsRegistry()
        self._quality = QualityWatch() if quality else None
        self._run = self.registry.begin("", "")  # until a run begins

    def serve(self, host: str, port: int) -> int:
        """Serve /metrics on host:port (0: any free port); returns the port."""
        self._server, port = self.registry.serve(host, port)
        return port

    def close(self) -> None:
        if self._quality is not None:
            self._quality.close()

    # Display.

    def begin(self, spec: RunSpec, number: int, of: int) -> None:
        """Begin a run. Its label is set later by `named`, or made here."""
        label = f"{spec.name}/{spec.arm}/seed-{spec.seed}/{time.strftime('%m%d-%H%M%S')}"
        run = self._run = self.registry.begin(label, spec.arm)
        run.set(
            "gannet_run_info",
            1,
            spec.title,
            spec.say(lambda run: run.algorithm.title),
            spec.say(lambda run: run.topology),
            spec.say(lambda run: run.codec),
            spec.links.describe(),
            spec.seed,
        )
        run.set("gannet_run_nodes", spec.nodes)
        run.set("gannet_run_state", SETTING_UP)
        run.set("gannet_run_trusted", 1)
        run.set("gannet_reasons", 0)
        for by in ("schedule", "operator"):
            run.set("gannet_link_changes", 0, by)
        sampler = build_sampler(spec.task, spec.data)
        players = {**sampler.players, "all": slice(0, sampler.size)}
        self._consensus = Consensus(spec.nodes, players, spec.algorithm.traits.worker_player)
        self._edges: set[tuple[str, str]] = set()
        self._caps: dict[str, tuple[float | None, float | None]] = {}  # up, down by node
        self._paths: dict[str, dict[str, dict[str, float]]] = {}  # by node, then by source
        self._changed_s: list[tuple[str, str, str]] = []
        if self._quality is not None:
            self._quality.begin(spec)

    def named(self, run: str) -> None:
        """Set the run's name, the same as in the nodes' metrics."""
        self._run.run = run
        self.registry.show(self._run)

    def end(self, summary: Summary) -> None:
        self._run.set("gannet_run_state", ENDED[summary.status])
        self._speaks_against(summary.reasons)
        if not summary.trusted:
            self._run.set("gannet_run_trusted", 0)
        if summary.status == "failed":
            self._run.set("gannet_run_failed_info", 1, summary.reason)
        self.registry.end(self._run)

    # Sink.

    def phase(self, text: str) -> None:
        """Set the state: setting up, or, with "", training."""
        self.registry.show(self._run)
        self._run.set("gannet_run_state", SETTING_UP if text else TRAINING)

    def step(self, rank: int, stats: StepStats) -> None:
        """Nodes export their own figures of a step; here only the time of the report and missing peers are used."""
        self._run.set("gannet_last_step_timestamp_seconds", time.time(), rank)
        for snapshot in self._consensus.miss(stats.missing):
            self._show_consensus(snapshot)

    def checkpoint(self, rank: int, step: int, data: bytes) -> None:
        """Ignored: a checkpoint is not a measurement."""

    def snapshot(self, rank: int, step: int, t_s: float, codec_bytes: int, x: Tensor) -> bool:
        """Update consensus distance and quality."""
        for snapshot in self._consensus.add(rank, step, t_s, x):
            self._show_consensus(snapshot)
        return False

    def links(self, line: dict[str, Any]) -> None:
        """Update metrics from a link event; a line lacks the values that its source does not know."""
        match line.get("event"):
            case None:
                self._counters(line)
            case "links":
                self._link_change(line)
            case "configured":
                self._configured(line)
            case "series" | "strangers" | "silent-link" | "node-returned" | "islands" | "left-early":
                # A series' steps are reported as "configured" events; strangers' packets were not training's; nodes
                # export for whom they wait, and whose messages are missing; who is back is expected by its snapshots.
                pass
            case "node-lost":
                self._run.set("gannet_run_trusted", 0)
                for snapshot in self._consensus.miss([line["node"]]):
                    self._show_consensus(snapshot)
            case "disk-full":
                self._run.set("gannet_run_trusted", 0)
            case "bad-window":
                self._run.add("gannet_bad_windows", 1, line["node"])
                self._run.add("gannet_bad_window_seconds", line["to_s"] - line["from_s"], line["node"])
            case "agent-lost":
                self._run.set("gannet_agent_lost", 1, line["node"])
            case "agent-restarted":
                self._run.set("gannet_agent_lost", 0, line["node"])
            case event:
                self._run.add("gannet_unknown_link_events", 1, event)
                log.warning("no metric shows the link event %r: %s", event, line)

    def refused(self, sender: int, receiver: int, verdict: str, detail: str) -> None:
        """Count rejected messages by link and reason."""
        self._run.add("gannet_reported_refusals", 1, sender, receiver, verdict)

    def certificate(self, certificate: Certificate) -> None:
        """Set the links as measured, and the reasons not to trust them."""
        run = self._run
        run.set("gannet_certificate_trusted", certificate.trusted)
        self._speaks_against(certificate.reasons)
        known = {rank for ends in self._edges for rank in ends}
        for edge in certificate.edges:
            ends = str(edge.src), str(edge.dst)
            self._edges |= {ends, ends[::-1]}
            run.set("gannet_certified_link", edge.ok, *ends)
            if ends[0] not in self._paths.get(ends[1], {}):
                self._show_rate(ends, edge.expected_rate_bps)
                self._show_path(ends, edge.expected_delay_ms, edge.expected_jitter_ms, edge.expected_loss_percent)
            for name, value in (
                ("gannet_measured_rate_bits_per_second", edge.measured_rate_bps),
                ("gannet_measured_delay_seconds", edge.delay_p50_ms and edge.delay_p50_ms / 1000),
                ("gannet_measured_loss_ratio", edge.loss_percent and edge.loss_percent / 100),
            ):
                if value is not None:
                    run.set(name, value, *ends)
        for node in {rank for ends in self._edges for rank in ends} - known:  # called again for each new reason
            run.set("gannet_agent_lost", 0, node)
            for name in ("gannet_bad_windows", "gannet_bad_window_seconds"):
                run.add(name, 0, node)
        self._show_links()

    # Helpers.

    def _speaks_against(self, reasons: Sequence[str]) -> None:
        self._run.set("gannet_reasons", len(reasons))
        for reason in reasons[:_REASONS_KEPT]:
            self._run.set("gannet_reason_info", 1, reason)
        if reasons:
            self._run.set("gannet_run_trusted", 0)

    def _counters(self, line: dict[str, Any]) -> None:
        run, node = self._run, line["node"]
        for field, name, factor in (
            ("tx_bytes", "gannet_interface_sent_bytes", 1.0),
            ("rx_bytes", "gannet_interface_received_bytes", 1.0),
            ("dropped", "gannet_dropped_packets", 1.0),
            ("released", "gannet_delayed_packets", 1.0),
            ("backlog_bytes", "gannet_backlog_bytes", 1.0),
        ):
            if (value := line.get(field)) is not None:
                run.set(name, factor * value, node)
        for source, counted in line.get("classes", {}).items():
            for field, name in _CLASS_METRICS.items():
                run.set(name, counted[field], source, node)
        for field, quantile in _QUANTILES.items():  # sch_netem reports no lateness: it runs in the kernel
            run.set("gannet_late_seconds", (line.get(field) or 0.0) / 1000, node, quantile)
        run.add("gannet_engine_run_queue_seconds", (line.get("run_queue_ms") or 0.0) / 1000, node)
        run.add("gannet_retransmitted_segments", line.get("retransmitted") or 0, node)
        if (rtts := line.get("rtt_ms")) is not None:
            run.drop("gannet_rtt_seconds", node)  # a peer that has not answered has no value
            for peer, rtt_ms in rtts.items():
                if rtt_ms is not None:
                    run.set("gannet_rtt_seconds", rtt_ms / 1000, node, peer)

    def _link_change(self, line: dict[str, Any]) -> None:
        by = line.get("by", "schedule")
        labels = by, line.get("operation", "apply"), str(line.get("detail", ""))
        self._run.add("gannet_link_changes", 1, by)
        self._run.set("gannet_link_change_timestamp_seconds", time.time(), *labels)
        if labels not in self._changed_s:
            self._changed_s.append(labels)
        while len(self._changed_s) > _CHANGES_KEPT:
            self._run.drop("gannet_link_change_timestamp_seconds", *self._changed_s.pop(0))

    def _configured(self, line: dict[str, Any]) -> None:
        node = str(line["node"])
        self._caps[node] = line.get("up_bps"), line.get("down_bps")
        self._paths[node] = {str(source): path for source, path in line.get("paths", {}).items()}
        self._show_links()

    def _show_links(self) -> None:
        """Set the configured values: rate limits of nodes, and paths of the links that messages use."""
        for node, caps in self._caps.items():
            for direction, cap in zip(("up", "down"), caps, strict=True):
                self._set_or_drop(f"gannet_configured_{direction}_bits_per_second", cap, node)
        for node, paths in self._paths.items():
            for source, path in paths.items():
                if self._edges and (source, node) not in self._edges:
                    continue
                rates = self._caps.get(source, (None, None))[0], self._caps[node][1]
                self._show_rate((source, node), min((rate for rate in rates if rate is not None), default=None))
                self._show_path(
                    (source, node), *(path.get(k, 0.0) for k in ("delay_ms", "jitter_ms", "loss_percent"))
                )

    def _show_rate(self, ends: tuple[str, str], rate_bps: float | None) -> None:
        self._set_or_drop("gannet_configured_rate_bits_per_second", rate_bps, *ends)

    def _show_path(self, ends: tuple[str, str], delay_ms: float, jitter_ms: float, loss_percent: float) -> None:
        self._run.set("gannet_configured_delay_seconds", delay_ms / 1000, *ends)
        self._run.set("gannet_configured_jitter_seconds", jitter_ms / 1000, *ends)
        self._run.set("gannet_configured_loss_ratio", loss_percent / 100, *ends)

    def _set_or_drop(self, name: str, value: float | None, *labels: str) -> None:
        if value is None:
            self._run.drop(name, *labels)
        else:
            self._run.set(name, value, *labels)

    def _show_consensus(self, snapshot: Snapshot) -> None:
        run = self._run
        for player, (distance, spread) in snapshot.players.items():
            run.set("gannet_consensus_distance", distance, player)
            run.set("gannet_consensus_spread_ratio", spread, player)
        for rank, drift in snapshot.drifts.items():
            run.set("gannet_node_drift", drift, rank)
        if self._quality is None or not bool(snapshot.mean.isfinite().all()):
            return

        def tell(proxy: Proxy) -> None:
            run.set("gannet_quality_score", proxy.value, proxy.name)
            run.set("gannet_quality_by_training_time", proxy.value, proxy.name, round(snapshot.t_s))
            if proxy.classes_found is not None:
                run.set("gannet_quality_classes_ratio", proxy.classes_found)

        self._quality.offer(snapshot.mean, tell)
