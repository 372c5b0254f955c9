"""The lower bound: the issue's formula where links are alike, and never above what the links can do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gannet.experiment.bounds import hidden_s, lower_bound
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.state import LinkState
from gannet.node.traffic.exchange import exchange_traffic
from tests.support.games import BilinearGame, Wide
from tests.support.runs import play, virtual_job

GOSSIP, SERVER, RING = ({"name": "dp-oadam"}, {"name": "cp-oadam"}, {"name": "cp-oadam", "collective": "ring"})


def test_on_equal_links_it_is_bytes_over_rate_plus_delay() -> None:
    job = virtual_job(GOSSIP, 4, link={"rate": "10Mbit", "delay_ms": 25})
    traffic = exchange_traffic(job.config, 4, 250_000)  # 1 MB, two copies
    bound = lower_bound(traffic, job.plans, compute_s=0.1, exchanges_per_step=1, overlap=False)
    assert bound.total_s == pytest.approx(0.1 + 2 * 1.0 * 8 / 10 + 0.025)
    assert lower_bound(traffic, job.plans, 5.0, 1, overlap=True).total_s == 5.0


def test_a_ring_takes_as_long_as_its_slowest_path() -> None:
    """Each node sends to one: where that path has 1 Mbit/s, its 1.5 MB take 12 s, whatever the access links carry."""
    job = virtual_job(RING, 4, link={"rate": "10Mbit", "delay_ms": 25})
    traffic = exchange_traffic(job.config, 4, 250_000)
    slow = LinkProfile(up_bps=1_000_000)
    job = replace(job, links=job.links.at_edges({(2, 3): slow}))
    bound = lower_bound(traffic, job.plans, compute_s=0.1, exchanges_per_step=1, overlap=False)
    assert bound.transfer_s == pytest.approx(traffic.sent[2] * 8 / 1e6)


@pytest.mark.parametrize(("compute_s", "delay_ms"), [(0.01, 1), (0.1, 50), (0.01, 500)])
@pytest.mark.parametrize("overlap", [False, True])
def test_a_stars_hub_and_leaves_take_turns(compute_s: float, delay_ms: float, overlap: bool) -> None:
    """Two rounds of a chain are M−1 copies from the hub to its last leaf and one back; the hub sends M−1 in each."""
    world, steps, size = 5, 24, 600
    job = virtual_job({"name": "dp-oadam", "overlap": overlap}, world, steps, topology="star", snapshot_every=1000,
                      pace_ms=1000 * compute_s, link={"rate": "300kbit", "delay_ms": delay_ms})  # fmt: skip
    copy_s = 4 * size * 8 / 300e3
    delay_s = delay_ms / 1000
    exchange_s = world * copy_s / 2 + delay_s
    waited_s = max(compute_s, exchange_s) if overlap else compute_s + exchange_s
    bound = lower_bound(exchange_traffic(job.config, world, size), job.plans, compute_s, 1, overlap)
    assert bound.total_s == pytest.approx(max(waited_s, (world - 1) * copy_s))
    memory, _ = play(job, [BilinearGame(r, size // 2) for r in range(world)])
    half_s, all_s = (max(of_node[k - 1].t_s for of_node in memory.steps.values()) for k in (steps // 2, steps))
    step_s = (all_s - half_s) / (steps // 2)
    # Frames and headers take 13%. Fair shares let the hub's copies end together; the leaves' then meet at the hub.
    together_s = (world - 1) * copy_s + delay_s + (0 if overlap else compute_s)
    assert bound.total_s <= step_s <= 1.15 * max(bound.total_s, together_s)


def test_where_links_differ_a_slow_node_sends_while_others_compute() -> None:
    """A ring of nodes one of which has a slow uplink: its two copies take a step, at most a gradient longer."""
    slow, fast = LinkProfile.model_validate({"rate": "50kbit"}), LinkProfile.model_validate({"rate": "1Gbit"})
    job = virtual_job(GOSSIP, 4, 24, pace_ms=100, snapshot_every=1000)
    job = replace(job, links=LinkState(profile=fast, nodes={1: slow}))
    memory, _ = play(job, [BilinearGame(r, 300) for r in range(4)])
    bound = lower_bound(exchange_traffic(job.config, 4, 600), job.plans, 0.1, 1, overlap=False)
    assert bound.total_s == pytest.approx(2 * 4 * 600 * 8 / 50e3)
    assert bound.total_s <= memory.steps[1][-1].t_s / 24 <= 1.15 * bound.total_s + 0.1 + 0.01


profiles = st.builds(
    lambda rate, up, down: LinkProfile(down_bps=rate, up_bps=rate, up_delay_ms=up, down_delay_ms=down),
    st.sampled_from([50_000, 200_000, 10_000_000]),
    st.integers(0, 300),
    st.integers(0, 300),
)


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(st.sampled_from([GOSSIP, SERVER, RING]), st.integers(2, 5), st.data())
def test_no_run_on_any_links_beats_it(algorithm: dict[str, Any], world: int, data: Any) -> None:
    """Against the virtual clock: steady state over 30 steps, on links that differ in rate and delay both ways."""
    nodes = {rank: data.draw(profiles) for rank in range(world)}
    pairs = st.tuples(st.integers(0, world - 1), st.integers(0, world - 1)).filter(lambda edge: edge[0] != edge[1])
    rates = data.draw(st.dictionaries(pairs, profiles, max_size=world * world))
    exchange = {"segment_bytes": 64, "chunk_deadline_s": 900, "patience_s": 900, "round_deadline_s": 1000,
                "liveness_s": 2000}  # fmt: skip
    job = virtual_job(algorithm, world, 30, snapshot_every=30, exchange=exchange)
    job = replace(job, links=LinkState(nodes=nodes, rates=rates))
    memory, outcome = play(job, [BilinearGame(r, 50) for r in range(world)])
    assert outcome.status == "finished", outcome.reason
    step_s = memory.steps[0][-1].t_s / 30
    bound = lower_bound(exchange_traffic(job.config, world, 100), job.plans, 0.010, 1, overlap=False)
    # The first exchanges may still be under way when the last step ends at one node: two steps of slack.
    assert step_s * 32 / 30 >= 0.98 * bound.total_s


@pytest.mark.parametrize("overlap", [True, False])
def test_what_is_sent_behind_a_gradient_is_found_out(overlap: bool) -> None:
    """8 kB at 1 Mbit/s take 64 ms: behind a gradient of 100 ms they vanish, else they are waited for."""
    job = virtual_job(GOSSIP | {"overlap": overlap}, 2, 20, link={"rate": "1Mbit", "delay_ms": 1}, pace_ms=100)
    memory, _ = play(job, [Wide(rank) for rank in range(2)])
    stats = memory.steps[0]
    sent, compute_s = sum(s.codec_bytes for s in stats), sum(s.compute_s for s in stats)
    found_s = hidden_s(sent, job.plans[0].up_bps, compute_s, stats[-1].t_s) / len(stats)
    assert found_s == (pytest.approx(0.064, rel=0.05) if overlap else 0.0)
