"""The virtual fabric: its clock against closed forms, its determinism, and faults that strike on the dot."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gannet.fabrics.job import LinkChange
from gannet.fabrics.tcp_model import SEGMENT_OVERHEAD_BYTES
from gannet.fabrics.virtual.faults import Corrupt, Kill
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.state import LinkState
from gannet.node.exchange.mailbox import Header
from tests.support.games import BilinearGame, Wide
from tests.support.runs import Memory, play, virtual_job

ALGORITHMS: list[dict[str, Any]] = [
    {"name": "local"},
    {"name": "dp-oadam"},
    {"name": "dp-oadam", "overlap": True},
    {"name": "dposg", "rounds": 2},
    {"name": "cp-oadam", "collective": "server"},
    {"name": "cp-oadam", "collective": "ring"},
]


def seconds_a_step(algorithm: dict[str, Any], world: int, steps: int = 10) -> float:
    link = {"rate": "400kbit", "delay_ms": 25}
    job = virtual_job(algorithm, world, steps, link=link, exchange={"segment_bytes": 800})
    memory, outcome = play(job, [Wide(rank) for rank in range(world)])
    assert outcome.status == "finished", outcome.reason
    return memory.steps[0][-1].t_s / steps


SIZE = 2 * Wide.VALUES * 4
COMPUTE_S, DELAY_S, RATE = 0.010, 0.025, 0.4e6


def wire_s(payload_bytes: float, segments: int = 1) -> float:
    """Frames of 1514 bytes with 1448 of payload, and acknowledgements of 66 bytes for every two of them."""
    return (payload_bytes * 1514 / 1448 + segments * SEGMENT_OVERHEAD_BYTES) * (1 + 66 / 3028) * 8 / RATE


def test_gossip_takes_two_copies_and_one_delay() -> None:
    """Ring: both neighbours' copies leave one after the other; the second arrives a delay after it left."""
    expected = COMPUTE_S + 2 * wire_s(SIZE) + DELAY_S
    assert seconds_a_step({"name": "dp-oadam"}, 4) == pytest.approx(expected, rel=1e-3)


def test_overlap_hides_the_gradient() -> None:
    expected = 2 * wire_s(SIZE) + DELAY_S  # longer than the gradient
    assert seconds_a_step({"name": "dp-oadam", "overlap": True}, 4) == pytest.approx(expected, rel=1e-3)


def test_ring_all_reduce_hides_delays_behind_segments() -> None:
    """2(M−1) hops of 1/M each at full rate where the delay fits under a hop's transfer."""
    world = 4
    transfer = wire_s(2 * (world - 1) / world * SIZE, segments=2 * (world - 1) * 3)
    got = seconds_a_step({"name": "cp-oadam", "collective": "ring"}, world)
    assert COMPUTE_S + transfer < got < COMPUTE_S + transfer + 2 * DELAY_S + wire_s(800)
    hop_by_hop = COMPUTE_S + transfer + 2 * (world - 1) * DELAY_S
    assert got < 0.9 * hop_by_hop


def test_server_carries_all_copies_on_one_link() -> None:
    """M−1 copies up, M−1 down, the two directions overlapping segment by segment."""
    got = seconds_a_step({"name": "cp-oadam", "collective": "server"}, 4)
    bound = COMPUTE_S + wire_s(3 * SIZE, 30) + 2 * DELAY_S
    assert bound * 0.999 < got < bound + 5 * wire_s(800)


@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda a: "-".join(str(v) for v in a.values()))
def test_same_seed_same_bits_and_same_times_whatever_the_links(algorithm: dict[str, Any]) -> None:
    def run(link: dict[str, Any]) -> Memory:
        job = virtual_job(algorithm, 4, 8, link=link, exchange={"segment_bytes": 16})
        return play(job, [BilinearGame(rank, dimension=9, noise=0.1) for rank in range(4)])[0]

    slow, again, fast = run({"rate": "1Mbit", "delay_ms": 100}), run({"rate": "1Mbit", "delay_ms": 100}), run({})
    np.testing.assert_array_equal(slow.states(8), fast.states(8))
    np.testing.assert_array_equal(slow.states(8), again.states(8))
    assert [s.t_s for s in slow.steps[2]] == [s.t_s for s in again.steps[2]]
    if algorithm["name"] != "local":
        assert slow.steps[0][-1].t_s > fast.steps[0][-1].t_s


@pytest.mark.parametrize("algorithm", [a for a in ALGORITHMS if a["name"] in ("dp-oadam", "dposg")], ids=str)
@pytest.mark.parametrize("notice_s", [0.0, 3.0, 1e9])
def test_a_dead_peer_costs_gossip_no_step(algorithm: dict[str, Any], notice_s: float) -> None:
    """Killed in mid-run: the others finish all steps, whether told of it at once, later or never."""
    limits = {"chunk_deadline_s": 1.0, "patience_s": 1.0, "round_deadline_s": 2.0}
    job = virtual_job(algorithm, 5, 30, exchange=limits)
    memory, outcome = play(job, [BilinearGame(r) for r in range(5)], [Kill(2, at_s=0.5, notice_s=notice_s)])
    assert outcome.status == "finished"
    assert len(memory.steps[2]) < 30
    assert all(len(memory.steps[rank]) == 30 for rank in (0, 1, 3, 4))
    assert {peer for rank in (1, 3) for s in memory.steps[rank] for peer in s.missing} == {2}
    assert not any(s.missing for rank in (0, 4) for s in memory.steps[rank])  # they know no dead peer
    assert outcome.lost.keys() == {2}
    if notice_s == 1e9:  # nobody says so: patience and a quarter find the culprit, once for the whole run
        unhurt, _ = play(virtual_job(algorithm, 5, 30), [BilinearGame(r) for r in range(5)])
        extra_s = memory.steps[1][-1].t_s - unhurt.steps[1][-1].t_s
        assert 1.0 < extra_s < 1.25 + 0.2


@pytest.mark.parametrize("missing", [(1,), (2, 3), (1, 2, 3, 4)])
def test_weights_sum_to_one_whoever_is_missing(missing: tuple[int, ...]) -> None:
    """All nodes hold the same constant and gradients do nothing: whatever is mixed must be that constant."""
    job = virtual_job({"name": "dp-oadam"}, 5, 6, topology="complete", optimizer={"learning_rate": 1e-12})
    memory, _ = play(job, [Wide(r) for r in range(5)], [Kill(r, at_s=0.2) for r in missing])
    assert {peer for s in memory.steps[0] for peer in s.missing} == set(missing)
    np.testing.assert_allclose(memory.snapshots[6][0], 1.0, atol=1e-6)


@pytest.mark.parametrize("collective", ["server", "ring"])
def test_a_centralized_run_says_whom_it_cannot_do_without(collective: str) -> None:
    job = virtual_job({"name": "cp-oadam", "collective": collective}, 4, 30)
    _, outcome = play(job, [BilinearGame(r) for r in range(4)], [Kill(0, at_s=0.5)])
    assert outcome.status == "failed"
    assert "without rank 0" in outcome.reason and "gossip" in outcome.reason


def test_the_server_averages_over_those_who_are_there() -> None:
    job = virtual_job({"name": "cp-oadam", "collective": "server"}, 4, 30)
    memory, outcome = play(job, [BilinearGame(r, spread=1.0) for r in range(4)], [Kill(2, at_s=0.5)])
    assert outcome.status == "finished"
    np.testing.assert_array_equal(memory.snapshots[30][0], memory.snapshots[30][3])
    first = max(stats.step for stats in memory.steps[2]) + 3
    before, after = memory.snapshots[first - 1][0].numpy(), memory.snapshots[first][0].numpy()
    assert np.abs(after - before).max() < 0.1  # a sum over three divided by four would shrink x by a quarter
    assert np.abs(before).max() > 0.5


def not_a_number(header: Header, payload: memoryview) -> tuple[Header, memoryview]:
    import zlib
    from dataclasses import replace

    bad = np.frombuffer(payload, "<f4").copy()
    bad[0] = np.nan
    return replace(header, crc32=zlib.crc32(bad)), memoryview(bad).cast("B")


def flipped(header: Header, payload: memoryview) -> tuple[Header, memoryview]:
    bad = bytearray(payload)
    bad[1] ^= 4
    return header, memoryview(bad)


@pytest.mark.parametrize(("damage", "verdict"), [(not_a_number, "not_finite"), (flipped, "corrupt")])
def test_damaged_messages_are_refused_counted_and_never_used(damage: Any, verdict: str) -> None:
    """One node's messages go bad: the others go on with its weight on themselves, and stay finite."""
    job = virtual_job({"name": "dp-oadam"}, 4, 20)
    memory, outcome = play(job, [BilinearGame(r) for r in range(4)], [Corrupt(1, at_s=0.4, damage=damage)])
    assert outcome.status == "finished"
    assert memory.refusals and {r[:3] for r in memory.refusals} == {(1, 0, verdict), (1, 2, verdict)}
    assert np.isfinite(memory.states(20)).all()
    assert any(1 in s.missing for s in memory.steps[0]) and not any(s.missing for s in memory.steps[3])


def test_a_schedule_changes_the_links() -> None:
    job = virtual_job({"name": "dp-oadam"}, 4, 20)
    slow = LinkProfile.model_validate({"name": "slower", "rate": "10Mbit", "delay_ms": 500})
    changed = replace(job, changes=(LinkChange(0.35, LinkState(profile=slow)),))
    memory, _ = play(changed, [BilinearGame(r) for r in range(4)])
    times = np.diff([0] + [s.t_s for s in memory.steps[0]])
    assert times[:8].max() < 0.05 and times[-8:].min() > 0.5
    told = {"event": "links", "detail": "slower", "by": "schedule", "operation": "apply"}
    assert memory.link_lines == [{"t_s": 0.35, **told}]


def test_stopping_by_seconds_ends_every_node_at_the_same_step() -> None:
    job = virtual_job({"name": "dp-oadam", "every": 4}, 6, steps=None, stop_s=2.0)
    memory, outcome = play(job, [BilinearGame(r) for r in range(6)])
    assert outcome.status == "finished"
    ends = {stats[-1].step for stats in memory.steps.values()}
    assert len(ends) == 1 and ends.pop() % 4 == 0
    assert 2.0 <= memory.steps[0][-1].t_s < 2.5


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ({"loss_percent": 1}, "has loss 1%"),
        ({"delay_ms": 9, "jitter_ms": 3, "jitter_order": "reorder"}, "has jitter_order: reorder"),
    ],
)
def test_what_the_model_lacks_is_an_error_not_a_lie(link: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"models rate, delay and jitter in order only, .* {said}"):
        play(virtual_job({"name": "dp-oadam"}, 4, 2, link=link), [BilinearGame(r) for r in range(4)])


def test_a_thousand_nodes() -> None:
    """Links of nine kinds, mixed; the same twice, to the bit."""
    kinds = [
        LinkProfile(name=f"{up}/{down}M", up_bps=up * 10**6, down_bps=down * 10**6)
        for up in (2, 5, 9)
        for down in (3, 7, 20)
    ]
    uneven = {rank: kinds[kind] for rank, kind in enumerate(np.random.default_rng(0).integers(0, 9, 1000))}
    game = {"name": "game", "dimension": 4, "noise": 0.1, "padding": 500}
    job = virtual_job({"name": "dp-oadam"}, 1000, 3, topology="ring", snapshot_every=3, task=game)
    job = replace(job, links=LinkState(profile=kinds[0], nodes=uneven))
    (memory, outcome), (again, _) = play(job), play(job)
    assert outcome.status == "finished" and len(memory.snapshots[3]) == 1000
    assert [s.t_s for s in memory.steps[7]] == [s.t_s for s in again.steps[7]]
    np.testing.assert_array_equal(memory.states(3), again.states(3))


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("world", [16, 32])
def test_far_nodes_of_a_directed_graph_may_be_rounds_ahead(world: int, overlap: bool) -> None:
    """One edge of 800 ms among edges of 1 ms: nobody is refused, lost or late, and the bits stay the same."""
    near = LinkProfile.model_validate({"rate": "100Mbit", "delay_ms": 1})
    far = LinkProfile.model_validate({"rate": "100Mbit", "delay_ms": 800})
    algorithm = {"name": "dp-oadam", "overlap": overlap}
    job = virtual_job(algorithm, world, 40, topology="exponential", snapshot_every=40)
    skewed = replace(job, links=LinkState(profile=near, edges={(0, world - 1): far}))
    games = [[BilinearGame(r, noise=0.1) for r in range(world)] for _ in range(2)]
    (plain, _), (uneven, outcome) = play(job, games[0]), play(skewed, games[1])
    assert outcome.status == "finished" and not outcome.lost and not uneven.refusals
    assert not any(s.missing for stats in uneven.steps.values() for s in stats)
    np.testing.assert_array_equal(plain.states(40), uneven.states(40))


def test_one_hung_node_does_not_make_healthy_ones_lose_each_other() -> None:
    """A ring of 8: everybody stops when node 2 hangs, but only node 2 is given up."""
    limits = {"chunk_deadline_s": 1.0, "patience_s": 1.0, "round_deadline_s": 2.0}
    job = virtual_job({"name": "dp-oadam"}, 8, 40, exchange=limits)
    memory, outcome = play(job, [BilinearGame(r) for r in range(8)], [Kill(2, at_s=0.5, notice_s=1e9)])
    assert outcome.status == "finished" and outcome.lost.keys() == {2}
    assert not memory.refusals
    lost = {(rank, peer) for rank, stats in memory.steps.items() for s in stats for peer in s.missing}
    assert lost == {(1, 2), (3, 2)}


def test_deadlines_that_are_met_are_forgotten() -> None:
    from gannet.fabrics.virtual import fabric as virtual

    job = virtual_job({"name": "dp-oadam"}, 50, 60, snapshot_every=60)
    simulation = virtual._Simulation(job, Memory(), (), [BilinearGame(r) for r in range(50)], None)
    simulation.run()
    assert len(simulation.time) < 3000  # not the 6,000 receives that there were, with two deadlines each
