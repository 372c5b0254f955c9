"""Base-(k+1) graph: exact averaging in finitely many rounds for any number of nodes, at most k peers a round.

Takezawa, Sato, Bao, Niwa, Yamada, "Beyond Exponential Graph: Communication-Efficient Topologies for
Decentralized Learning via Finite-time Convergence" (NeurIPS 2023, arXiv 2305.11420): algorithms 1 (k-peer
hyper-hypercube), 2 (Simple Base-(k+1)) and 3 (Base-(k+1)), at most 2 log_{k+1}(M) + 2 rounds.
Reconstructed, since the paper leaves it open or it changes no guarantee: which of the equal nodes of a block
are picked, the shortest factorisation found by search, and that of a tie the simple graph is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Literal

from pydantic import PositiveInt

from gannet.node.topologies.setting import TopologySetting
from gannet.node.topologies.weights import Periodic, Row, Schedule

# A round among some of the nodes: rows of those that take part, over the whole set's numbers.
Part = dict[int, dict[int, float]]


class BaseTopology(TopologySetting):
    """Base-(k+1) graph: `degree` is k, the most peers that a node has in a round."""

    name: Literal["base"] = "base"
    degree: PositiveInt = 1

    def schedule(self, world: int) -> Schedule:
        return Periodic(base_graph(world, self.degree))


def base_graph(world: int, degree: int) -> list[list[Row]]:
    """The rounds of the Base-(degree+1) graph; one idle round for a single node."""
    simple = _simple(range(world), degree)
    rounds = simple
    smooth, rough = _split(world, degree + 1)
    if smooth > 1 and rough > 1:
        # Averages within `smooth` blocks of `rough` nodes, then across them, where a hyper-hypercube fits.
        within = _side_by_side(_simple(range(b * rough, (b + 1) * rough), degree) for b in range(smooth))
        across = _side_by_side(_hyper_hypercube(range(first, world, rough), degree) for first in range(rough))
        rounds = min(simple, within + across, key=len)
    return [[part.get(i, {i: 1.0}) for i in range(world)] for part in rounds or [{}]]


def _hyper_hypercube(nodes: Sequence[int], degree: int) -> list[Part]:
    """Algorithm 1: the size as a product of factors up to k+1; round l averages along the l-th mixed-radix digit."""
    rounds: list[Part] = []
    stride = 1
    for factor in _factors(len(nodes), degree + 1) or ():
        groups = [
            nodes[first : first + stride * factor : stride]
            for block in range(0, len(nodes), stride * factor)
            for first in range(block, block + stride)
        ]
        rounds.append(_average(groups))
        stride *= factor
    return rounds


def _simple(nodes: Sequence[int], degree: int) -> list[Part]:
    """Algorithm 2, by the digits of the size to the base k+1: size = Σ_l a_l (k+1)^{p_l}, blocks V_l of these sizes.

    First every block averages within itself. Then, block by block, all nodes of later blocks take one node
    from each of the a_l parts of V_l, weighted so that the later nodes get the mean of all and the mean of each
    part becomes the mean of all; the part then only has to average within itself.
    """
    if _factors(len(nodes), degree + 1) is not None:
        return _hyper_hypercube(nodes, degree)
    blocks = _blocks(nodes, degree + 1)
    whole = [_hyper_hypercube([i for part in block for i in part], degree) for block in blocks]
    rounds = [_merge(cycle[m % len(cycle)] for cycle in whole if cycle) for m in range(len(whole[0]))]
    within = [
        _side_by_side(_hyper_hypercube(part, degree) for part in block) if len(block[0]) > 1 else cycle
        for block, cycle in zip(blocks, whole, strict=True)
    ]
    last = len(blocks) - 1
    for m in range(1 + len(within[0])):
        parts = []
        if m < last:
            handed, left = _hand_over(blocks[m], [i for block in blocks[m + 1 :] for part in block for i in part])
            groups = [left[at : at + degree + 1] for at in range(0, len(left), degree + 1)]
            parts += [handed, _average(group for group in groups if len(group) > 1)]
        for number, cycle in enumerate(within):
            done = m - number - (number != last)  # rounds within its parts that the block has behind it
            if done >= 0 and cycle:
                parts.append(cycle[done % len(cycle)])
        rounds.append(_merge(parts))
    return rounds


def _hand_over(block: Sequence[Sequence[int]], later: Sequence[int]) -> tuple[Part, list[int]]:
    """Every later node takes one node of each part of the block; also returns those of the block that are left."""
    count = sum(len(part) for part in block)
    share = count / (count + len(later))
    weight = share / len(block)
    rows: Part = {}
    for at, i in enumerate(later):
        rows[i] = {i: 1.0 - share}
        for part in block:
            j = part[at]
            rows[i][j] = weight
            rows[j] = {j: 1.0 - weight, i: weight}
    return rows, [i for part in block for i in part[len(later) :]]


def _blocks(nodes: Sequence[int], base: int) -> list[list[Sequence[int]]]:
    """V_l as a list of its a_l parts of (k+1)^{p_l} nodes, the greatest first."""
    power = 1
    while power * base <= len(nodes):
        power *= base
    blocks, at = [], 0
    while power:
        parts = [nodes[first : first + power] for first in range(at, len(nodes) - power + 1, power)]
        if parts:
            blocks.append(parts)
            at += power * len(parts)
        power //= base
    return blocks


def _average(groups: Iterable[Sequence[int]]) -> Part:
    return {i: {j: 1.0 / len(group) for j in group} for group in groups for i in group}


def _merge(parts: Iterable[Part]) -> Part:
    return {i: row for part in parts for i, row in part.items()}


def _side_by_side(cycles: Iterable[list[Part]]) -> list[Part]:
    """Rounds of sets of nodes that know nothing of each other, all of one length, as rounds of them all."""
    return [_merge(parts) for parts in zip(*cycles, strict=True)]


def _split(world: int, base: int) -> tuple[int, int]:
    """(p, q) with world = p · q, all prime factors of p up to `base` and all of q above."""
    rough = world
    for factor in range(2, base + 1):
        while rough % factor == 0:
            rough //= factor
    return world // rough, rough


@cache
def _factors(number: int, largest: int) -> tuple[int, ...] | None:
    """The fewest factors from 2 to `largest` whose product is `number`; None where there are none."""
    if number == 1:
        return ()
    found = [
        (factor, *rest)
        for factor in range(min(number, largest), 1, -1)
        if number % factor == 0 and (rest := _factors(number // factor, largest)) is not None
    ]
    return min(found, key=len, default=None)
