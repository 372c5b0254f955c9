"""Exponential graphs: peers at hops of 2^k, all of them in every round, or one after the other.

Ying et al., "Exponential Graph is Provably Efficient for Decentralized Deep Training" (NeurIPS 2021).
Both are directed and circulant, so W is normal, doubly stochastic, and the order of rounds does not matter.
"""

from __future__ import annotations

from typing import Literal

from gannet.node.topologies.setting import TopologySetting
from gannet.node.topologies.weights import Periodic, Row, Schedule


class ExponentialTopology(TopologySetting):
    """All hops of 2^k in every round."""

    name: Literal["exponential"] = "exponential"

    def schedule(self, world: int) -> Schedule:
        return Periodic(exponential(world))


class OnePeerExponentialTopology(TopologySetting):
    """One hop a round, each in its turn."""

    name: Literal["one-peer-exponential"] = "one-peer-exponential"

    def schedule(self, world: int) -> Schedule:
        return Periodic(one_peer_exponential(world) if world > 1 else [[{0: 1.0}]])


def _hops(world: int) -> list[int]:
    return [1 << k for k in range((world - 1).bit_length())]  # ⌈log2 M⌉ of them, all below M


def exponential(world: int) -> list[list[Row]]:
    """One round: weight 1/(1 + ⌈log2 M⌉) on oneself and on each hop; 1 − ρ is 2/(1 + ⌈log2 M⌉) for even M."""
    hops = [0, *_hops(world)]
    return [[{(i + hop) % world: 1.0 / len(hops) for hop in hops} for i in range(world)]]


def one_peer_exponential(world: int) -> list[list[Row]]:
    """⌈log2 M⌉ rounds with one hop each, half of the weight on it: their product is 11ᵀ/M for M = 2^k only."""
    return [[{i: 0.5, (i + hop) % world: 0.5} for i in range(world)] for hop in _hops(world)]
