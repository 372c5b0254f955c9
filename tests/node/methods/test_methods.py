"""The methods of later papers against their references in tests/reference, and against one another."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, inf
from typing import Any

import numpy as np
import pytest
import torch

from gannet.node.topologies.topology import Topology
from tests.node.algorithms.test_algorithms import Reference
from tests.reference.choco_reference import choco, scaled_sign, top_k
from tests.reference.deepsqueeze_reference import deepsqueeze
from tests.reference.diloco_reference import diloco, fedgan
from tests.reference.gossip_pga_reference import gossip_pga
from tests.reference.oadam_reference import OptimisticAdam
from tests.reference.sgp_reference import sgp, uniform_columns
from tests.support.games import BilinearGame
from tests.support.runs import play, virtual_job

# A large ε, so that the first steps' magnitudes differ and top-k has no ties to break.
OPTIMIZER = {"learning_rate": 0.1, "beta1": 0.5, "beta2": 0.9, "epsilon": 0.5}
STEPS = 14


def ours(algorithm: dict[str, Any], world: int, steps: int = STEPS, **config: Any) -> np.ndarray:
    """States after every step, shape (steps, world, size), by Gannet on the virtual fabric."""
    job = virtual_job(algorithm, world, steps, **{"optimizer": OPTIMIZER, **config})
    memory, outcome = play(job, [BilinearGame(rank, noise=0.1, spread=0.3) for rank in range(world)])
    assert outcome.status == "finished", outcome.reason
    assert not memory.refusals
    return np.stack([memory.states(step) for step in range(1, steps + 1)])


def theirs(method: Callable[..., np.ndarray], world: int, **settings: Any) -> np.ndarray:
    reference = Reference(world)
    adam = OptimisticAdam(0.1, 0.5, 0.9, 0.5)
    return method(reference.start, reference.field, adam.step, steps=STEPS, **settings)


def mixing_of(topology: Any, world: int) -> Callable[[int], np.ndarray]:
    return Topology(topology, world).mixing_matrix


def agree(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("collective", ["server", "ring"])
@pytest.mark.parametrize("period", [1, 4, None])
@pytest.mark.parametrize("topology", ["ring", "one-peer-exponential", "random-ring"])
def test_gossip_pga(collective: str, period: int | None, topology: str) -> None:
    algorithm = {"name": "gossip-pga", "global_every": period, "collective": collective}
    mixing = mixing_of(topology, 6)
    agree(ours(algorithm, 6, topology=topology), theirs(gossip_pga, 6, mixing=mixing, period=period or inf))


def test_gossip_pga_lies_between_averaging_and_gossip() -> None:
    """H = 1 is CP-OAdam to the bit, H = ∞ is DP-OAdam."""
    for collective in ("server", "ring"):
        always = ours({"name": "gossip-pga", "global_every": 1, "collective": collective}, 5)
        np.testing.assert_array_equal(always, ours({"name": "cp-oadam", "collective": collective}, 5))
    never = ours({"name": "gossip-pga", "global_every": None}, 5)
    np.testing.assert_array_equal(never, ours({"name": "dp-oadam"}, 5))


@pytest.mark.parametrize(
    ("topology", "world"), [("exponential", 6), ("one-peer-exponential", 8), ("star", 5), ("ring", 4), ("base", 6)]
)
def test_sgp(topology: str, world: int) -> None:
    mixing = mixing_of(topology, world)
    agree(ours({"name": "sgp"}, world, topology=topology),
          theirs(sgp, world, pushing=lambda k: uniform_columns(mixing(k))))  # fmt: skip


@pytest.mark.parametrize("world", [1, 4])
def test_sgp_on_a_regular_graph_is_gossip(world: int) -> None:
    """Where P is doubly stochastic w stays 1 and push-sum is DP-OAdam's mixing."""
    agree(ours({"name": "sgp"}, world, topology="complete"), ours({"name": "dp-oadam"}, world, topology="complete"))


COMPRESSORS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "fp32": lambda rows: rows,
    "top-k,ratio=0.3,raw_below=0": lambda rows: top_k(rows, ceil(0.3 * rows.shape[1])),
    "sign,raw_below=0": scaled_sign,
    "sign": lambda rows: rows,  # tensors of four values travel as they are
}


@pytest.mark.parametrize("codec", COMPRESSORS)
@pytest.mark.parametrize(("topology", "world", "step"), [("ring", 5, 1.0), ("star", 4, 0.3), ("torus", 6, 0.3)])
def test_choco(codec: str, topology: str, world: int, step: float) -> None:
    mixing, compress = mixing_of(topology, world)(1), COMPRESSORS[codec]
    agree(ours({"name": "choco", "gamma": step}, world, topology=topology, codec=codec),
          theirs(choco, world, mixing=mixing, compress=compress, gamma=step))  # fmt: skip


def test_exact_choco_is_gossip() -> None:
    agree(ours({"name": "choco", "gamma": 1}, 5), ours({"name": "dp-oadam"}, 5))


@pytest.mark.parametrize("codec", COMPRESSORS)
@pytest.mark.parametrize(("topology", "world", "step"), [("ring", 5, 0.5), ("random-ring", 6, 0.2)])
def test_deepsqueeze(codec: str, topology: str, world: int, step: float) -> None:
    mixing, compress = mixing_of(topology, world), COMPRESSORS[codec]
    agree(ours({"name": "deepsqueeze", "eta": step}, world, topology=topology, codec=codec),
          theirs(deepsqueeze, world, mixing=mixing, compress=compress, eta=step))  # fmt: skip


@pytest.mark.parametrize("collective", ["server", "ring"])
@pytest.mark.parametrize("every", [1, 4])
def test_diloco(collective: str, every: int) -> None:
    algorithm = {"name": "diloco", "every": every, "collective": collective}
    agree(ours(algorithm, 4), theirs(diloco, 4, every=every, rate=0.7, momentum=0.9))


def test_the_references_nesterov_is_torchs() -> None:
    """diloco_reference's outer step against torch.optim.SGD(nesterov=True) on the same differences."""
    theta = torch.zeros(3, requires_grad=True)
    outer = torch.optim.SGD([theta], lr=0.7, momentum=0.9, nesterov=True)
    deltas = np.random.default_rng(1).standard_normal((6, 3))
    states = diloco(np.zeros((1, 3)), lambda x: x, _in_turn(deltas), every=1, rate=0.7, momentum=0.9, steps=6)
    for delta, state in zip(deltas, states, strict=True):
        theta.grad = torch.from_numpy(delta).float()
        outer.step()
        np.testing.assert_allclose(theta.detach().numpy(), state[0], atol=1e-5)


def _in_turn(rows: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    given = iter(rows)
    return lambda g: next(given)


@pytest.mark.parametrize("every", [1, 3])
def test_plain_diloco_is_averaging_and_so_is_fedgan(every: int) -> None:
    plain = {"name": "diloco", "every": every, "outer_learning_rate": 1, "outer_momentum": 0, "collective": "server"}
    averaging = ours({"name": "cp-oadam", "every": every}, 4)
    agree(ours(plain, 4), averaging)
    of_fedgan = ours({"name": "fedgan", "every": every}, 4)
    np.testing.assert_array_equal(of_fedgan, averaging)
    agree(of_fedgan, theirs(fedgan, 4, every=every))


class Pushed(BilinearGame):
    """The nodes start as one; the first gradient pushes them apart, by unequal steps, and no other follows."""

    def __init__(self, rank: int, dimension: int = 64) -> None:
        super().__init__(rank, dimension)
        self._kick = torch.from_numpy(np.random.default_rng([7, rank]).standard_normal(self.size)).float()

    def gradient(self, x: torch.Tensor) -> Any:
        g = super().gradient(x)._replace(field=self._kick.clone())
        self._kick.zero_()
        return g


# One step of plain size −η g/(1 + |g|): what optimism adds is given back by the next, of gradient zero.
PLAIN = {"learning_rate": 1.0, "beta1": 0.0, "beta2": 0.0, "epsilon": 1.0}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "gamma"), [("qsgd-4bit", 0.5), ("qsgd-2bit", 0.1), ("sign", 0.1), ("top-k,ratio=0.1", 0.1),
                         ("random-k,ratio=0.2", 0.1)]
)  # fmt: skip
def test_choco_converges_where_quantized_parameters_do_not(codec: str, gamma: float) -> None:
    """To the average of all nodes, over the wire in that codec; x ← W Q(x) and x ← x + (W − I) Q(x) stay away."""
    from gannet.node.codecs import build_codec

    world, steps, codec = 6, 1500, f"{codec},raw_below=0"
    job = virtual_job({"name": "choco", "gamma": gamma}, world, steps, codec=codec, optimizer=PLAIN)
    memory, outcome = play(job, [Pushed(rank) for rank in range(world)])
    assert outcome.status == "finished", outcome.reason
    start = memory.states(2) - 0.0
    begin = np.stack([game.initial().numpy() - kick / (1 + np.abs(kick))
                      for game in [Pushed(r) for r in range(world)] for kick in [game._kick.numpy()]])  # fmt: skip
    target = begin.mean(axis=0)
    spread = np.linalg.norm(begin - target)
    assert np.linalg.norm(start - target) > 0.2 * spread
    assert np.linalg.norm(memory.states(steps) - target) < 1e-3 * spread
    mixing = Topology("ring", world).mixing_matrix()
    coder = build_codec(codec)
    for replace_own in (True, False):
        x = begin.copy()
        for _ in range(200):
            sent = np.stack([coder.decode(coder.encode(torch.from_numpy(row).float())).numpy() for row in x])
            x = mixing @ sent if replace_own else x + (mixing - np.eye(world)) @ sent
            if np.linalg.norm(x) > 1e3 * spread:
                break
        assert np.linalg.norm(x - target) > 0.05 * spread


@pytest.mark.slow
def test_deepsqueeze_comes_nearer_than_quantized_parameters() -> None:
    """Compressed models leave a floor; the error memory and a small η make it low."""
    world, steps = 6, 1500
    optimizer = PLAIN
    job = virtual_job({"name": "deepsqueeze", "eta": 0.05}, world, steps, codec="qsgd-4bit,raw_below=0",
                      optimizer=optimizer)  # fmt: skip
    memory, _ = play(job, [Pushed(rank) for rank in range(world)])
    states = memory.states(steps)
    first = memory.states(2)
    assert np.linalg.norm(states - states.mean(axis=0)) < 0.1 * np.linalg.norm(first - first.mean(axis=0))
