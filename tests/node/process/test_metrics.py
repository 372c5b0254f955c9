"""Metrics as Prometheus reads them: names, units, labels, values; and what the counts behind them are held to."""

from __future__ import annotations

import math
import mmap
import resource
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gannet.node.exchange.counters import Counters, PeerCounts
from gannet.node.exchange.mailbox import Verdict
from gannet.node.process.metrics import NodeMetrics
from gannet.node.process.usage import Scheduling, resident_bytes, throttled_seconds
from gannet.node.training.effects import Tag
from gannet.node.training.meter import StepStats

Values = dict[tuple[str, ...], float]


def scrape(metrics: NodeMetrics) -> Values:
    """What is served, by name and the labels beyond run, arm and node."""
    server, port = metrics.serve("127.0.0.1", 0)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=240) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
    finally:
        server.shutdown()
        server.server_close()
    found = {}
    for family in families:
        assert family.documentation.endswith(".")
        for sample in family.samples:
            extra = {k: v for k, v in sample.labels.items() if k not in ("run", "arm", "node", "le")}
            assert (sample.labels["run"], sample.labels["arm"], sample.labels["node"]) == ("run-1", "gossip", "2")
            found[sample.name, *extra.values()] = sample.value
    return found


def test_what_prometheus_scrapes() -> None:
    metrics = NodeMetrics("run-1", "gossip", 2)
    for step in (1, 2):
        missing = (3,) if step == 2 else ()
        losses = {"generator": 1.5}
        metrics.step(StepStats(step, 0.5 * step, losses, 0.25, 0.125, 0.125, 1000, 1010, 1100, missing))
    metrics.refused("not_finite")
    metrics.lost(1)
    found = scrape(metrics)
    assert found["gannet_steps_total",] == 2
    assert found["gannet_training_clock_seconds",] == 1.0
    assert found["gannet_loss", "generator"] == 1.5
    assert found["gannet_spent_seconds_total", "compute"] == 0.5
    assert found["gannet_sent_bytes_total", "interface"] == 2200
    assert found["gannet_missing_messages_total", "3"] == 1
    assert found["gannet_refused_messages_total", "not_finite"] == 1
    assert found["gannet_peers_lost",] == 1
    assert found["gannet_step_seconds_sum",] == 1.0
    assert not any(name.endswith("_created") for name, *_ in found)


def test_what_has_not_happened_is_zero_and_not_absent() -> None:
    metrics = NodeMetrics("run-1", "gossip", 2)
    metrics.begin({1}, {3}, Counters().read)
    found = scrape(metrics)
    reasons = {labels[0] for name, *labels in found if name == "gannet_refused_messages_total"}
    assert reasons == {verdict.name.lower() for verdict in Verdict} - {"accepted"}
    for key in (
        ("gannet_steps_total",),
        ("gannet_peers_lost",),
        ("gannet_diverged",),
        ("gannet_missing_messages_total", "1"),
    ):
        assert found[key] == 0
    assert ("gannet_missing_messages_total", "3") not in found  # nothing is awaited from there


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_said(loss: float) -> None:
    metrics = NodeMetrics("run-1", "gossip", 2)
    metrics.step(StepStats(1, 0.5, {"generator": 1.0, "discriminator": loss}, 0.25, 0.125, 0.125, 1, 1, 1, ()))
    assert scrape(metrics)["gannet_diverged",] == 1


def test_traffic_by_peer_and_direction() -> None:
    counts = {
        1: PeerCounts(sent_bytes=10, received_bytes=20, busy_s=0.5, wait_s=0.25, stale_rounds=0),
        3: PeerCounts(sent_bytes=30, received_bytes=0, busy_s=1.5, wait_s=0.75, stale_rounds=4),
    }
    metrics = NodeMetrics("run-1", "gossip", 2)
    metrics.begin({3}, {1}, lambda: counts)
    found = {
        key: value for key, value in scrape(metrics).items() if key[0].startswith(("gannet_peer_", "gannet_stale"))
    }
    assert found == {
        ("gannet_peer_sent_bytes_total", "1"): 10,
        ("gannet_peer_busy_seconds_total", "1"): 0.5,
        ("gannet_peer_received_bytes_total", "3"): 0,
        ("gannet_peer_wait_seconds_total", "3"): 0.75,
        ("gannet_staleness_rounds", "3"): 4,
    }


def test_processor_time_and_memory_are_the_kernels() -> None:
    """Held against getrusage, which counts by another way, and against the size of a block that is written."""
    metrics = NodeMetrics("run-1", "gossip", 2)
    before = scrape(metrics)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    while (spent := resource.getrusage(resource.RUSAGE_SELF)).ru_utime - usage.ru_utime < 0.3:
        sum(range(10_000))
    # Pages of its own: an allocator may have as much at hand from what earlier tests let go.
    block = mmap.mmap(-1, 50_000_000)
    block.write(b"\x05" * len(block))
    after = scrape(metrics)
    used_s = spent.ru_utime + spent.ru_stime - usage.ru_utime - usage.ru_stime
    assert after["gannet_cpu_seconds_total",] - before["gannet_cpu_seconds_total",] >= 0.9 * used_s
    assert after["gannet_run_queue_seconds_total",] >= before["gannet_run_queue_seconds_total",] >= 0
    grown = after["gannet_resident_memory_bytes",] - before["gannet_resident_memory_bytes",]
    assert grown > 0.9 * len(block)
    assert resident_bytes() > len(block)
    block.close()


def test_the_seconds_of_a_thread_that_ended_are_kept() -> None:
    scheduling = Scheduling()

    def work() -> None:
        end = time.thread_time() + 0.2
        while time.thread_time() < end:
            sum(range(1000))
        done.set()
        leave.wait(240)

    done, leave = threading.Event(), threading.Event()
    thread = threading.Thread(target=work)
    before_s, _ = scheduling.read()
    thread.start()
    assert done.wait(240)
    during_s, _ = scheduling.read()
    leave.set()
    thread.join()
    while (Path("/proc/self/task") / str(thread.native_id)).exists():
        time.sleep(0.01)
    after_s, _ = scheduling.read()
    assert after_s >= during_s >= before_s + 0.19


@pytest.mark.parametrize(
    ("file", "text", "seconds"),
    [
        ("cpu.stat", "usage_usec 9\nnr_throttled 3\nthrottled_usec 2500000\n", 2.5),
        ("cpu/cpu.stat", "nr_periods 9\nnr_throttled 3\nthrottled_time 1500000000\n", 1.5),
        ("cpu.stat", "usage_usec 9\n", 0.0),
        ("else", "", 0.0),
    ],
)
def test_a_cpu_limit_that_holds_still(tmp_path: Path, file: str, text: str, seconds: float) -> None:
    """As the kernel's documentation of both versions of control groups writes it."""
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    assert throttled_seconds(tmp_path) == seconds


@pytest.fixture
def clock() -> Callable[..., float]:
    """A clock that is set by calling it with a number."""
    now = [0.0]

    def read(to: float | None = None) -> float:
        now[0] = now[0] if to is None else to
        return now[0]

    return read


def test_busy_seconds_are_those_with_a_part_under_way(clock: Callable[..., float]) -> None:
    counters = Counters(clock)
    counters.begin([1])
    for at_s, event in ((1, "submit"), (2, "submit"), (4, "settle"), (7, "settle"), (20, "submit")):
        clock(at_s)
        if event == "submit":
            counters.submitted(1)
        else:
            counters.settled(1, 1)
    clock(23)
    assert counters.read()[1].busy_s == (7 - 1) + (23 - 20)


def test_what_is_under_way_when_training_begins_is_counted_from_there(clock: Callable[..., float]) -> None:
    counters = Counters(clock)
    counters.submitted(1)
    counters.sent(1, 100)
    clock(5)
    counters.begin([1, 2])
    clock(6)
    counters.settled(1, 1)
    assert counters.read() == {1: PeerCounts(busy_s=1.0), 2: PeerCounts()}
    assert counters.sent_bytes == 100  # the exchange's own count goes on


def test_staleness_is_the_rounds_since_a_message_was_used() -> None:
    counters = Counters()
    counters.begin([1])
    counters.received(1, Tag(3, 0), 10, 0.5)
    counters.missed(1, Tag(4, 0), 1.0)
    counters.missed(1, Tag(6, 0), 1.0)
    assert counters.read()[1] == PeerCounts(received_bytes=10, wait_s=2.5, stale_rounds=3)
    counters.received(1, Tag(7, 0), 10, 0.0)
    assert counters.read()[1].stale_rounds == 0
    counters.missed(1, Tag(2, 0, player=1), 0.0)  # a player of its own rounds: none came yet
    counters.received(1, Tag(8, 0), 10, 0.0)
    assert counters.read()[1].stale_rounds == 2
