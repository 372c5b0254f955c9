"""DPOSG's theorem: the Minty game is what it asks for, and the algorithm stays under its bound."""

from __future__ import annotations

from math import ceil, log

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gannet.node.tasks.games.minty import MintyGame
from gannet.node.topologies.rates import second_eigenvalue
from gannet.node.topologies.topology import Topology
from gannet.node.training.dposg_theorem import rounds_needed, stationarity_bound
from tests.support.runs import play, virtual_job

points = st.lists(st.floats(-50, 50, width=32), min_size=8, max_size=8).map(torch.tensor)
games = st.builds(
    MintyGame,
    st.just(0),
    dimension=st.just(4),
    curvature=st.floats(0.1, 4),
    coupling=st.floats(-3, 3),
    seed=st.integers(0, 5),
)


@given(games, points)
def test_zero_is_a_minty_solution(game: MintyGame, x: torch.Tensor) -> None:
    """⟨g(x), x − x*⟩ ≥ 0 everywhere, and more than 0 but at x*."""
    inner = float(game.field(x).double() @ x.double())
    assert inner >= -1e-5 * float(x.norm()) ** 2 - 1e-12
    if 0.1 <= float(x.norm()) <= 20:
        assert inner > 0 and float(game.field(x).norm()) > 0


@given(games, st.integers(0, 7), points)
def test_it_is_not_monotone(game: MintyGame, place: int, x: torch.Tensor) -> None:
    """⟨g(x) − g(y), x − y⟩ < 0 for x, y that differ in one value about ±√3, whatever the others are."""
    y = x.clone()
    x[place], y[place] = 1.5, 2.0
    assert float((game.field(x) - game.field(y)) @ (x - y)) < 0


@given(games, points, points)
def test_the_field_is_the_games_and_lipschitz(game: MintyGame, x: torch.Tensor, y: torch.Tensor) -> None:
    """[∇_u, −∇_v] of the value by autograd, and ‖g(x) − g(y)‖ ≤ L ‖x − y‖."""
    at = x.clone().requires_grad_()
    game.value(at).backward()
    assert at.grad is not None
    slopes = torch.cat([at.grad[:4], -at.grad[4:]])
    torch.testing.assert_close(slopes, game.field(x), rtol=1e-4, atol=1e-4)
    apart = float((game.field(x) - game.field(y)).norm())
    assert apart <= game.lipschitz * float((x - y).norm()) * (1 + 1e-5) + 1e-4


@pytest.mark.parametrize("batch", [1, 4])
def test_noise_has_the_variance_it_says_and_ranks_have_their_own(batch: int) -> None:
    nodes = [MintyGame(rank, 16, noise=3.0, batch=batch) for rank in range(2)]
    x = nodes[0].initial()
    assert torch.equal(x, nodes[1].initial()) and float(x.norm()) == pytest.approx(4)
    noise = np.stack([[(node.gradient(x).field - node.field(x)).numpy() for _ in range(800)] for node in nodes])
    assert (noise**2).sum(axis=2).mean() == pytest.approx(9 / batch, rel=0.05)
    assert abs((noise[0] * noise[1]).sum(axis=1).mean()) < 0.5 / batch
    state = nodes[0].state()
    after = nodes[0].gradient(x).field
    nodes[0].load_state(state)
    assert torch.equal(nodes[0].gradient(x).field, after)


def test_what_is_no_game_says_so() -> None:
    with pytest.raises(ValueError, match="curvature above 0, got 4, 1 and -1"):
        MintyGame(0, curvature=-1)


def test_rounds_and_bound_are_the_papers_formulas() -> None:
    """By hand for M = 4, m = 1, G = 1, σ = 2, ρ = 1/3: √(4 + 4) = 2√2, so t ≥ ln(1 + √2)/ln 3."""
    assert rounds_needed(1 / 3, 4, 1, 1.0, 2.0) == pytest.approx(log(1 + 2**0.5) / log(3))
    assert rounds_needed(0.0, 4, 1, 1.0, 2.0) == 0
    assert stationarity_bound(100, 4, 4, 0.5, 2.0, 3.0, 1.0, 2.0) == pytest.approx(
        8 * (9 / 25 + 20 * 4 / 16 + 48 * (4 + 4) / 4)
    )
    # A round brings the nodes ρ nearer, so t rounds leave ρ^t ≤ 1/(1 + M √…/(4σ)).
    assert (1 / 3) ** rounds_needed(1 / 3, 8, 2, 5.0, 1.0) == pytest.approx(1 / (1 + 8 * (401**0.5) / 4))


class Watched(MintyGame):
    """Remembers where its gradient was taken: Z_0, Z_1, …"""

    def __init__(self, rank: int, noise: float, start: float) -> None:
        super().__init__(rank, 8, noise=noise, start=start)
        self.visited: list[torch.Tensor] = []

    def gradient(self, x: torch.Tensor):  # type: ignore[no-untyped-def]
        self.visited.append(x)
        return super().gradient(x)


def mean_square(world: int, steps: int, noise: float, start: float, rate: float = 0.05) -> tuple[float, float]:
    """((1/N) Σ ‖g(z̄_k)‖², the theorem's bound) of DPOSG on a ring with the rounds that it asks for."""
    nodes = [Watched(rank, noise, start) for rank in range(world)]
    largest = float(nodes[0].field(nodes[0].initial()).norm()) + noise
    rho = second_eigenvalue(Topology("ring", world).mixing_matrix())
    rounds = max(1, ceil(rounds_needed(rho, world, 1, largest, noise)))
    job = virtual_job({"name": "dposg", "rounds": rounds}, world, steps, optimizer={"learning_rate": rate})
    _, outcome = play(job, nodes)
    assert outcome.status == "finished"
    z = torch.stack([torch.stack(node.visited) for node in nodes])[:, 1:]
    squares = [float(nodes[0].field(mean).norm()) ** 2 for mean in z.mean(dim=0)]
    diameter = 2 * float(z.norm(dim=2).max())
    bound = stationarity_bound(steps, world, 1, rate, noise, start, diameter, nodes[0].lipschitz)
    return float(np.mean(squares)), bound


def test_dposg_stays_under_the_theorems_bound_and_falls_with_iterations_and_workers() -> None:
    """From a start where the game is neither convex nor concave; and from x*, where noise alone is left."""
    short, bound = mean_square(4, 60, noise=1.0, start=8.0)
    assert short < bound
    long, bound = mean_square(4, 240, noise=1.0, start=8.0)
    assert long < bound and long < short / 2.5  # 1/N would be a quarter
    alone, four = mean_square(1, 240, noise=4.0, start=0.0)[0], mean_square(4, 240, noise=4.0, start=0.0)[0]
    assert 2.5 < alone / four < 6  # 1/√M would be 2, 1/M is 4
