"""The games of a spec: their saddle points are reached, by optimism and not without; lost modes are counted right."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gannet.node.config import OptimizerConfig
from gannet.node.data.config import DataConfig
from gannet.node.tasks import build_sampler, build_task, needs_data
from gannet.node.tasks.base import Evaluates
from gannet.node.tasks.config import GameConfig, MintyConfig, MixtureConfig, TaskSetting
from gannet.node.tasks.custom.base import Context
from gannet.node.tasks.games.mixture import Mixture, MixtureTask, count_modes, mixture, wasserstein
from gannet.node.training.optimizers import OptimisticSG


@pytest.mark.parametrize(
    "config",
    [
        GameConfig(name="game", dimension=8),
        GameConfig(name="game", dimension=8, curvature=0.3),
        MintyConfig(name="minty", dimension=8, curvature=0.5),
    ],
    ids=["bilinear", "quadratic", "minty"],
)
def test_optimism_reaches_the_saddle_point(config: TaskSetting) -> None:
    """θ ← θ − 2η g_t + η g_{t−1}; the score, as whoever scores takes it, falls to a thousandth."""
    task = build_task(config, None, 1, 2, seed=3, batch=1)
    scored = build_sampler(config, DataConfig())
    assert isinstance(scored, Evaluates) and not needs_data(config)
    x = task.initial()
    before = scored.evaluate(x)
    optimizer = OptimisticSG(task, OptimizerConfig(learning_rate=0.2), x)
    for _ in range(600):
        x = optimizer.step(x, task.gradient(x))
    assert scored.evaluate(x).score < 1e-3 * before.score


def test_plain_descent_ascent_leaves_the_bilinear_saddle_point() -> None:
    """‖x_{k+1}‖² = (1 + η²) ‖x_k‖², exactly."""
    task = build_task(GameConfig(name="game", dimension=8), None, 0, 1, seed=3, batch=1)
    scored = build_sampler(GameConfig(name="game", dimension=8), DataConfig())
    assert isinstance(scored, Evaluates)
    x = task.initial()
    before = scored.evaluate(x).score
    for _ in range(100):
        x = x - 0.2 * task.gradient(x).field
    assert scored.evaluate(x).score == pytest.approx(before * 1.04**50, rel=1e-3)


def test_whoever_scores_a_minty_game_has_the_game_that_was_trained() -> None:
    """‖g‖ depends on the matrix, which must not be another for another seed."""
    config = MintyConfig(name="minty", dimension=8)
    nodes = [build_task(config, None, 0, 1, seed, 1) for seed in (1, 2)]
    scored = build_sampler(config, DataConfig())
    assert isinstance(scored, Evaluates)
    for node in nodes:
        x = node.initial()
        told = scored.evaluate(x)
        assert told.score == pytest.approx(float(node.gradient(x).field.norm()), rel=1e-5)
        assert told.more == {"distance": pytest.approx(4.0)}


def naive(samples: np.ndarray, centres: np.ndarray, deviation: float) -> tuple[int, float]:
    """PacGAN's words, point by point."""
    found, good = set(), 0
    for point in samples:
        distances = [float(np.hypot(*(point - centre))) for centre in centres]
        if min(distances) <= 3 * deviation:
            good += 1
            found.add(int(np.argmin(distances)))
    return len(found), good / len(samples)


@pytest.mark.parametrize(("name", "modes"), [("ring-8", 8), ("grid-25", 25)])
def test_modes_are_counted_as_a_naive_count_does(name: str, modes: int) -> None:
    of = mixture(name)
    stream = torch.Generator().manual_seed(1)
    assert len(of.centres) == modes
    every = of.centres.repeat(4, 1) + 0.9 * of.deviation * torch.randn(4 * modes, 2, generator=stream).clamp(-2, 2)
    assert count_modes(every, of) == (modes, 1.0)
    some = of.centres[: modes // 2].repeat(4, 1)
    wide = some + 3 * of.deviation * torch.randn(some.shape, generator=stream)
    assert count_modes(wide, of) == naive(wide.double().numpy(), of.centres.double().numpy(), of.deviation)
    assert 0.1 < count_modes(wide, of)[1] < 0.9
    assert count_modes(torch.full((9, 2), 0.4), of) == (0, 0.0)


def test_the_mixtures_are_the_papers() -> None:
    """8 on the unit circle; 25 at (−4 + 2i, −4 + 2j)."""
    ring, grid = mixture("ring-8"), mixture("grid-25")
    angles = [np.pi / 4 * i for i in range(8)]
    np.testing.assert_allclose(ring.centres.numpy(), [[np.cos(a), np.sin(a)] for a in angles], atol=1e-6)
    assert grid.centres.tolist() == [[-4 + 2 * i, -4 + 2 * j] for i, j in itertools.product(range(5), repeat=2)]
    assert (ring.deviation, grid.deviation) == (0.01, 0.05)


def test_the_distance_is_that_of_the_best_matching() -> None:
    """Against all 720 matchings of six points; a shift by d has the distance d."""
    a, b = torch.randn(2, 6, 2, generator=torch.Generator().manual_seed(2))
    costs = torch.cdist(a, b).numpy()
    best = min(np.mean([costs[i, j] for i, j in enumerate(order)]) for order in itertools.permutations(range(6)))
    assert wasserstein(a, b) == pytest.approx(best, rel=1e-6)
    assert wasserstein(a, a + torch.tensor([3.0, 4.0])) == pytest.approx(5, rel=1e-6)


def task_of(rank: int = 0, world: int = 1, **settings: object) -> MixtureTask:
    config = MixtureConfig.model_validate({"name": "mixture", "width": 16, "samples": 400, **settings})
    return MixtureTask(config, Context(rank, world, 1, 64))


def test_a_perfect_generator_scores_near_zero_and_a_lost_mode_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_of()
    points = task.draw(400, torch.Generator().manual_seed(3))
    monkeypatch.setattr(task, "points", lambda n: points)
    whole = task.evaluate(task.initial())
    assert whole.more["modes_found"] == 8 and whole.more["modes_lost"] == 0
    assert whole.more["high_quality_percent"] == pytest.approx(98.9, abs=1.5)  # 1 − e^(−9/2), three deviations
    assert whole.images is not None and whole.images.shape == (1, 3, 128, 128)
    lost = points[torch.cdist(points, task.mixture.centres[:1]).squeeze(1) > 0.5]
    points = torch.cat([lost, lost])[:400]
    fewer = task.evaluate(task.initial())
    assert fewer.more["modes_lost"] == 1 and fewer.score > whole.score + 0.02


def test_modes_apart_belong_to_one_node_each() -> None:
    drawn = [
        {int(i) for i in torch.cdist(task.minibatch(), task.mixture.centres).argmin(1)}
        for task in (task_of(rank, 3, sharing="apart") for rank in range(3))
    ]
    assert drawn == [{0, 3, 6}, {1, 4, 7}, {2, 5}]
    with pytest.raises(ValueError, match=r"task\.sharing: .* one of 8 modes at least, and there are 9 nodes"):
        task_of(8, 9, sharing="apart")


def test_losses_are_the_original_gans() -> None:
    """−log D(G(z)); −log D(x) − log(1 − D(G(z))), with D = σ of the critic's score."""
    task = task_of()
    task.model.load(task.initial())
    real = task.minibatch()
    task.noise = lambda *shape: torch.ones(shape)  # type: ignore[method-assign]
    fake = task.points(64)
    chance = [torch.sigmoid(task.discriminator(points / 1.5)) for points in (real, fake)]
    losses = task.losses(real)
    assert losses["generator"].item() == pytest.approx(-chance[1].log().mean().item(), rel=1e-5)
    ones = torch.ones(64, 1)
    wanted = F.binary_cross_entropy(chance[0], ones) + F.binary_cross_entropy(chance[1], 0 * ones)
    assert losses["discriminator"].item() == pytest.approx(wanted.item(), rel=1e-5)


def test_a_picture_shows_the_centres_and_the_points() -> None:
    task = task_of()
    empty = task.picture(torch.zeros(0, 2))
    assert (empty < 1).all(0).sum() == 8 * 25  # each centre a square of 5 × 5 pixels
    one = task.picture(torch.tensor([[0.0, 0.0], [9.0, 9.0]]))
    where = (one != empty).any(0).nonzero().tolist()
    assert where == [[63, 64]]
    assert isinstance(task.mixture, Mixture)
