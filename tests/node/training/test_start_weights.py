"""A run from given weights is that of a task which begins there by itself, with every method; bytes that travel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from gannet.node.methods.registry import METHODS as SHIPPED
from gannet.node.tasks.base import AnyTask
from gannet.node.training.start import StartWeights
from tests.node.training.test_checkpoints import METHODS
from tests.reference.choco_reference import choco
from tests.reference.oadam_reference import OptimisticAdam
from tests.support.games import BilinearGame
from tests.support.runs import play, virtual_job
from tests.support.split_game import DATA, SplitGame

WORLD, STEPS = 4, 6
EVERY = [*METHODS, ({"name": "ad-psgd"}, "fp32", "ring")]


class Elsewhere(BilinearGame):
    """The game from another x_0 of its own."""

    def initial(self) -> Tensor:
        return torch.arange(self.size).float() / 7 - 0.5


class SplitElsewhere(SplitGame):
    """The same, whose players can live apart."""

    def initial(self) -> Tensor:
        x = torch.linspace(-1, 1, self.size)
        x[self.buffers] = 0
        return x


def weights_of(task: AnyTask, players: tuple[str, ...] = ()) -> StartWeights:
    x = task.initial()
    named = {s.name: x[s.place].view(s.shape) for s in task.layout if not players or s.player in players}
    return StartWeights(named)


@pytest.mark.parametrize(("algorithm", "codec", "topology"), EVERY, ids=str)
def test_every_method_goes_the_way_of_a_task_that_begins_there(
    algorithm: dict[str, Any], codec: str, topology: str
) -> None:
    split = algorithm["name"] == "md-gan"
    there: type[Any] = SplitElsewhere if split else Elsewhere
    here: type[Any] = SplitGame if split else BilinearGame
    settings: dict[str, Any] = {"codec": codec, "topology": topology, **({"data": DATA, "batch": 8} if split else {})}
    job = virtual_job(algorithm, WORLD, STEPS, **settings)
    truth, outcome = play(job, [there(rank) for rank in range(WORLD)])
    assert outcome.status == "finished", outcome.reason
    given = replace(job, start_weights=weights_of(there(0)))
    found, outcome = play(given, [here(rank) for rank in range(WORLD)])
    assert outcome.status == "finished", outcome.reason
    assert found.snapshots.keys() == truth.snapshots.keys() and len(found.snapshots) > 2
    for step in truth.snapshots:
        np.testing.assert_array_equal(found.states(step), truth.states(step), f"step {step}")
    drawn, _ = play(job, [here(rank) for rank in range(WORLD)])
    assert (drawn.states(0) != found.states(0)).any()


def test_every_method_on_the_virtual_fabric_is_among_them() -> None:
    assert {algorithm["name"] for algorithm, _, _ in EVERY} | {"ddp"} == set(SHIPPED)


def test_players_with_methods_of_their_own_begin_there_too() -> None:
    players = {"generator": {"algorithm": {"name": "choco"}, "codec": "qsgd-4bit,raw_below=0"}}
    job = virtual_job({"name": "dp-oadam"}, WORLD, STEPS, players=players)
    truth, _ = play(job, [Elsewhere(rank) for rank in range(WORLD)])
    found, _ = play(replace(job, start_weights=weights_of(Elsewhere(0))), [BilinearGame(r) for r in range(WORLD)])
    np.testing.assert_array_equal(found.states(STEPS), truth.states(STEPS))


def test_one_player_begins_there_and_the_other_as_the_seed_draws_it() -> None:
    job = virtual_job({"name": "dp-oadam"}, WORLD, 1)
    given = replace(job, start_weights=weights_of(Elsewhere(0), ("generator",)))
    found, _ = play(given, [BilinearGame(rank) for rank in range(WORLD)])
    n = BilinearGame(0)._n
    for row in found.states(0):
        np.testing.assert_array_equal(row[:n], Elsewhere(0).initial()[:n])
        np.testing.assert_array_equal(row[n:], BilinearGame(0).initial()[n:])


def test_replicas_and_moments_are_those_of_a_beginning() -> None:
    """CHOCO in NumPy from these weights: replicas equal them, and the optimizer's moments are zero."""
    rate, beta1, beta2 = 0.1, 0.5, 0.9
    optimizer = {"learning_rate": rate, "beta1": beta1, "beta2": beta2}
    job = virtual_job({"name": "choco", "gamma": 0.7}, WORLD, STEPS, optimizer=optimizer, codec="fp32")
    given = replace(job, start_weights=weights_of(Elsewhere(0)))
    found, _ = play(given, [BilinearGame(rank, spread=0.3) for rank in range(WORLD)])
    games = [BilinearGame(rank, spread=0.3) for rank in range(WORLD)]
    matrix, n = games[0].matrix.numpy().astype(np.float64), games[0]._n
    shift = np.stack([game._shift.numpy() for game in games])

    def field(x: np.ndarray) -> np.ndarray:
        return np.concatenate([x[:, n:] @ matrix.T, -(x[:, :n] @ matrix)], 1) + shift

    ring = (np.eye(4) + np.roll(np.eye(4), 1, 0) + np.roll(np.eye(4), -1, 0)) / 3
    begin = np.tile(Elsewhere(0).initial().numpy().astype(np.float64), (WORLD, 1))
    adam = OptimisticAdam(rate, beta1, beta2, 1e-8)
    truth = choco(begin, field, adam.step, ring, lambda rows: rows, 0.7, STEPS)
    for step in range(1, STEPS + 1):
        np.testing.assert_allclose(found.states(step), truth[step - 1], rtol=1e-4, atol=1e-5)


def test_the_bytes_that_travel_are_checked() -> None:
    weights = weights_of(BilinearGame(0))
    packed = weights.pack()
    assert StartWeights.unpack(packed, weights.sha256).tensors.keys() == weights.tensors.keys()
    damaged = bytearray(packed)
    damaged[-1] ^= 1
    for data in (bytes(damaged), packed[:-4], b""):
        with pytest.raises(ValueError, match="did not come whole"):
            StartWeights.unpack(data, weights.sha256)
    with pytest.raises(ValueError, match=r"generator\.u, which does not fit"):
        weights.put_into(torch.zeros(258), SplitGame(0).layout)


def test_the_digest_tells_names_shapes_and_values_apart() -> None:
    a = torch.arange(6).float()
    each = [{"w": a}, {"v": a}, {"w": a.view(2, 3)}, {"w": a + 1}, {"w": a[:3], "v": a[3:]}]
    assert len({StartWeights(tensors).sha256 for tensors in each}) == len(each)
    assert StartWeights({"w": a, "v": a}).sha256 == StartWeights({"v": a.clone(), "w": a}).sha256
