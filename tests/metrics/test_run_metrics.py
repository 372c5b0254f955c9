"""The controller's metrics: what the news of a run becomes, held against figures worked out another way."""

from __future__ import annotations

import math
import os
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from prometheus_client.parser import text_string_to_metric_families

from gannet.ledger.records import Summary
from gannet.metrics.registry import COUNTERS, GAUGES, MetricsRegistry
from gannet.metrics.run_metrics import MetricsSink
from gannet.netem.measure.certificate import Certificate, EdgeResult
from gannet.node.tasks import build_sampler
from gannet.node.training.meter import StepStats
from gannet.scores.live_score import SAMPLES, Proxy, QualityWatch
from gannet.scores.scorer import NOISE_SEED, Scorer
from gannet.spec.run_spec import RunSpec

Labels = tuple[tuple[str, str], ...]

SPEC = RunSpec.model_validate(
    {
        "name": "tried",
        "arm": "gossip",
        "label": "Gossip",
        "nodes": 3,
        "task": {"loss": "hinge", "width": 8},
        "algorithm": {"name": "dp-oadam"},
        "links": {"profile": {"rate": "10Mbit", "delay_ms": 25}},
        "stop": {"steps": 5},
    }
)
RUN = "tried/gossip/seed-1/now"
SUMMARY: dict[str, Any] = {"status": "finished", "reason": "", "reasons": [], "trusted": True}


def read(port: int) -> dict[tuple[str, Labels], float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=240) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


class Watched:
    """A sink in the middle of a run, and what it serves."""

    def __init__(self, sink: MetricsSink) -> None:
        self.sink = sink
        self.port = sink.serve("127.0.0.1", 0)
        sink.begin(SPEC, 1, 1)
        sink.named(RUN)
        sink.phase("")

    def of(self, name: str, run: str = RUN, **labels: str) -> float | None:
        wanted = tuple(sorted({"run": run, "arm": "gossip", **labels}.items()))
        return read(self.port).get((name, wanted))

    def series(self, name: str) -> dict[tuple[str, ...], float]:
        """Values by the labels beyond run and arm, in the order that is declared."""
        declared = GAUGES.get(name) or COUNTERS[name.removesuffix("_total")]
        return {
            tuple(dict(labels)[label] for label in declared[1]): value
            for (found, labels), value in read(self.port).items()
            if found == name
        }


@pytest.fixture
def watched() -> Watched:
    return Watched(MetricsSink())


def edge(src: int, dst: int, **fields: Any) -> EdgeResult:
    known: dict[str, Any] = {
        "expected_rate_bps": 1e7, "measured_rate_bps": 9.9e6, "expected_delay_ms": 25.0, "expected_jitter_ms": 2.0,
        "delay_p50_ms": 25.5, "delay_p95_ms": 27.0, "rtt_p50_ms": 51.0, "expected_loss_percent": 1.0,
        "loss_percent": 0.5,
    }  # fmt: skip
    return EdgeResult(src, dst, **{**known, **fields})


def configured(node: int, up: int | None, down: int | None, **paths: dict[str, float]) -> dict[str, Any]:
    line = {"t_s": 1.0, "event": "configured", "node": node, "up_bps": up, "down_bps": down}
    return {**line, "paths": {name.removeprefix("of"): path for name, path in paths.items()}}


def test_a_run_says_what_it_is_and_how_it_is(watched: Watched) -> None:
    about = {"label": "Gossip", "algorithm": "dp-oadam", "topology": "ring", "codec": "fp32", "seed": "1"}
    assert watched.of("gannet_run_info", **about, links=SPEC.links.describe()) == 1
    assert watched.of("gannet_run_nodes") == 3
    assert watched.of("gannet_run_state") == 1
    assert watched.of("gannet_run_trusted") == 1 and watched.of("gannet_reasons") == 0
    watched.sink.step(2, StepStats(1, 1.0, {}, 1, 0, 0, 0, 0, 0, ()))
    assert abs(watched.series("gannet_last_step_timestamp_seconds")["2",] - time.time()) < 600
    watched.sink.end(
        Summary.model_validate(
            {**SUMMARY, "status": "failed", "reason": "NaN", "reasons": ["it failed"], "trusted": False}
        )
    )
    assert watched.of("gannet_run_state") == 4 and watched.of("gannet_run_trusted") == 0
    assert watched.of("gannet_run_failed_info", reason="NaN") == 1
    assert watched.of("gannet_reason_info", reason="it failed") == 1
    assert watched.series("gannet_last_step_timestamp_seconds") == {}  # nobody is to be missed any more


def test_one_run_after_the_other(watched: Watched) -> None:
    """The end of a run is there to be scraped when the next begins; a name that is not final is never shown."""
    watched.sink.end(Summary.model_validate(SUMMARY))
    watched.sink.begin(SPEC, 2, 2)
    assert {dict(labels)["run"] for _, labels in read(watched.port)} == {RUN}
    watched.sink.named("next")
    assert watched.of("gannet_run_state") == 2 and watched.of("gannet_run_state", run="next") == 0


def test_runs_that_ended_long_ago_are_forgotten() -> None:
    now_s = [0.0]
    registry = MetricsRegistry(lambda: now_s[0])
    for number, at_s in enumerate((0.0, 10.0, 100.0)):
        now_s[0] = at_s
        run = registry.begin(f"run {number}", "a")
        registry.show(run)
        run.set("gannet_run_nodes", 1)
        registry.end(run)
        shown = [s.labels["run"] for f in registry.collect() for s in f.samples if f.name == "gannet_run_nodes"]
        assert shown == [["run 0"], ["run 0", "run 1"], ["run 2"]][number]


def test_counters_of_interfaces_and_engines(watched: Watched) -> None:
    line = {
        "t_s": 1.0,
        "node": 1,
        "tx_bytes": 1000,
        "rx_bytes": 2000,
        "dropped": 3,
        "backlog_bytes": 400,
        "released": 50,
    }
    engine = {"late_p50_ms": 0.1, "late_p99_ms": 2.0, "late_max_ms": 7.0, "run_queue_ms": 20.0}
    for _ in range(2):
        watched.sink.links({**line, **engine, "retransmitted": 4, "segments": 90, "rtt_ms": {"0": 50.5, "2": 60.0}})
    assert watched.series("gannet_interface_sent_bytes_total") == {("1",): 1000}
    assert watched.series("gannet_interface_received_bytes_total") == {("1",): 2000}
    assert watched.series("gannet_dropped_packets_total") == {("1",): 3}
    assert watched.series("gannet_delayed_packets_total") == {("1",): 50}
    assert watched.series("gannet_backlog_bytes") == {("1",): 400}
    assert watched.series("gannet_late_seconds") == {("1", "0.5"): 0.0001, ("1", "0.99"): 0.002, ("1", "1"): 0.007}
    assert watched.series("gannet_retransmitted_segments_total") == {("1",): 8}
    assert watched.series("gannet_engine_run_queue_seconds_total") == {("1",): 0.04}
    assert watched.series("gannet_rtt_seconds") == {("1", "0"): 0.0505, ("1", "2"): 0.06}
    watched.sink.links({**line, "node": 0, "rtt_ms": {"1": 70.0}})
    watched.sink.links({**line, "rtt_ms": {"0": 51.0}})  # node 2 has not answered: its last value is not its value
    assert watched.series("gannet_rtt_seconds") == {("1", "0"): 0.051, ("0", "1"): 0.07}


def test_counters_of_links(watched: Watched) -> None:
    """Of each source, at the node where the link ends."""
    counted = {"bytes": 4000, "packets": 5, "dropped": 2, "backlog_bytes": 300, "backlog_packets": 1}
    reading = {"t_s": 1.0, "node": 1, "tx_bytes": 0, "rx_bytes": 0}
    for more in (0, 1):
        classes = {"0": {key: value + more for key, value in counted.items()}, "2": counted}
        watched.sink.links({**reading, "classes": classes})
    assert watched.series("gannet_link_bytes_total") == {("0", "1"): 4001, ("2", "1"): 4000}
    assert watched.series("gannet_link_packets_total") == {("0", "1"): 6, ("2", "1"): 5}
    assert watched.series("gannet_link_lost_packets_total") == {("0", "1"): 3, ("2", "1"): 2}
    assert watched.series("gannet_link_backlog_bytes") == {("0", "1"): 301, ("2", "1"): 300}


def test_bad_windows_are_counted_and_series_are_no_news(watched: Watched) -> None:
    watched.sink.certificate(Certificate([edge(0, 1)]))
    assert watched.series("gannet_bad_windows_total") == {("0",): 0, ("1",): 0}
    window = {"t_s": 5.0, "event": "bad-window", "node": 1, "from_s": 3.0, "to_s": 3.5, "what": "qdisc removed"}
    for _ in range(2):
        watched.sink.links(window)
    watched.sink.links({"t_s": 6.0, "event": "series", "name": "trace", "at_s": [], "late_ms": [], "nodes": {}})
    assert watched.series("gannet_bad_windows_total") == {("0",): 0, ("1",): 2}
    assert watched.series("gannet_bad_window_seconds_total") == {("0",): 0, ("1",): 1.0}
    watched.sink.links({"t_s": 1.0, "event": "silent-link", "src": 0, "dst": 1, "detail": "link 0 → 1: …"})
    assert watched.series("gannet_unknown_link_events_total") == {}


def test_an_engine_in_the_kernel_says_less(watched: Watched) -> None:
    watched.sink.links({"t_s": 1.0, "node": 1, "tx_bytes": 1000})
    assert watched.series("gannet_late_seconds")["1", "0.99"] == 0
    assert watched.series("gannet_rtt_seconds") == {}


def test_configured_links_by_node_and_by_link(watched: Watched) -> None:
    """A link carries the smaller of its sender's uplink and its receiver's downlink, and no cap is no series."""
    path = {"delay_ms": 25.0, "jitter_ms": 2.0, "loss_percent": 1.0}
    watched.sink.links(configured(0, 5_000_000, 9_000_000, of1=path))
    watched.sink.links(configured(1, 20_000_000, 4_000_000, of0={**path, "loss_percent": 100.0}))
    assert watched.series("gannet_configured_rate_bits_per_second") == {("1", "0"): 9e6, ("0", "1"): 4e6}
    assert watched.series("gannet_configured_up_bits_per_second") == {("0",): 5e6, ("1",): 2e7}
    assert watched.series("gannet_configured_delay_seconds") == {("1", "0"): 0.025, ("0", "1"): 0.025}
    assert watched.series("gannet_configured_jitter_seconds")["1", "0"] == 0.002
    assert watched.series("gannet_configured_loss_ratio") == {("1", "0"): 0.01, ("0", "1"): 1.0}
    watched.sink.links(configured(0, None, None, of1=path))
    watched.sink.links(configured(1, None, None, of0=path))
    assert watched.series("gannet_configured_rate_bits_per_second") == {}
    assert watched.series("gannet_configured_up_bits_per_second") == {}


def test_the_certificate(watched: Watched) -> None:
    certificate = Certificate()
    certificate.add_edge(edge(0, 1))
    certificate.add_edge(edge(1, 2, measured_rate_bps=None, loss_percent=None))
    watched.sink.certificate(certificate)
    assert watched.of("gannet_certificate_trusted") == 1
    assert watched.series("gannet_measured_rate_bits_per_second") == {("0", "1"): 9.9e6}
    assert watched.series("gannet_measured_delay_seconds") == {("0", "1"): 0.0255, ("1", "2"): 0.0255}
    assert watched.series("gannet_measured_loss_ratio") == {("0", "1"): 0.005}
    assert watched.series("gannet_configured_delay_seconds") == {("0", "1"): 0.025, ("1", "2"): 0.025}
    assert watched.series("gannet_agent_lost") == {("0",): 0, ("1",): 0, ("2",): 0}
    certificate.add_edge(edge(2, 0, ok=False, reasons=("rate 5 Mbit/s, not 10 Mbit/s",)))
    watched.sink.certificate(certificate)
    assert watched.of("gannet_certificate_trusted") == 0 and watched.of("gannet_run_trusted") == 0
    assert watched.series("gannet_certified_link") == {("0", "1"): 1, ("1", "2"): 1, ("2", "0"): 0}
    assert watched.of("gannet_reasons") == 1
    assert list(watched.series("gannet_reason_info")) == [("link 2 → 0: rate 5 Mbit/s, not 10 Mbit/s",)]


def test_changes_of_links_are_marked_with_their_time(watched: Watched) -> None:
    begin_s = time.time()
    watched.sink.links(
        {"t_s": 5.0, "event": "links", "detail": "3g", "by": "operator", "operation": "apply for 30 s"}
    )
    watched.sink.links({"t_s": 6.0, "event": "links", "detail": "home"})  # as older ledgers have it
    changed = watched.series("gannet_link_change_timestamp_seconds")
    assert set(changed) == {("operator", "apply for 30 s", "3g"), ("schedule", "apply", "home")}
    assert all(begin_s <= at_s <= time.time() for at_s in changed.values())
    assert watched.series("gannet_link_changes_total") == {("schedule",): 1, ("operator",): 1}


def test_news_of_links_that_are_not_known_are_counted_and_said(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.sink.links({"t_s": 5.0, "event": "agent-lost", "node": 2, "detail": "gone"})
    watched.sink.links({"t_s": 5.0, "event": "eclipse", "node": 2})
    assert watched.series("gannet_agent_lost") == {("2",): 1}
    assert watched.series("gannet_unknown_link_events_total") == {("eclipse",): 1}
    assert "eclipse" in caplog.text


def test_refusals_by_link_and_reason(watched: Watched) -> None:
    for _ in range(3):
        watched.sink.refused(1, 0, "stale", "round 3")
    assert watched.series("gannet_reported_refusals_total") == {("1", "0", "stale"): 3}


def states(seed: int, nodes: int = 3) -> torch.Tensor:
    """Nodes near each other, in the size that the spec's task has."""
    generator = torch.Generator().manual_seed(seed)
    sampler = build_sampler(SPEC.task, SPEC.data)
    return torch.randn(sampler.size, generator=generator) + 0.1 * torch.randn(
        nodes, sampler.size, generator=generator
    )


def test_agreement_is_numpys(watched: Watched) -> None:
    x = states(1)
    for rank in (1, 2, 0):
        assert watched.series("gannet_consensus_distance") == {}
        watched.sink.snapshot(rank, 10, 1.0, 0, x[rank])
    exact = x.numpy().astype(np.float64)
    players = {**build_sampler(SPEC.task, SPEC.data).players, "all": slice(None)}
    for player, where in players.items():
        part = exact[:, where]
        distance = float(((part - part.mean(0)) ** 2).sum(1).mean())
        assert watched.of("gannet_consensus_distance", player=player) == pytest.approx(distance, rel=1e-4)
        spread = math.sqrt(distance) / float(np.linalg.norm(part.mean(0)))
        assert watched.of("gannet_consensus_spread_ratio", player=player) == pytest.approx(spread, rel=1e-4)
    assert set(players) == {"generator", "discriminator", "all"}
    drifts = np.linalg.norm(exact - exact.mean(0), axis=1)
    for rank, drift in enumerate(drifts):
        assert watched.of("gannet_node_drift", node=str(rank)) == pytest.approx(float(drift), rel=1e-4)


def test_a_state_that_is_not_finite_has_no_distance(watched: Watched) -> None:
    x = states(1)
    x[1, 5] = math.nan
    for rank in range(3):
        watched.sink.snapshot(rank, 10, 1.0, 0, x[rank])
    found = watched.of("gannet_consensus_distance", player="all")
    assert found is not None and math.isnan(found)


def test_the_agreement_of_those_who_are_left(watched: Watched) -> None:
    """A lost node's snapshot is not waited for, once others miss its messages; one that comes back counts again."""
    x = states(1)
    for rank in (0, 1):
        watched.sink.snapshot(rank, 10, 1.0, 0, x[rank])
    assert watched.series("gannet_node_drift") == {}
    watched.sink.step(0, StepStats(11, 1.1, {}, 1, 0, 0, 0, 0, 0, (2,)))
    assert set(watched.series("gannet_node_drift")) == {("0",), ("1",)}
    assert watched.of("gannet_node_drift", node="0") == pytest.approx((x[0] - x[1]).norm().item() / 2, rel=1e-4)
    for rank in (2, 0, 1):
        watched.sink.snapshot(rank, 20, 2.0, 0, x[rank])
    assert set(watched.series("gannet_node_drift")) == {("0",), ("1",), ("2",)}


def test_a_node_that_is_silent_is_waited_for_three_snapshots_at_most(watched: Watched) -> None:
    x = states(1)
    for step in (10, 20, 30, 40):
        assert watched.series("gannet_consensus_distance") == {}
        for rank in (0, 1):
            watched.sink.snapshot(rank, step, 1.0, 0, x[rank])
    assert watched.of("gannet_consensus_distance", player="all")


@pytest.fixture(scope="module")
def quality() -> Iterator[QualityWatch]:
    watch = QualityWatch()
    watch.begin(SPEC)
    yield watch
    watch.close()


def scored(watch: QualityWatch, x: torch.Tensor) -> Proxy:
    answers: list[Proxy] = []
    done = threading.Event()

    def tell(proxy: Proxy) -> None:
        answers.append(proxy)
        done.set()

    watch.offer(x, tell)
    assert done.wait(600)  # the scorer has only what is left over
    return answers[0]


def test_the_quality_proxy_is_the_scorers(quality: QualityWatch) -> None:
    x = build_sampler(SPEC.task, SPEC.data).initial()
    scorer = Scorer(SPEC.data, SAMPLES)
    score = scorer.score(build_sampler(SPEC.task, SPEC.data).generate(x, SAMPLES, NOISE_SEED))
    proxy = scored(quality, x)
    assert (proxy.name, proxy.classes_found) == (score.name, score.classes_found)
    assert proxy.value == pytest.approx(score.value, rel=1e-3)  # another number of threads sums in another order


def test_the_quality_proxy_takes_only_what_is_left_over(quality: QualityWatch) -> None:
    """The kernel says so: policy 5 is SCHED_IDLE (sched(7))."""
    assert os.sched_getscheduler(quality._child.process.pid) == os.SCHED_IDLE == 5


def test_a_snapshot_that_cannot_be_scored_does_no_harm(
    quality: QualityWatch, caplog: pytest.LogCaptureFixture
) -> None:
    x = build_sampler(SPEC.task, SPEC.data).initial()
    quality.offer(torch.full_like(x, math.nan), lambda proxy: pytest.fail("scored"))
    while "not scored" not in caplog.text:
        time.sleep(0.05)
    assert scored(quality, x).value > 0


@pytest.mark.slow
def test_quality_while_training_goes_on() -> None:
    sink = MetricsSink(quality=True)
    watched = Watched(sink)
    try:
        x = build_sampler(SPEC.task, SPEC.data).initial()
        for rank in range(3):
            sink.snapshot(rank, 10, 12.4, 0, x)
        end = time.monotonic() + 600
        while not watched.series("gannet_quality_score"):
            assert time.monotonic() < end
            time.sleep(0.05)
        ((name, value),) = ((labels[0], value) for labels, value in watched.series("gannet_quality_score").items())
        assert name == "Fréchet distance (FashionNet features)" and value > 100  # nothing is learned yet
        while not watched.series("gannet_quality_by_training_time"):
            time.sleep(0.05)
        assert watched.series("gannet_quality_by_training_time") == {(name, "12"): value}
    finally:
        sink.close()
