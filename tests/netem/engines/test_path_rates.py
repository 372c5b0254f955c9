"""Rates of single paths, below those of their ends: by iperf3, and by the bytes that arrive."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

import pytest

from gannet.netem.links.plan import InterfacePlan, PathLimit
from gannet.netem.measure.certify import measure_links
from tests.netem.link_lab import ADDRESSES, TCP_SHARE, Lab, node_plan
from tests.support.patience import seen_right

pytestmark = pytest.mark.real("links")

DOWN_BPS = 10_000_000


def plans(limits: Mapping[int, int], down_bps: int | None = DOWN_BPS, delay_ms: float = 5) -> list[InterfacePlan]:
    """Four nodes; what node 0 receives from single others is limited."""
    whole = [node_plan(rank, None, down_bps, delay_ms=delay_ms) for rank in range(4)]
    own = {ADDRESSES[rank]: PathLimit(rate_bps, max(15_140, rate_bps // 80)) for rank, rate_bps in limits.items()}
    return [replace(whole[0], limits=own, segments=1), *whole[1:]]


@pytest.mark.parametrize("down_bps", [DOWN_BPS, None])
def test_a_path_has_its_own_rate_and_the_others_theirs(lab: Lab, engine: str, down_bps: int | None) -> None:
    lab.apply(engine, plans({1: 1_000_000, 2: 4_000_000}, down_bps))
    for sender, rate_bps in ((1, 1_000_000), (2, 4_000_000)):
        measured = seen_right(
            lambda sender=sender: lab.tcp_bps(sender, 0, 3),
            lambda found, rate_bps=rate_bps: found == pytest.approx(rate_bps * TCP_SHARE, rel=0.03),
            looks=3,
        )
        assert measured == pytest.approx(rate_bps * TCP_SHARE, rel=0.03)
    free = seen_right(lambda: lab.tcp_bps(3, 0, 2), lambda found: found > 0.95 * DOWN_BPS * TCP_SHARE, looks=3)
    assert free > 0.95 * DOWN_BPS * TCP_SHARE
    back = lab.tcp_bps(0, 1, 2)  # the other direction is another path
    assert back > 0.95 * DOWN_BPS * TCP_SHARE


def test_paths_share_the_downlink_below_their_own_rates(lab: Lab, engine: str) -> None:
    """Of 10 Mbit/s one path takes the 1 Mbit/s that it may, and the two others share the rest."""
    lab.apply(engine, plans({1: 1_000_000}))

    def fair(found: list[float]) -> bool:
        return found == pytest.approx([1e6, 4.5e6, 4.5e6], rel=0.05)

    assert fair(seen_right(lambda: _shares_bps(lab), fair, looks=3))


def test_rates_come_change_and_go_in_place(lab: Lab, engine: str) -> None:
    """Each state reads back as planned, and the kernel's own class has its rate."""
    states = [
        plans({}),
        plans({1: 1_000_000}),
        plans({1: 2_000_000, 3: 500_000}),
        plans({3: 500_000}, None),
        plans({}),
    ]
    for state in states:
        lab.apply(engine, state)
        shown = lab.sandbox.run(["tc", "class", "show", "dev", "ifb-mesh0"], "node0")
        found = {line.split()[2]: line.split("rate ")[1].split()[0] for line in shown.splitlines() if "rate" in line}
        wanted = {
            f"fff1:{source_class(address)}": _words(limit.rate_bps) for address, limit in state[0].limits.items()
        }
        assert {name: rate for name, rate in found.items() if name[:5] == "fff1:" and rate != "1Tbit"} == wanted


def test_a_class_that_another_program_changes_is_a_difference(lab: Lab, engine: str) -> None:
    lab.apply(engine, plans({1: 1_000_000}))
    name = f"fff1:{source_class(ADDRESSES[1])}"
    change = ["tc", "class", "change", "dev", "ifb-mesh0", "parent", "fff1:", "classid", name, "htb", "rate", "3mbit"]
    said: list[str] = []

    def noticed() -> bool:
        lab.sandbox.run(change, "node0")
        answer = lab.agents[0].request("counters")
        said.extend(str(answer.get("broken")) if answer.get("broken") else str(answer["repairs"]).splitlines())
        return any(
            "rate_bps from 10.77.1.11 is 3000000, not 1000000" in line or "class changed" in line for line in said
        )

    assert seen_right(noticed, bool, looks=20)


def test_the_certificate_measures_them(lab: Lab, engine: str) -> None:
    """Links with rates of their own are certified, and one that has another rate than planned is not."""
    applied = plans({1: 1_000_000, 2: 4_000_000})
    lab.apply(engine, applied)
    edges, clients = [(1, 0), (2, 0), (3, 0), (0, 1)], dict(enumerate(lab.agents))
    certificate = seen_right(lambda: measure_links(clients, applied, edges), lambda found: found.trusted, looks=3)
    assert certificate.trusted, certificate.reasons
    found = {(edge.src, edge.dst): edge for edge in certificate.edges}
    assert [found[rank, 0].expected_rate_bps for rank in (1, 2, 3)] == [1_000_000, 4_000_000, DOWN_BPS]
    fan = next(fan for fan in certificate.fans if fan.direction == "in")
    assert fan.peers == (1, 2, 3) and fan.measured_rate_bps == pytest.approx(DOWN_BPS, rel=0.05)
    other = measure_links(clients, plans({1: 2_000_000, 2: 4_000_000}), [(1, 0)])
    assert not other.trusted and any("not 2 Mbit/s" in reason for reason in other.edges[0].reasons)


def source_class(address: str) -> str:
    a, b = address.split(".")[2:]
    return f"{int(a) << 8 | int(b):x}"


def _words(rate_bps: int) -> str:
    return f"{rate_bps // 1_000_000}Mbit" if rate_bps % 1_000_000 == 0 else f"{rate_bps // 1000}Kbit"


def _shares_bps(lab: Lab) -> list[float]:
    """What arrives at node 0 from each node while all send more than they may, bit/s of frames."""
    seconds, begun = 5.0, 1.5
    endpoints = {sender: lab.endpoint(0) for sender in (1, 2, 3)}
    outputs = {sender: lab.start_rate_tool(0, "catch", at, 2 * seconds) for sender, at in endpoints.items()}
    pouring = [lab.start_rate_program(sender, "pour", at, seconds, DOWN_BPS) for sender, at in endpoints.items()]
    assert [sender.wait(240) for sender in pouring] == [0, 0, 0]
    rows = {sender: json.loads(output.readline()) for sender, output in outputs.items()}
    lab.clear_tools()
    first_s = max(found[0][0] for found in rows.values()) + begun
    window_s = seconds - begun - 0.5
    return [
        sum(first_s <= came_s < first_s + window_s for came_s, _ in found) * 8 * 1514 / window_s
        for found in rows.values()
    ]
