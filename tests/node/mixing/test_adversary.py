"""One node of eight lies to its peers, on a problem whose solution is known: what the others arrive at."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from gannet.node.tasks.games.minty import MintyGame
from tests.support.adversary import LIES, adversary
from tests.support.runs import play, virtual_job

WORLD, LIAR, STEPS = 8, 5, 150
OPTIMIZER = {"learning_rate": 0.05, "beta1": 0.5, "beta2": 0.9}
SERVER = {"name": "cp-oadam", "collective": "server"}


@cache
def distance(algorithm: str, mixing: str, lie: str = "") -> float:
    """How far the farthest honest node is from the solution, 0, after all steps; all begin at a distance of 4."""
    how = SERVER if algorithm == "server" else {"name": algorithm}
    job = virtual_job(how, WORLD, STEPS, topology="torus", mixing=mixing, optimizer=OPTIMIZER, snapshot_every=STEPS)
    faults = [adversary(LIAR, LIES[lie])] if lie else []
    memory, outcome = play(job, [MintyGame(rank, noise=0.5, seed=1, matrix=0) for rank in range(WORLD)], faults)
    if outcome.status != "finished":
        return float("inf")
    with np.errstate(over="ignore"):
        return float(np.linalg.norm(np.delete(memory.states(STEPS), LIAR, axis=0), axis=1).max())


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("mixing", ["trimmed-mean", "median", "clip"])
def test_one_liar_of_eight_spoils_no_robust_gossip(mixing: str, lie: str) -> None:
    """Clipping bounds what a round adds, not to how many rounds: it lets a liar pull farther than trimming does."""
    assert distance("dp-oadam", mixing, lie) < (5 if mixing == "clip" else 3) * distance("dp-oadam", "mean")


@pytest.mark.parametrize("lie", [lie for lie in LIES if lie != "sign flipped"])
def test_it_spoils_the_mean(lie: str) -> None:
    """Of the lies above all but one, which pulls to the solution as long as that is 0."""
    assert distance("dp-oadam", "mean", lie) > 20 * distance("dp-oadam", "mean")


@pytest.mark.parametrize("lie", ["times 1000", "a constant"])
@pytest.mark.parametrize("algorithm", ["dposg", "server"])
def test_the_other_methods_that_can(algorithm: str, lie: str) -> None:
    honest = distance(algorithm, "mean")
    assert distance(algorithm, "trimmed-mean", lie) < 4 * honest
    assert distance(algorithm, "mean", lie) > 20 * honest


@pytest.mark.parametrize("mixing", ["trimmed-mean", "median", "clip"])
def test_where_all_are_honest_it_costs_little(mixing: str) -> None:
    assert distance("dp-oadam", mixing) < 2 * distance("dp-oadam", "mean")
