"""What rounds of gossip make nodes wait for, whatever the order in which each sends its copies.

A node begins a round when it has the messages of the one before, not when its own copies are gone. So a chain of
nodes that wait for one another runs from a sender to whichever receiver gets the last copy, and what follows
depends on what *that* node has to send: on a star, M−1 copies at the hub take turns with a single one at a leaf.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gannet.node.topologies.weights import Neighbourhood, Round

# The sum over many rounds is at least that over fewer, again and again: so any number of rounds gives a mean that
# is sure, and more of them a better one. An even number, since a star's rounds come in pairs.
_PERIODS = 16


@dataclass(frozen=True)
class Waits:
    """What is sure to lie one behind the other: transfers waited for, and copies sent and received meanwhile."""

    hops: float
    sent: float
    received: float


def waits(rounds: Sequence[Round], count: int) -> Waits:
    """Of `count` rounds in a row, wherever among `rounds`, which come again and again, they begin."""
    hops = _least(rounds, count, _next_hops, forward=True)
    if any(not node.outgoing or not node.incoming for nodes in rounds for node in nodes):
        # The last copy may lead to a node that then rests. Sure is one copy in each transfer that is waited for.
        return Waits(hops, hops, hops)
    sent = _least(rounds, count, lambda node, _, after: len(node.outgoing) + min(after[j] for j in node.outgoing))
    # Backwards: a node's messages all come after the first of their senders has begun.
    received = _least(
        rounds,
        count,
        lambda node, _, before: len(node.incoming) + min(before[j] for j in node.incoming),
        forward=False,
    )
    return Waits(hops, sent, received)


def waits_per_round(rounds: Sequence[Round]) -> Waits:
    """The same of each round, in the long run."""
    count = _PERIODS * len(rounds)
    found = waits(rounds, count)
    return Waits(found.hops / count, found.sent / count, found.received / count)


def _next_hops(node: Neighbourhood, own: float, after: Sequence[float]) -> float:
    """Every receiver waits, and so does the node itself for its own state; the best chain is sure."""
    return max([own, *(1 + after[j] for j in node.outgoing)])


def _least(
    rounds: Sequence[Round],
    count: int,
    step: Callable[[Neighbourhood, float, Sequence[float]], float],
    forward: bool = True,
) -> float:
    """The sum over the rounds of a chain that begins at the worst node, in the worst round."""
    least = []
    for begin in range(len(rounds)):
        order = range(begin, begin + count)
        sums = [0.0] * len(rounds[0])
        for number in reversed(order) if forward else order:
            nodes = rounds[number % len(rounds)]
            sums = [step(node, own, sums) for node, own in zip(nodes, sums, strict=True)]
        least.append(min(sums))
    return min(least)
