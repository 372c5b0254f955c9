"""MD-GAN against its reference; what travels, who may be lost, what is scored; and the GAN task in its parts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from gannet.experiment.bounds import lower_bound
from gannet.fabrics.virtual.fabric import run_virtual
from gannet.fabrics.virtual.faults import Kill
from gannet.ledger.snapshots import comparable
from gannet.metrics.consensus import Consensus
from gannet.netem.links.profile import LinkProfile
from gannet.netem.links.state import LinkState
from gannet.node.algorithms.md_gan import SWAP_STREAM
from gannet.node.data.config import DataConfig
from gannet.node.data.datasets import load_shard
from gannet.node.methods.md_gan import MdGanConfig
from gannet.node.tasks import build_sampler
from gannet.node.tasks.base import SplitTask
from gannet.node.traffic.exchange import exchange_edges, exchange_traffic, largest_payload, message_bytes
from gannet.spec.run_spec import RunSpec
from tests.reference.md_gan_reference import md_gan
from tests.reference.oadam_reference import OptimisticAdam
from tests.support.games import BilinearGame
from tests.support.gan import LOSSES, Loss, Reference, minibatch, small_task, trained
from tests.support.loopback import over_grpc
from tests.support.runs import Memory, play, virtual_job
from tests.support.split_game import DATA, LATENT, VALUES, SplitGame

OPTIMIZER = {"learning_rate": 0.02, "beta1": 0.5, "beta2": 0.9, "epsilon": 0.5}
BATCH = 8
STEPS = 12


def run(
    world: int, steps: int = STEPS, faults: Any = (), codec: str = "fp32", **algorithm: Any
) -> tuple[Memory, Any]:
    job = job_of(world, steps, codec, **algorithm)
    return play(job, [SplitGame(rank, BATCH) for rank in range(world)], faults)


def job_of(world: int, steps: int = STEPS, codec: str = "fp32", **algorithm: Any) -> Any:
    limits = {"chunk_deadline_s": 1.0, "patience_s": 1.0, "round_deadline_s": 2.0, "window_rounds": 1}
    settings = {"data": DATA, "batch": BATCH, "optimizer": OPTIMIZER, "exchange": limits}
    return virtual_job({"name": "md-gan", **algorithm}, world, steps, codec=codec, **settings)


def states_of(memory: Memory, steps: int = STEPS) -> np.ndarray:
    return np.stack([memory.states(step) for step in range(1, steps + 1)])


def order(number: int, workers: int) -> list[int]:
    """The cycle that all nodes draw alike for a swap in that round; workers from 0."""
    return list(np.random.default_rng([1, SWAP_STREAM, number]).permutation(workers))


@pytest.mark.parametrize(
    ("world", "batches", "local_steps", "swap_every"),
    [(2, None, 1, None), (4, 1, 1, None), (4, 2, 1, 3), (5, 3, 2, 1), (6, 5, 3, 2), (3, 2, 1, 4)],
)
def test_the_papers_algorithm(world: int, batches: int | None, local_steps: int, swap_every: int | None) -> None:
    memory, outcome = run(world, batches=batches, local_steps=local_steps, swap_every=swap_every)
    assert outcome.status == "finished", outcome.reason
    assert not memory.refusals
    games = [SplitGame(rank, BATCH) for rank in range(world)]
    x = games[0].initial().numpy().astype(np.float64)

    def cycle(step: int) -> list[int] | None:
        swap = swap_every is not None and step % swap_every == 0
        return order(step + step // swap_every, world - 1) if swap and swap_every else None

    generators, critics = md_gan(
        (x[:128].reshape(VALUES, LATENT), x[128:192], x[192:256], x[256]),
        games[0].noise,
        [game.real for game in games[1:]],
        OptimisticAdam(0.02, 0.5, 0.9, 0.5).step,
        [OptimisticAdam(0.02, 0.5, 0.9, 0.5).step for _ in games[1:]],
        batches or 1,
        local_steps,
        cycle,
        STEPS,
    )
    mine = states_of(memory)
    np.testing.assert_allclose(mine[:, 0, :192], generators, rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(mine[:, 1:, 192:257], critics, rtol=2e-4, atol=2e-5)
    # The rest of each state is what it was at first; the running statistics are the server's.
    assert (mine[:, 0, 192:257] == x[192:257].astype(np.float32)).all()
    assert (mine[:, 1:, :192] == x[:192].astype(np.float32)).all() and (mine[:, 1:, 257] == 0).all()
    np.testing.assert_array_equal(mine[:, 0, 257], (batches or 1) * np.arange(1, STEPS + 1))


def test_a_swap_takes_every_discriminator_to_another_worker() -> None:
    for workers in (2, 3, 7):
        for number in range(20):
            cycle = order(number, workers)
            assert sorted(cycle) == list(range(workers))
            assert all(a != b for a, b in zip(cycle, cycle[1:] + cycle[:1], strict=True))


def test_so_many_minibatches_as_the_paper_has() -> None:
    """k = ⌊ln N⌋ for N workers, and one where that is none."""
    config = MdGanConfig(name="md-gan")
    assert [config.batch_count(1 + workers) for workers in (1, 2, 7, 8, 20, 21, 54, 55)] == [1, 1, 1, 2, 2, 3, 3, 4]


@pytest.mark.parametrize(("codec", "bytes_a_value"), [("fp32", 4), ("fp16", 2), ("bf16", 2)])
@pytest.mark.parametrize(("batches", "swap_every"), [(1, None), (2, 4), (3, 1)])
def test_bytes_and_time_are_known_before(
    codec: str, bytes_a_value: int, batches: int, swap_every: int | None
) -> None:
    world = 5
    job = job_of(world, codec=codec, batches=batches, swap_every=swap_every)
    games = [SplitGame(rank, BATCH) for rank in range(world)]
    memory, outcome = play(job, games)
    assert outcome.status == "finished", outcome.reason
    traffic = exchange_traffic(job.config, world, games[0].size, 0, games[0].layout)
    samples, critic = bytes_a_value * BATCH * VALUES, bytes_a_value * 65
    swaps = STEPS // swap_every if swap_every else 0
    down = (1 if batches == 1 else 2) * samples
    sent = [sum(stats.codec_bytes for stats in memory.steps[rank]) for rank in range(world)]
    assert sent == [STEPS * 4 * down, *[STEPS * samples + swaps * critic] * 4]
    assert all(abs(a - STEPS * b) <= STEPS for a, b in zip(sent, traffic.sent, strict=True))  # means in whole bytes
    assert sum(traffic.sent) == sum(traffic.received) and traffic.received[0] == 4 * samples
    star = {(0, rank) for rank in range(1, 5)} | {(rank, 0) for rank in range(1, 5)}
    between = {(a, b) for a in range(1, 5) for b in range(1, 5) if a != b} if swap_every else set()
    assert set(traffic.edges) == set(exchange_edges(job.config, world)) == star | between
    assert message_bytes(job.config, games[0].layout) == 2 * samples + critic
    assert largest_payload(job.config, games[0].size, games[0].layout) == samples > bytes_a_value * games[0].size
    bound = lower_bound(traffic, job.plans, 0.005, 1.0, overlap=False)  # half a pace, on each side of the links
    assert bound.total_s <= max(of[-1].t_s for of in memory.steps.values()) / STEPS * 1.0001


def test_a_step_takes_one_pace_on_links_that_take_no_time() -> None:
    """The four parts of a gradient follow one another, a quarter of the pace each."""
    links = LinkState(profile=LinkProfile.model_validate({"rate": "100Gbit", "delay_ms": 0}))
    for local_steps in (1, 5):
        job = replace(job_of(3, 10, local_steps=local_steps), links=links)
        memory, _ = play(job, [SplitGame(rank, BATCH) for rank in range(3)])
        assert memory.steps[0][-1].t_s / 10 == pytest.approx(0.010 * (3 + local_steps) / 4, rel=0.01)
        assert memory.steps[0][-1].compute_s == pytest.approx(0.005)
        assert memory.steps[1][-1].compute_s == pytest.approx(0.0025 * (1 + local_steps))


@pytest.mark.parametrize(("batches", "swap_every"), [(1, None), (2, 1), (2, 5)])
def test_the_same_bits_on_uneven_links(batches: int, swap_every: int | None) -> None:
    world = 6
    near, far = (LinkProfile.model_validate({"rate": "100Mbit", "delay_ms": ms}) for ms in (1, 400))
    job = job_of(world, batches=batches, swap_every=swap_every)
    for slow in (exchange_edges(job.config, world)[0], exchange_edges(job.config, world)[-1]):
        skewed = replace(job, links=LinkState(profile=near, edges={slow: far}))
        games = [[SplitGame(r, BATCH) for r in range(world)] for _ in range(2)]
        (plain, _), (uneven, outcome) = play(job, games[0]), play(skewed, games[1])
        assert outcome.status == "finished" and not outcome.lost and not uneven.refusals
        assert not any(s.missing for stats in uneven.steps.values() for s in stats)
        np.testing.assert_array_equal(plain.states(STEPS), uneven.states(STEPS))


@pytest.mark.parametrize(("codec", "batches", "swap_every"), [("fp32", 1, None), ("fp16", 2, 1), ("fp32", 2, 5)])
def test_the_same_bits_and_bytes_over_grpc(codec: str, batches: int, swap_every: int | None) -> None:
    job = job_of(4, codec=codec, batches=batches, swap_every=swap_every)
    patient = {"chunk_deadline_s": 30.0, "patience_s": 30.0, "round_deadline_s": 60.0, "chunk_bytes": 1000}
    exchange = job.config.exchange.model_copy(update=patient)
    job = replace(job, config=job.config.model_copy(update={"exchange": exchange}))
    games = [[SplitGame(r, BATCH) for r in range(4)] for _ in range(2)]
    (memory, _), (states, sent, refused) = play(job, games[0]), over_grpc(job, games[1])
    assert not refused
    np.testing.assert_array_equal(states, memory.states(STEPS))
    assert sent == [sum(stats.codec_bytes for stats in memory.steps[rank]) for rank in range(4)]


@pytest.mark.parametrize("notice_s", [0.0, 1e9])
@pytest.mark.parametrize("at_s", [0.3, 0.353])
def test_the_server_goes_on_without_a_lost_worker(at_s: float, notice_s: float) -> None:
    """And the generator still comes nearer to the middle of the others' samples."""
    steps = 200
    memory, outcome = run(5, steps, [Kill(2, at_s, notice_s)], swap_every=2, batches=2)
    assert outcome.status == "finished", outcome.reason
    assert outcome.lost.keys() == {2}
    assert all(len(memory.steps[rank]) == steps for rank in (0, 1, 3, 4))
    assert {peer for rank in (0, 1, 3, 4) for s in memory.steps[rank] for peer in s.missing} == {2}
    games = [SplitGame(rank, BATCH) for rank in range(5)]
    middle = np.mean([games[rank]._centre for rank in (1, 3, 4)], axis=0)
    begin, end = (state[128:192] for state in (games[0].initial().numpy(), memory.states(steps)[0]))
    assert np.linalg.norm(end - middle) < 0.5 * np.linalg.norm(begin - middle)


def test_without_the_server_or_without_any_worker_there_is_no_run() -> None:
    _, outcome = run(4, 200, [Kill(0, 0.3)])
    assert outcome.status == "failed" and "without rank 0" in outcome.reason and "gossip" in outcome.reason
    _, outcome = run(3, 200, [Kill(1, 0.3), Kill(2, 0.5)])
    assert outcome.status == "failed" and "no worker left" in outcome.reason


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"nodes": 1}, "2 nodes at least"),
        ({"task": {"critic_steps": 5}}, "local_steps: 5"),
        ({"codec": "qsgd-8bit"}, "images and discriminators"),
        ({"algorithm": {"name": "md-gan", "batches": 4}}, "3 workers cannot use 4 minibatches"),
    ],
    ids=str,
)
def test_what_it_cannot_run_with_is_said_before(change: dict[str, Any], what: str) -> None:
    spec = {"algorithm": {"name": "md-gan"}, "nodes": 4, "stop": {"steps": 2}, "topology": "exponential"}
    assert RunSpec.model_validate(spec).nodes == 4
    with pytest.raises(ValueError, match=what):
        RunSpec.model_validate(spec | change)


def test_a_task_in_one_piece_is_refused() -> None:
    with pytest.raises(ValueError, match="BilinearGame is none"):
        play(job_of(3), [BilinearGame(rank) for rank in range(3)])
    assert isinstance(small_task("hinge"), SplitTask) and isinstance(SplitGame(0), SplitTask)


def test_the_shards_are_the_workers_alone() -> None:
    algorithm = MdGanConfig(name="md-gan")
    assert [algorithm.shard_of(rank, 4) for rank in range(4)] == [(0, 3), (0, 3), (1, 3), (2, 3)]
    sizes = [len(load_shard(DataConfig(), *algorithm.shard_of(rank, 4), 1)) for rank in (1, 2, 3)]
    assert sum(sizes) == 5000


def test_the_servers_generator_is_what_is_scored() -> None:
    game = SplitGame(0)
    states = {rank: torch.full((game.size,), float(rank + 1)) for rank in (2, 0, 1)}
    x = comparable(states, game.players, "discriminator")
    assert x.shape == (3, game.size)
    assert (x[:, :192] == 1).all() and (x[:, 257] == 1).all()  # the generator and its running statistics
    np.testing.assert_array_equal(x[:, 200], [2.5, 2, 3])  # no discriminator on the server: the workers' mean
    assert (comparable(states, game.players, None).mean(0) == 2).all()
    agreement = Consensus(3, game.players, "discriminator")
    (seen,) = [s for rank in (0, 1, 2) for s in agreement.add(rank, 5, 1.0, states[rank])]
    assert seen.players["generator"] == (0, 0) and seen.players["discriminator"][0] == pytest.approx(65 / 6)
    del states[0]
    lost = comparable(states, game.players, "discriminator")
    assert lost[:, :192].isnan().all() and (lost[:, 200] == torch.tensor([2.0, 3.0])).all()


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("settings", [{}, {"generator_norm": "none"}, {"batch_norm_buffers": "absent"}], ids=str)
def test_a_gan_in_parts_has_the_gradients_of_a_gan(loss: Loss, settings: dict[str, str]) -> None:
    """Both players' against plain modules and autograd; in the parts' order, with the random numbers they draw."""
    server, worker = small_task(loss, rank=0, **settings), small_task(loss, rank=1, **settings)
    x = trained(small_task(loss, **settings))
    reference = Reference(server, x)
    twin = torch.Generator()
    twin.set_state(server.state()["random"])
    noise = [torch.randn(6, 5, generator=twin).double() for _ in range(2)]
    made = server.fakes(x, 2)
    assert made.shape == (2, server.sample_values) and made.dtype == torch.float32
    generated = [reference.generator(z) for z in noise]
    for mine, theirs in zip(made, generated, strict=True):
        np.testing.assert_allclose(mine, theirs.detach().flatten(), atol=1e-5)
    slopes = [worker.slopes(x, samples) for samples in made]
    expected = [-reference.critic(samples).mean() for samples in generated]
    np.testing.assert_allclose([loss for _, loss in slopes], [loss.item() for loss in expected], atol=1e-5)
    g = server.generator_gradient(torch.stack([slope for slope, _ in slopes]) / 2)
    wanted = torch.autograd.grad(sum(expected) / 2, list(reference.generator.parameters()))
    where = server.players["generator"]
    np.testing.assert_allclose(g.field[where], torch.cat([w.flatten() for w in wanted]), rtol=1e-3, atol=1e-5)
    assert g.active == ("generator",) and not g.field[server.players["discriminator"]].any()
    if settings:
        assert g.buffers is None
    else:
        after = torch.cat([buffer.flatten() for buffer in reference.generator.buffers() if buffer.dim()])
        np.testing.assert_allclose(g.buffers, after, rtol=1e-4, atol=1e-5)
    real, _, _ = minibatch(worker)
    twin.set_state(worker.state()["random"])
    torch.randint(40, (6,), generator=twin)
    between = torch.rand(6, generator=twin).view(-1, 1, 1, 1).double()
    critic = worker.critic_gradient(x, made[0])
    again = Reference(worker, x)  # its running statistics are still those of x
    loss_there = again.critic_loss(real, noise[0], between)
    wanted = torch.autograd.grad(loss_there, list(again.critic.parameters()))
    where = worker.players["discriminator"]
    np.testing.assert_allclose(critic.field[where], torch.cat([w.flatten() for w in wanted]), rtol=1e-3, atol=1e-4)
    assert critic.losses["discriminator"] == pytest.approx(loss_there.item(), rel=1e-4, abs=1e-4)
    assert critic.active == ("discriminator",) and critic.buffers is None
    assert not critic.field[worker.players["generator"]].any()
    with pytest.raises(ValueError, match="the last fakes were 0"):
        server.generator_gradient(made)


def test_a_gan_trains_so() -> None:
    """On real images: the server's generator moves, the workers' discriminators move, and nothing else."""
    job = virtual_job(
        {"name": "md-gan", "swap_every": 2, "batches": 2},
        4,
        4,
        task={"width": 4, "latent": 8, "batch_norm_buffers": "mixed"},
        snapshot_every=4,
    )
    memory = Memory()
    outcome = run_virtual(job, memory)
    assert outcome.status == "finished", outcome.reason
    sampler = build_sampler(job.config.task, job.config.data)
    moved = torch.from_numpy(memory.states(4) != memory.states(0)).float()
    generator, critic = (moved[:, sampler.players[player]].mean(1) for player in ("generator", "discriminator"))
    buffers = moved[:, sampler.buffers].mean(1)
    assert generator[0] > 0.9 and buffers[0] > 0.9 and not generator[1:].any() and not buffers[1:].any()
    assert critic[0] == 0 and (critic[1:] > 0.9).all()
    assert memory.steps[1][-1].loss.keys() == {"generator", "discriminator"}
