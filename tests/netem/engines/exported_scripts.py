"""Exported scripts on a kernel, by `sh` alone: run by test_vm.py, since they need one that has sch_netem."""

from __future__ import annotations

from math import sqrt
from pathlib import Path

import pytest

from gannet.netem.exports import tc_script
from gannet.netem.links.profile import GilbertElliott, LinkProfile
from gannet.netem.links.state import LinkState
from tests.netem.engines.conformance import Arrivals, arrivals, as_planned, at_rate, one_way_ms
from tests.netem.link_lab import ADDRESSES, TCP_SHARE, Lab
from tests.netem.statistic import binomial_interval, bursts

UP_BPS, DOWN_BPS = 2_000_000, 6_000_000
DELAYS_MS = (10.0, 20.0, 40.0)
DELAYED = {"up_delay_ms": 5, "down_delay_ms": 5}


def scripts(folder: Path, network: dict[int, LinkProfile]) -> list[Path]:
    state = LinkState(nodes=network, profile=network[0])
    plans = state.plans(ADDRESSES[: len(network)], ["mesh0"] * len(network), 1)
    done = tc_script.export_network(plans)
    for name, text in done.files.items():
        (folder / name).write_text(text)
    return [folder / f"node-{rank}.sh" for rank in network]


def run(lab: Lab, files: list[Path], *arguments: str) -> None:
    for rank, file in enumerate(files):
        lab.sandbox.run(["sh", str(file), *arguments], f"node{rank}")


def every_delay_ms(lab: Lab) -> list[list[float]]:
    return [one_way_ms(lab, source, target) for source in range(3) for target in range(3) if source != target]


def test_delays_and_rates_come_and_go(lab: Lab, tmp_path: Path) -> None:
    files = scripts(
        tmp_path,
        {
            rank: LinkProfile(name="x", up_bps=UP_BPS, down_bps=DOWN_BPS, up_delay_ms=ms, down_delay_ms=ms / 2)
            for rank, ms in enumerate(DELAYS_MS)
        },
    )
    # A path has the mean of its sender's delay up and its receiver's delay down.
    planned_ms = [(DELAYS_MS[s] + DELAYS_MS[t] / 2) / 2 for s in range(3) for t in range(3) if s != t]
    for _ in range(2):  # what is there already is replaced
        run(lab, files)
    assert as_planned(lambda: every_delay_ms(lab), planned_ms)
    assert at_rate(lambda: lab.tcp_bps(0, 1, 3), UP_BPS * TCP_SHARE)
    run(lab, files, "clear")
    assert as_planned(lambda: every_delay_ms(lab), [0.0] * 6)
    assert lab.tcp_bps(0, 1, 2, "8K") > 2 * DOWN_BPS
    shown = lab.sandbox.run(["tc", "qdisc", "show", "dev", "mesh0"], "node0")
    assert "netem" not in shown and "ingress" not in shown
    assert "ifb" not in lab.sandbox.run(["ip", "-o", "link"], "node0")


def test_losses_come_in_bursts(lab: Lab, tmp_path: Path) -> None:
    count, p, r, z = 3000, 0.05, 0.5, 5.4
    chain = GilbertElliott(good_to_bad_percent=100 * p, bad_to_good_percent=100 * r)
    [received] = sent_over(lab, tmp_path, LinkProfile(name="x", gilbert_elliott=chain, **DELAYED), count)
    share = p / (p + r)
    # Successive packets' states have the correlation 1 − p − r.
    spread = sqrt(share * (1 - share) / count * (2 - p - r) / (p + r))
    assert 1 - len(received) / count == pytest.approx(share, abs=z * spread)
    lengths = bursts([number for number, _ in received], count)
    assert sum(lengths) / len(lengths) == pytest.approx(1 / r, abs=z * sqrt((1 - r) / len(lengths)) / r)


def test_duplicates_come_by_iptables(lab: Lab, tmp_path: Path) -> None:
    count = 1500
    [received] = sent_over(lab, tmp_path, LinkProfile(name="x", duplicate_percent=20, **DELAYED), count)
    assert {number for number, _ in received} == set(range(count))
    low, high = binomial_interval(count, 0.2, 0.9999999)
    assert low <= len(received) - count <= high


def sent_over(lab: Lab, folder: Path, profile: LinkProfile, count: int) -> list[Arrivals]:
    """What arrives from node 0 at node 1, both of which have this profile."""
    one_way_ms(lab, 0, 1, 1)  # neighbours must know each other: what waits for an address may be thrown away
    files = scripts(folder, {0: profile, 1: profile})
    run(lab, files)
    try:
        return arrivals(lab, count, 2)
    finally:
        run(lab, files, "clear")
