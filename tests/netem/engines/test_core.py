"""Shared links of several senders and several receivers, in the core of a real network, by the kernel's counts."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from gannet.fabrics.links.agent_pool import AgentPool
from gannet.fabrics.links.core_links import CoreLinks
from gannet.netem.agent.client import AgentClient
from gannet.netem.links.pairs.shared import SharedLink
from gannet.netem.links.plan import InterfacePlan
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.state import LinkState
from gannet.netem.measure.certify import measure_links
from tests.netem.link_lab import ADDRESSES, TCP_SHARE, Lab
from tests.support.patience import seen_right

pytestmark = pytest.mark.real("links")

SHARED_BPS = 20_000_000
CROSSED = ((0, 2), (1, 3))
PORTS = [f"port{rank}" for rank in range(4)]


def plans(rate_bps: int | None = SHARED_BPS, pairs: tuple[tuple[int, int], ...] = CROSSED) -> Sequence[InterfacePlan]:
    """Four nodes of 60 Mbit/s; None: no shared link."""
    profile = LinkProfile(down_bps=60_000_000, up_bps=60_000_000, up_delay_ms=5, down_delay_ms=5)
    shared = () if rate_bps is None else (SharedLink(rate_bps=rate_bps, pairs=pairs),)
    return LinkState(profile=profile, shared=shared).plans(ADDRESSES, ["mesh0"] * 4, 7)


@contextmanager
def pool_of(lab: Lab) -> Iterator[tuple[AgentPool, list[AgentClient]]]:
    """The nodes' agents with those of the core, which the lab's bridge is."""
    spawned: list[AgentClient] = []

    def spawn() -> AgentClient:
        spawned.append(AgentClient.spawn(lab.sandbox.prefix("switch"), "core"))
        return spawned[-1]

    core = CoreLinks(spawn, PORTS)
    pool = AgentPool(lab.agents, lambda rank, why: None, core)
    try:
        yield pool, spawned
    finally:
        core.close()
        pool.close()


def received_bits(lab: Lab) -> int:
    """All that has come out of the network at nodes 2 and 3, in whole frames, by the kernel's count."""
    shown = [lab.sandbox.run("cat /proc/net/dev", f"node{rank}") for rank in (2, 3)]
    return sum(8 * int(text.split("mesh0:")[1].split()[0]) for text in shown)


def test_two_senders_to_two_receivers_have_the_rate_together_and_each_all_of_it(lab: Lab, engine: str) -> None:
    """However the machine stands still, no more than the rate comes through in any time, and the rate in some."""
    with pool_of(lab) as (pool, _):
        assert all(answer.ok for answer in pool.apply(engine, plans()))
        for sender, receiver in CROSSED:
            endpoint = lab.endpoint(receiver)
            lab.start_tool(receiver, "gather", endpoint, 1, 600)
            lab.start_background(sender, "flood", endpoint, 0, 0)

        def together() -> float:
            outer_s = time.monotonic()
            bits, inner_s = -received_bits(lab), time.monotonic()
            time.sleep(2)
            inner_s = time.monotonic() - inner_s
            bits += received_bits(lab)
            assert bits / (time.monotonic() - outer_s) < 1.01 * SHARED_BPS
            return bits / inner_s

        assert seen_right(together, lambda bps: bps > 0.97 * SHARED_BPS) > 0.97 * SHARED_BPS
        lab.clear_tools()
        wanted = pytest.approx(SHARED_BPS * TCP_SHARE, rel=0.04)
        assert seen_right(lambda: lab.tcp_bps(1, 3, 2), lambda bps: bps == wanted, looks=5) == wanted


def test_core_links_come_change_and_go(lab: Lab, engine: str) -> None:
    """The kernel's own class has each rate, and packets pass the IFB of those pairs alone."""
    with pool_of(lab) as (pool, spawned):
        assert all(answer.ok for answer in pool.apply(engine, plans(None))) and not spawned
        for rate_bps in (SHARED_BPS, 30_000_000, None, SHARED_BPS):
            assert all(answer.ok for answer in pool.apply(engine, plans(rate_bps)))
            shown = lab.sandbox.run("tc class show dev core0", "switch")
            assert (f"rate {rate_bps // 10**6}Mbit" if rate_bps else "rate 1Tbit") in shown
        before = packets(lab)
        # Datagrams and their echoes, of which those back from 0 to 2 pass it.
        for sender, receiver, count in ((0, 2, 3), (0, 3, 7), (2, 0, 11), (1, 3, 5)):
            endpoint = lab.endpoint(receiver)
            lab.start_tool(receiver, "echo", endpoint)
            lab.tool(sender, "ask", endpoint, count, 2)
        assert packets(lab) - before == 3 + 11 + 5


def packets(lab: Lab) -> int:
    """How many have left the shared link's IFB."""
    shown = lab.sandbox.run("tc -s class show dev core0", "switch")
    return int(shown.split("Sent ")[1].split("bytes ")[1].split()[0])


def test_a_core_link_that_another_program_takes_away_is_told_and_built_again(lab: Lab) -> None:
    with pool_of(lab) as (pool, spawned):
        assert all(answer.ok for answer in pool.apply("nfqueue", plans()))
        lab.sandbox.run("tc qdisc del dev core0 root", "switch")
        lab.sandbox.run("tc filter del dev port1 parent ffff:", "switch")
        wrong = {answer.rank: answer.complaint for answer in pool.read_back() if not answer.ok}
        assert wrong.keys() == {2, 3} and "shared link 0: its rate limit is missing" in wrong[2]
        assert all(answer.ok for answer in pool.apply("nfqueue", plans()))
        # What its agent has applied stays when that is killed, and another one begins with it.
        os.kill(spawned[0].process.pid, signal.SIGKILL)
        spawned[0].process.wait()
        assert all(answer.ok for answer in pool.read_back()) and len(spawned) == 2
        assert "rate 20Mbit" in lab.sandbox.run("tc class show dev core0", "switch")
    assert "core0" not in lab.sandbox.run("ip link show", "switch")


def test_where_the_core_is_out_of_reach_each_receiver_says_so(lab: Lab) -> None:
    pool = AgentPool(lab.agents, lambda rank, why: None)
    wrong = {answer.rank: answer.complaint for answer in pool.apply("nfqueue", plans()) if not answer.ok}
    pool.close()
    assert wrong.keys() == {2, 3} and "use fabric: namespaces" in wrong[3]


def test_the_certificate_measures_core_links(lab: Lab, engine: str) -> None:
    """Three paths through 20 Mbit/s: one after the other, then those of one node at once; another rate is found."""
    crossed = ((0, 2), (1, 2), (1, 3))
    clients = dict(enumerate(lab.agents))
    with pool_of(lab) as (pool, _):
        applied = plans(pairs=crossed)
        assert all(answer.ok for answer in pool.apply(engine, applied))
        found = seen_right(lambda: measure_links(clients, applied, crossed), lambda found: found.trusted, looks=3)
        assert found.trusted, found.reasons
        assert {fan.expected_rate_bps for fan in found.fans} == {SHARED_BPS} and len(found.fans) == 2
        other = measure_links(clients, plans(2 * SHARED_BPS, crossed), crossed[:2])
        assert any("2 peers at once" in reason and "not 40 Mbit/s" in reason for reason in other.reasons)
