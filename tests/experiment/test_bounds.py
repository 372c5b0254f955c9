"""The lower bound: the issue's formula where links are alike, and never above what the links can do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiment.bounds import hidden_s, lower_bound
from netem.profile import LinkProfile
from netem.state import LinkState
from node.traffic import exchange_traffic
from tests.support.games import BilinearGame, Wide
from tests.support.runs import play, virtual_job

GOSSIP, SERVER, RING = ({"name": "dp-oadam"}, {"name": "cp-oadam"}, {"name": "cp-oadam", "collective": "ring"})


def test_on_equal_links_it_is_bytes_over_rate_plus_delay() -> None:
    job = virtual_job(GOSSIP, 4, link={"rate": "10Mbit", "delay_ms": 25})
    traffic = exchange_traffic(job.config, 4, 250_000)  # 1 MB, two copies
    bound = lower_bound(traffic, job.plans, compute_s=0.1, exchanges_per_step=1, overlap=False)
    assert bound.total_s == pytest.approx(0.1 + 2 * 1.0 * 8 / 10 + 0.025)
    assert lower_bound(traffic, job.plans, 5.0, 1, overlap=True).total_s == 5.0


profiles = st.builds(
    lambda rate, up, down: LinkProfile(down_bps=rate, up_bps=rate, up_delay_ms=up, down_delay_ms=down),
    st.sampled_from([50_000, 200_000, 10_000_000]),
    st.integers(0, 300),
    st.integers(0, 300),
)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from([GOSSIP, SERVER, RING]), st.integers(2, 5), st.data())
def test_no_run_on_any_links_beats_it(algorithm: dict[str, Any], world: int, data: Any) -> None:
    """Against the virtual clock: steady state over 30 steps, on links that differ in rate and delay both ways."""
    nodes = {rank: data.draw(profiles) for rank in range(world)}
    exchange = {"segment_bytes": 64, "chunk_deadline_s": 900, "patience_s": 900, "round_deadline_s": 1000,
                "liveness_s": 2000}  # fmt: skip
    job = virtual_job(algorithm, world, 30, snapshot_every=30, exchange=exchange)
    job = replace(job, links=LinkState(nodes=nodes))
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
