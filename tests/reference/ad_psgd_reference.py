"""AD-PSGD with questions that travel (see node/algorithms/ad_psgd.py) in NumPy, event by event.

A question or an answer takes `delay` from node to node, a gradient `pace[i]` at node i. The sum of all x, and of the
halves that are still under way, changes by gradient steps only.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def ad_psgd(
    start: Array,
    field: Callable[[int, Array], Array],
    local_step: Callable[[int, Array], Array],
    partners: Sequence[Sequence[int]],
    choose: Callable[[int, Sequence[int]], int],
    pace: Sequence[float],
    delay: float,
    until: float,
) -> dict[int, list[Array]]:
    """Each node's x after each of its steps that ends by `until`; `partners[i]`: whom i asks, none if it answers."""
    world = len(start)
    x = [row.copy() for row in start]
    inbox: list[list[tuple[str, int, Array]]] = [[] for _ in range(world)]
    asked: list[Array | None] = [None] * world
    gradient: list[Array] = [np.zeros(0)] * world
    states: dict[int, list[Array]] = {i: [] for i in range(world)}
    events: list[tuple[float, int, int, tuple[str, int, Array] | None]] = []
    count = 0

    def later(at: float, node: int, message: tuple[str, int, Array] | None) -> None:
        nonlocal count
        count += 1
        heapq.heappush(events, (at, count, node, message))

    def begin_step(i: int, now: float) -> None:
        if partners[i] and asked[i] is None:
            asked[i] = x[i].copy()
            later(now + delay, choose(i, partners[i]), ("question", i, x[i].copy()))
        gradient[i] = field(i, x[i])
        later(now + pace[i], i, None)

    for i in range(world):
        begin_step(i, 0.0)
    while events:
        now, _, i, message = heapq.heappop(events)
        if now > until:
            break
        if message is not None:
            inbox[i].append(message)
            continue
        x[i] = x[i] - local_step(i, gradient[i])
        for kind, j, theirs in inbox[i]:
            if kind == "question":
                later(now + delay, j, ("answer", i, x[i].copy()))
                x[i] = x[i] + (theirs - x[i]) / 2
            else:
                x[i], asked[i] = x[i] + (theirs - asked[i]) / 2, None
        inbox[i].clear()
        states[i].append(x[i].copy())
        begin_step(i, now)
    return states
