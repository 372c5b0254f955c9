"""Links that several paths share, limited where they all end or all begin: by iperf3, and by the certificate."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import replace

import pytest

from gannet.netem.links.pairs.shared_limit import SharedLimit
from gannet.netem.links.plan import InterfacePlan, PathLimit
from gannet.netem.measure.certify import measure_links
from tests.netem.link_lab import ADDRESSES, SERVER, TCP_SHARE, Lab, node_plan
from tests.support.patience import seen_right

pytestmark = pytest.mark.real("links")

ACCESS_BPS, SHARED_BPS = 12_000_000, 4_000_000


def plans(at: str, rate_bps: int = SHARED_BPS, own: int | None = None) -> list[InterfacePlan]:
    """Four nodes; the paths of nodes 1 and 2 to node 0 share a link, or those from node 0 to them.

    `own`: the rate of 1→0 by itself, if any.
    """
    whole = [replace(node_plan(rank, ACCESS_BPS, ACCESS_BPS, delay_ms=5), segments=1) for rank in range(4)]
    ends = (ADDRESSES[1], ADDRESSES[2])
    if at == "receiver":
        shared = SharedLimit(0, rate_bps, 50_000, ends, 2, "receiver")
        limits = {ADDRESSES[1]: PathLimit(own, 15_140)} if own else {}
        return [replace(whole[0], shared_in=(shared,), limits=limits), *whole[1:]]
    ins = [
        replace(whole[rank], shared_in=(SharedLimit(0, rate_bps, 50_000, (ADDRESSES[0],), 2, "sender"),))
        for rank in (1, 2)
    ]
    return [replace(whole[0], shared_out=(SharedLimit(0, rate_bps, 50_000, ends, 2, "sender"),)), *ins, whole[3]]


def tcp_bps(lab: Lab, pairs: Sequence[tuple[int, int]], seconds: int = 5) -> list[float]:
    """TCP goodput of each pair while all of them send, as iperf3's receivers see it."""
    outputs, clients = [], []
    for sender, receiver in pairs:
        address, port = lab.endpoint(receiver).split(":")
        outputs.append(lab.start(receiver, *SERVER, "-p", port))
        argv = ["iperf3", "-c", address, "-p", port, "-t", str(seconds + 1), "-l", "1K"]
        clients.append((sender, argv))
    running = [
        subprocess.Popen([*lab.sandbox.prefix(f"node{sender}"), *argv], stdout=subprocess.DEVNULL)
        for sender, argv in clients
    ]
    for client in running:
        client.wait(seconds + 60)
    found = [lab.steady_bps(output.read(), 2) for output in outputs]
    lab.clear_tools()
    return found


@pytest.mark.parametrize("at", ["receiver", "sender"])
def test_paths_have_the_shared_rate_together_and_the_others_the_rest(lab: Lab, engine: str, at: str) -> None:
    lab.apply(engine, plans(at))
    pairs = [(1, 0), (2, 0), (3, 0)] if at == "receiver" else [(0, 1), (0, 2), (0, 3)]

    def right(found: list[float]) -> bool:
        free = pytest.approx((ACCESS_BPS - SHARED_BPS) * TCP_SHARE, rel=0.06)
        return found[0] + found[1] == pytest.approx(SHARED_BPS * TCP_SHARE, rel=0.03) and found[2] == free

    found = seen_right(lambda: tcp_bps(lab, pairs), right, looks=3)
    assert right(found), found
    alone = seen_right(
        lambda: lab.tcp_bps(*pairs[0], 3), lambda bps: bps == pytest.approx(SHARED_BPS * TCP_SHARE, rel=0.03), looks=3
    )
    assert alone == pytest.approx(SHARED_BPS * TCP_SHARE, rel=0.03)
    back = lab.tcp_bps(*pairs[0][::-1], 2)  # the other direction does not pass it
    assert back > 0.95 * ACCESS_BPS * TCP_SHARE


def test_a_path_of_its_own_rate_leaves_the_rest_of_the_shared_one(lab: Lab, engine: str) -> None:
    lab.apply(engine, plans("receiver", own=1_000_000))

    def right(found: list[float]) -> bool:
        return found == pytest.approx([1e6 * TCP_SHARE, 3e6 * TCP_SHARE], rel=0.05)

    found = seen_right(lambda: tcp_bps(lab, [(1, 0), (2, 0)]), right, looks=3)
    assert right(found), found


def test_shared_links_come_change_and_go(lab: Lab, engine: str) -> None:
    """Each state reads back as planned, and the kernel's own classes have its rates."""
    none = [node_plan(rank, ACCESS_BPS, ACCESS_BPS, delay_ms=5) for rank in range(4)]
    for state in (none, plans("receiver"), plans("receiver", 2_000_000), none, plans("sender"), plans("receiver")):
        lab.apply(engine, state)
        wanted = sum(limit.rate_bps for limit in (*state[0].shared_in, *state[0].shared_out))
        shown = "".join(
            lab.sandbox.run(["tc", "class", "show", "dev", device], "node0") for device in ("ifb-mesh0", "mesh0")
        )
        rates = [line.split("rate ")[1].split()[0] for line in shown.splitlines() if "ceil" in line]
        inner = [rate for rate in rates if rate not in ("1Tbit", "800bit", f"{ACCESS_BPS // 10**6}Mbit")]
        assert inner == ([f"{wanted // 10**6}Mbit"] if wanted else [])


@pytest.mark.parametrize("at", ["receiver", "sender"])
def test_the_certificate_measures_them(lab: Lab, engine: str, at: str) -> None:
    """All paths of a shared link at once have its rate, and one that has another rate than planned is found."""
    applied = plans(at)
    lab.apply(engine, applied)
    clients = dict(enumerate(lab.agents))
    edges = [(1, 0), (2, 0), (3, 0)] if at == "receiver" else [(0, 1), (0, 2), (0, 3)]
    certificate = seen_right(lambda: measure_links(clients, applied, edges), lambda found: found.trusted, looks=3)
    assert certificate.trusted, certificate.reasons
    fan = next(fan for fan in certificate.fans if fan.peers == (1, 2))
    assert fan.expected_rate_bps == SHARED_BPS
    assert fan.measured_rate_bps == pytest.approx(SHARED_BPS, rel=0.05)
    other = measure_links(clients, plans(at, 2 * SHARED_BPS), edges[:2])
    assert not other.trusted
    assert any("2 peers at once" in reason and "not 8 Mbit/s" in reason for reason in other.reasons)
