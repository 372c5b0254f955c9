"""What every engine must do alike: rates, delays, jitter, and what happens to packets (see conformance.py)."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from math import sqrt
from statistics import median

import pytest

from gannet.netem.agent.client import AgentError
from gannet.netem.links.jitter import deviation
from gannet.netem.links.plan import BurstPlan, PathPlan
from tests.netem.engines.conformance import (
    EMULATED,
    FAN_IN,
    HEADERS,
    LARGE,
    SMALL,
    arrivals,
    as_planned,
    at_rate,
    confidence,
    counts,
    one_way_ms,
)
from tests.netem.link_lab import ADDRESSES, IP_SHARE, TCP_SHARE, WIDE_ADDRESSES, Lab, node_plan
from tests.netem.statistic import binomial_interval, bursts, lag_1, mean_deviation
from tests.support.patience import seen_right

pytestmark = pytest.mark.real("links")


@pytest.mark.parametrize("rate_mbit", [100, 10, 1, 0.1])
def test_rate_of_datagrams(lab: Lab, engine: str, rate_mbit: float) -> None:
    rate_bps = round(rate_mbit * 1e6)
    lab.apply(engine, [node_plan(rank, rate_bps, rate_bps, delay_ms=1) for rank in range(2)])
    size = SMALL if rate_mbit <= 1 else LARGE
    goodput_bps = rate_bps * size / (size + HEADERS)
    seconds = 8 if rate_mbit < 1 else 4
    offered_bps = round(1.2 * goodput_bps)
    assert at_rate(lambda: lab.udp_bps(0, 1, seconds, offered_bps, size), goodput_bps, fast=rate_mbit >= 100)


@pytest.mark.parametrize("rate_mbit", [1, 10, 100, 500])
def test_rate_of_tcp(lab: Lab, engine: str, rate_mbit: int) -> None:
    rate_bps = rate_mbit * 10**6
    lab.apply(engine, [node_plan(rank, rate_bps, rate_bps, delay_ms=1) for rank in range(2)])
    fast = rate_mbit >= 100
    assert at_rate(lambda: lab.tcp_bps(0, 1, 4, "8K" if fast else "1K"), rate_bps * TCP_SHARE, fast=fast)


def test_asymmetric_pairs(lab: Lab, engine: str) -> None:
    """A path is as fast as its sender's uplink or its receiver's downlink, whichever is slower."""
    lab.apply(
        engine, [node_plan(0, 20_000_000, 2_000_000, delay_ms=30), node_plan(1, 10_000_000, 5_000_000, delay_ms=5)]
    )
    assert at_rate(lambda: lab.tcp_bps(0, 1, 4), 5_000_000 * TCP_SHARE)
    assert at_rate(lambda: lab.tcp_bps(1, 0, 4), 2_000_000 * TCP_SHARE)
    # An echo on an idle machine counts how long its own process takes to wake; delays to 0.5 ms are judged below.
    assert as_planned(lambda: [one_way_ms(lab, 0, 1), one_way_ms(lab, 1, 0)], [5, 30], slack_ms=1.0)


def test_fan_in_shares_the_downlink(wide_lab: Lab, engine: str) -> None:
    """Eight senders with 8 Mbit/s each must not bring more than its 8 Mbit/s to a receiver."""
    rates = 8_000_000, 8_000_000, WIDE_ADDRESSES
    wide_lab.apply(engine, [node_plan(rank, *rates, delay_ms=2) for rank in range(9)])
    assert at_rate(lambda: wide_lab.fan_in_bps(range(1, 9), 0, 5), 8_000_000 * IP_SHARE, FAN_IN)


@pytest.mark.parametrize("delay_ms", [1, 5, 25, 100, 300, 600])
def test_one_way_delay(lab: Lab, engine: str, delay_ms: int) -> None:
    lab.apply(engine, [node_plan(0), node_plan(1, 10_000_000, 10_000_000, delay_ms=delay_ms)])

    def delays_ms() -> list[list[float]]:
        [received] = arrivals(lab, 100, 5)
        assert [number for number, _ in received] == list(range(100))
        return [[late_ms for _, late_ms in received]]

    assert as_planned(delays_ms, [delay_ms])


def test_each_source_has_its_own_path(lab: Lab, engine: str) -> None:
    plan = node_plan(1, None, 10_000_000, delay_ms=5)
    lab.apply(engine, [node_plan(0), replace(plan, paths={**plan.paths, ADDRESSES[2]: PathPlan(delay_ms=40)})])
    assert as_planned(lambda: [[ms for _, ms in path] for path in arrivals(lab, 100, 5, (0, 2))], [5, 40])


def test_random_loss(lab: Lab, engine: str) -> None:
    shares = {0: 0.001, 2: 0.01, 3: 0.1}
    paths = {rank: PathPlan(delay_ms=5, loss_percent=100 * share) for rank, share in shares.items()}
    count = 2500 if EMULATED else 6000
    for rank, received in counts(lab, engine, paths, count, 1).items():
        low, high = binomial_interval(count, shares[rank], confidence(engine))
        assert low <= count - len(received) <= high, shares[rank]


def test_lost_in_bursts(lab: Lab, engine: str) -> None:
    """Both the share that is lost and the mean length of a burst, which is 1/r where all is lost in the bad state."""
    paths = {
        0: PathPlan(delay_ms=5, bursts=BurstPlan(1, 20)),
        2: PathPlan(delay_ms=5, bursts=BurstPlan(4, 50)),
        3: PathPlan(delay_ms=5, bursts=BurstPlan(1, 20), loss_percent=5),
    }
    count, z = 4000 if EMULATED else 10_000, 2.58 if engine == "nfqueue" else 5.4
    for rank, received in counts(lab, engine, paths, count, 0.6).items():
        chain = paths[rank].bursts
        assert chain is not None
        p, r = chain.good_to_bad_percent / 100, chain.bad_to_good_percent / 100
        share = paths[rank].any_loss_percent / 100
        # Successive packets' states have the correlation 1 − p − r.
        spread = sqrt(share * (1 - share) / count * (2 - p - r) / (p + r))
        assert 1 - len(received) / count == pytest.approx(share, abs=z * spread)
        if not paths[rank].loss_percent:
            lengths = bursts([number for number, _ in received], count)
            assert sum(lengths) / len(lengths) == pytest.approx(1 / r, abs=z * sqrt((1 - r) / len(lengths)) / r)


def test_reordered_duplicated_corrupted(lab: Lab, engine: str) -> None:
    paths = {
        0: PathPlan(delay_ms=30, reorder_percent=10),
        2: PathPlan(delay_ms=10, duplicate_percent=5),
        3: PathPlan(delay_ms=10, corrupt_percent=5),
    }
    count = 1500 if EMULATED else 3000
    before = udp_checksum_errors(lab)
    received = counts(lab, engine, paths, count, 2, more=1000)
    errors = udp_checksum_errors(lab) - before
    late = held_too_long(lab)

    # Those that are reordered arrive at once, the others after the delay and in their order.
    order = [number for number, _ in received[0]]
    early = {number for number, late_ms in received[0] if late_ms < 15}
    # A machine that stands still meanwhile makes an early one late; it has overtaken others all the same.
    held_up = overtakers(order) - early
    assert len(held_up) <= len(early) / 10
    early |= held_up
    # Unless those were due as well when the engine went on, as it says: a tenth of them were early ones.
    low, high = binomial_interval(count, 0.1, confidence(engine))
    assert low - late / 5 <= len(early) <= high
    assert [number for number in order if number not in early] == sorted(set(range(count)) - early)

    numbers = [number for number, _ in received[2]]
    assert sorted(set(numbers)) == list(range(count))
    # Draws of the kernel in both engines.
    low, high = binomial_interval(count, 0.05, 0.9999999)
    assert low <= len(numbers) - count <= high
    places = {number: place for place, number in reversed(list(enumerate(numbers)))}
    behind = [place - places[number] for place, number in enumerate(numbers) if place != places[number]]
    # Right behind its original, or behind the batch that this came with: a large one after the machine stood still.
    assert median(behind) <= (30 if EMULATED else 3)

    missing = count - len(received[3])
    low, high = binomial_interval(count, 0.05, confidence(engine))
    if engine == "netem":  # one bit of the frame, whose first 14 of 1062 bytes nobody looks at any more
        low = round(low * 0.97)
    assert low <= missing <= high
    assert {number for number, _ in received[3]} <= set(range(count))
    # The IP header has a checksum too, which engine nfqueue leaves alone.
    assert errors == missing if engine == "nfqueue" else 0.9 * missing <= errors <= missing


def overtakers(order: list[int]) -> set[int]:
    """Those that arrived before one that had been sent before them."""
    lowest_since = list(accumulate(reversed(order), min))[::-1]
    return {number for number, lowest in zip(order, lowest_since, strict=True) if number > lowest}


def held_too_long(lab: Lab) -> int:
    """Packets that the engine of node 1 says it has held over 1 ms too long; it knows when it stood still."""
    late: int = lab.agents[1].request("counters").get("late", 0)
    return late


def udp_checksum_errors(lab: Lab) -> int:
    names, values = (
        line.split()
        for line in lab.sandbox.run("cat /proc/net/snmp", "node1").splitlines()
        if line.startswith("Udp:")
    )
    return int(dict(zip(names, values, strict=True))["InCsumErrors"])


@pytest.mark.parametrize("correlation", [0, 60])
def test_jitter(lab: Lab, engine: str, correlation: int) -> None:
    """Mean, deviation and correlation of each distribution, where each packet draws its own.

    A packet later than its distribution can make it was held up by the machine, which may happen to two in a hundred,
    to five where the CPU is emulated, and to those of which the engine says so.
    """
    paths = {
        rank: PathPlan(20, distribution, None, "reorder", jitter_ms=2, jitter_correlation_percent=correlation)
        for rank, distribution in ((0, "uniform"), (2, "normal"), (3, "pareto"))
    }
    if engine == "netem" and correlation:
        with pytest.raises(AgentError, match="sch_netem draws every jitter afresh"):
            counts(lab, engine, paths, 1, 1)
        return
    count = 700
    deviations_ms = {
        rank: pytest.approx(2 * deviation(path.jitter_distribution), rel=0.1 if engine == "nfqueue" else 0.25)
        for rank, path in paths.items()
    }

    def look() -> dict[int, list[float]]:
        """The delays of each path, without those of packets that the machine held up for longer than jitter can."""
        found = counts(lab, engine, paths, count, 11)
        late = held_too_long(lab)
        delays_ms = {}
        for rank, received in found.items():
            assert sorted(number for number, _ in received) == list(range(count))
            latest_ms = 20 + 2 * {"uniform": 1, "normal": 4, "pareto": 4.92}[paths[rank].jitter_distribution] + 1
            delays_ms[rank] = [late_ms for _, late_ms in received if late_ms < latest_ms]
            assert len(delays_ms[rank]) >= max(count / 2, (0.95 if EMULATED else 0.98) * count - late)
        return delays_ms

    def undisturbed(delays_ms: dict[int, list[float]]) -> bool:
        """Packets held up for less than that are in the deviation: two in a hundred can add a seventh."""
        return all(mean_deviation(found)[1] == deviations_ms[rank] for rank, found in delays_ms.items())

    for rank, delays_ms in seen_right(look, undisturbed, looks=3).items():
        mean_ms, deviation_ms = mean_deviation(delays_ms)
        assert mean_ms == pytest.approx(20, abs=1)
        assert deviation_ms == deviations_ms[rank]
        assert lag_1(delays_ms) == pytest.approx(correlation / 100, abs=0.12 if engine == "nfqueue" else 0.18)


def test_jitter_keeps_order(lab: Lab, engine: str) -> None:
    lab.apply(engine, [node_plan(0), node_plan(1, delay_ms=30, jitter_ms=10, jitter_distribution="normal")])
    [received] = arrivals(lab, 500, 1)
    assert [number for number, _ in received] == list(range(500))


def test_packets_hold_one_segment_on_slow_links(lab: Lab, engine: str) -> None:
    """Otherwise a loss would take up to 64 KB at once."""
    lab.apply(engine, [node_plan(rank, 10_000_000, 10_000_000) for rank in range(2)])
    before = lab.agents[1].request("counters")
    lab.tcp_bps(0, 1, 2)
    after = lab.agents[1].request("counters")
    size = (after["rx_bytes"] - before["rx_bytes"]) / (after["rx_packets"] - before["rx_packets"])
    assert 1300 < size <= 1514


def test_unplanned_sources_are_not_delayed(lab: Lab, engine: str) -> None:
    plan = node_plan(1, 10_000_000, 10_000_000, delay_ms=50)
    lab.apply(engine, [node_plan(0), replace(plan, paths={ADDRESSES[2]: plan.paths[ADDRESSES[2]]})])
    assert median(one_way_ms(lab, 0, 1)) < 25  # of 50 ms, had it been
