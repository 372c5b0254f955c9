"""Builds a topology from a user's Python, and checks every round of it once.

A matrix that is not doubly stochastic would move the nodes' average, and one that does not connect them would let
nodes drift apart or wait for ever, without a word.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gannet.node.plugins import PluginError, PythonSource, built, telling
from gannet.node.topologies.custom.base import Graph
from gannet.node.topologies.weights import Matrix, Periodic, Row, reached, takes_turns

TOLERANCE = 1e-9  # of a sum that should be 1
LONGEST = 64  # rounds of a period: finding what nodes are sure to wait for takes time that grows with its square


def own_schedule(source: PythonSource, world: int) -> Periodic:
    """The rounds that the file or entry point gives for `world` nodes. Raises PluginError."""
    graph = built(source, Graph, "topology", ("period", "matrix"), settings=dict(source.settings), world=world)
    period = graph.period
    if not isinstance(period, (int, np.integer)) or isinstance(period, bool) or not 1 <= period <= LONGEST:
        raise PluginError(f"{source.title}: period is a whole number from 1 to {LONGEST}, not {period!r}")
    matrix = telling(graph.matrix, source.title)
    rounds = [_rows(matrix(number), world, f"{source.title}: round {number}") for number in range(1, int(period) + 1)]
    _check_averages(rounds, source.title)
    return Periodic(rounds)


def _rows(given: Any, world: int, where: str) -> list[Row]:
    weights = _numbers(given, world, where)
    for i, j in np.argwhere(~np.isfinite(weights) | (weights < 0))[:1].tolist():
        raise PluginError(
            f"{where}, row {i}: the weight of node {j} is {weights[i, j]:.6g}: weights are finite and not negative"
        )
    for what, sums in (("row", weights.sum(axis=1)), ("column", weights.sum(axis=0))):
        for i in np.flatnonzero(np.abs(sums - 1) > TOLERANCE)[:1].tolist():
            raise PluginError(
                f"{where}, {what} {i}: the weights sum to {sums[i]:.10g} instead of 1: rows and columns must both "
                f"sum to 1, within {TOLERANCE:g}, to keep the nodes' average"
            )
    return [{int(j): float(row[j]) for j in np.flatnonzero(row)} for row in weights]


def _numbers(given: Any, world: int, where: str) -> Matrix:
    try:
        array = np.asarray(given)
    except (ValueError, TypeError) as error:  # rows of different lengths
        raise PluginError(f"{where}: not a matrix: {error}") from None
    if array.dtype.kind not in "biuf":
        raise PluginError(
            f"{where}: matrix gave {type(given).__name__}, which holds no real numbers: return a numpy array "
            "or rows of numbers"
        )
    if array.shape != (world, world):
        raise PluginError(f"{where}: the matrix has shape {array.shape}, and {world} nodes need ({world}, {world})")
    return array.astype(np.float64)


def _check_averages(rounds: list[list[Row]], title: str) -> None:
    """Whether a period of rounds, again and again, brings all nodes to their average; weights of rounding apart."""
    world = len(rounds[0])
    rounds = [[{j: weight for j, weight in row.items() if weight > TOLERANCE} for row in rows] for rows in rounds]
    ever = [{j for rows in rounds for j in rows[i]} for i in range(world)]
    if missing := sorted(set(range(world)) - reached(ever)):
        raise PluginError(
            f"{title}: not connected in any round: node{'s' * (len(missing) > 1)} {', '.join(map(str, missing[:8]))}"
            f"{' …' * (len(missing) > 8)} and node 0 never hear of each other"
        )
    # Where the product of the rounds has weights; sets of nodes are the bits of integers.
    hears = [1 << rank for rank in range(world)]
    for rows in rounds:
        before = hears
        hears = [0] * world
        for i, row in enumerate(rows):
            for j in row:
                hears[i] |= before[j]
    product = [{j: 1.0 for j in range(world) if bits >> j & 1} for bits in hears]
    if len(reached(product)) < world or takes_turns(product):
        raise PluginError(
            f"{title}: never averages, the nodes only trade places: give them some weight on themselves in some round"
        )
