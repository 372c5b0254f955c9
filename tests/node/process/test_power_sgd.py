"""PowerSGD of players that take turns, by PyTorch's hook over real gloo, against one PowerSGD for each in NumPy."""

from __future__ import annotations

import numpy as np
import torch

from gannet.node.config import ExchangeConfig
from gannet.node.layout import TensorSpec
from gannet.node.methods.ddp import DdpConfig
from tests.reference.powersgd_reference import PowerSGD
from tests.support.gloo_world import free_address, in_a_world

SHAPE, VALUES, BIAS = (12, 10), 120, 4
G, T, D = "generator", "teacher", "discriminator"
LAYOUT = (
    TensorSpec("generator.weight", SHAPE, 0, G),
    TensorSpec("generator.bias", (BIAS,), VALUES, G),
    TensorSpec("teacher.weight", (4, 3, 2, 5), 124, T),
    TensorSpec("discriminator.weight", SHAPE, 244, D),
)
WHERE = {G: slice(0, VALUES), T: slice(124, 244), D: slice(244, 364)}
SIZE, START, WORLD = 364, 2, 2
TURNS = ((G, T, D), (G, T, D), (G,), (D,), (T,), (G, D), (D,), (G,), (T,), (G, T, D), (T,), (D,), (G,), (G, T, D))
CONFIG = DdpConfig.model_validate({"name": "ddp", "hook": "powersgd", "start_powersgd_iter": START})


def gradient(rank: int, step: int) -> np.ndarray:
    """The generator's of full rank; the others' of rank 1, which PowerSGD of rank 1 sends exactly, whatever its Q."""
    random, common = np.random.default_rng([rank, step]), np.random.default_rng(7)
    g = random.standard_normal(SIZE)
    for player, shape in ((T, (4, 30)), (D, SHAPE)):
        left, right = common.standard_normal(shape[0]), common.standard_normal(shape[1])
        g[WHERE[player]] = (1 + step + rank) * np.outer(left, right).ravel()
    for player, where in WHERE.items():
        if player not in TURNS[step]:
            g[where] = 0
    if G not in TURNS[step]:
        g[VALUES:124] = 0
    return g.astype(np.float32)


def train(rank: int, world: int, address: str) -> list[np.ndarray]:
    from gannet.node.process.torch_ddp import DdpMean  # only in processes that have imported it already

    mean = DdpMean(CONFIG, LAYOUT, rank, world, ExchangeConfig(), lambda source, step: None)
    mean.join(address, "lo")
    means = [
        mean.average(torch.from_numpy(gradient(rank, step)), None, active)[0].numpy()
        for step, active in enumerate(TURNS)
    ]
    mean.close()
    return means


def test_each_player_has_the_powersgd_that_is_called_when_it_moves() -> None:
    """Before, a player that sat out the first compressed step never moved again, and its memory was lost."""
    results = in_a_world(WORLD, train, free_address())
    assert all(isinstance(result, list) for result in results), results
    torch.manual_seed(np.random.RandomState(0).randint(1_000_000_000))  # PowerSGDState's and the hook's choice
    torch.randn(SHAPE[1], 1)  # DDP's bucket begins with the last parameter, and matrices of one shape are together
    compress = PowerSGD(WORLD, SHAPE, torch.randn(SHAPE[1], 1).numpy())
    for step, active in enumerate(TURNS):
        ours, other = (result[step] for result in results)
        np.testing.assert_array_equal(ours, other)
        gradients = [gradient(rank, step) for rank in range(WORLD)]
        exact = np.mean(gradients, axis=0, dtype=np.float64)
        if step >= START and G in active:
            exact[WHERE[G]] = compress([g[WHERE[G]].reshape(SHAPE) for g in gradients]).ravel()
        for player in active:
            np.testing.assert_allclose(
                ours[WHERE[player]], exact[WHERE[player]], rtol=1e-3, atol=1e-3, err_msg=f"{player} {step}"
            )
        if G in active:
            np.testing.assert_allclose(ours[VALUES:124], exact[VALUES:124], rtol=1e-5, atol=1e-5)


def vanishing(rank: int, world: int, address: str) -> list[np.ndarray]:
    """Every player moves at every step, with a gradient that is zero in the first compressed one."""
    from gannet.node.process.torch_ddp import DdpMean

    mean = DdpMean(CONFIG, LAYOUT, rank, world, ExchangeConfig(), lambda source, step: None)
    mean.join(address, "lo")
    fields = [torch.from_numpy(gradient(rank, 0)) * (step > START) for step in range(6)]
    means = [mean.average(field, None, (G, T, D))[0].numpy() for field in fields]
    mean.close()
    return means


def test_a_gradient_that_was_zero_once_is_not_zero_for_ever() -> None:
    results = in_a_world(WORLD, vanishing, free_address())
    assert all(isinstance(result, list) for result in results), results
    exact = np.mean([gradient(rank, 0) for rank in range(WORLD)], axis=0)
    for mean in results[0][START + 1 :]:
        np.testing.assert_allclose(mean[WHERE[D]], exact[WHERE[D]], rtol=1e-3, atol=1e-3)
    assert not results[0][START].any()
