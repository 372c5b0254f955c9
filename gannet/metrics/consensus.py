"""Consensus distance during training: the nodes' snapshots of one step, gathered and compared."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from gannet.ledger.snapshots import comparable, consensus_distance

_PENDING_STEPS = 3  # steps waited for at the same time; beyond that the oldest is used incomplete


class Snapshot:
    """All nodes' states at one `step`, compared.

    `players`: consensus distance (1/M) sum_i |x_i - x_mean|^2, and its root over |x_mean|, by player; NaN if a state
    is not finite. `drifts`: |x_i - x_mean| by rank.
    """

    def __init__(
        self,
        states: dict[int, tuple[float, Tensor]],
        players: dict[str, slice],
        worker_player: str | None = None,
        step: int = 0,
    ) -> None:
        self.step = step
        x = comparable({rank: state for rank, (_, state) in states.items()}, players, worker_player)
        self.mean = x.mean(0)
        self.t_s = sum(t_s for t_s, _ in states.values()) / len(states)
        self.players: dict[str, tuple[float, float]] = {}
        for player, where in players.items():
            distance = consensus_distance(x[:, where])
            norm = self.mean[where].norm().item()
            if distance is None or not norm:
                self.players[player] = (math.nan, math.nan)
            else:
                self.players[player] = (distance, math.sqrt(distance) / norm)
        drifts = (x - self.mean).norm(dim=1).tolist()
        self.drifts = dict(zip(sorted(states), drifts, strict=True))


class Consensus:
    """Gathers the nodes' snapshots step by step. Lost nodes are not waited for."""

    def __init__(self, world: int, players: dict[str, slice], worker_player: str | None = None) -> None:
        self._players, self._worker_player = players, worker_player
        self._expected = set(range(world))
        self._parts: dict[int, dict[int, tuple[float, Tensor]]] = {}
        self._shown = -1

    def add(self, rank: int, step: int, t_s: float, x: Tensor) -> list[Snapshot]:
        """Add a node's snapshot; returns the steps that are now complete, in order."""
        if step <= self._shown:
            return []
        self._expected.add(rank)  # the node is alive
        self._parts.setdefault(step, {})[rank] = (t_s, x)
        return self._whole()

    def miss(self, ranks: Sequence[int]) -> list[Snapshot]:
        """Do not wait for these nodes until they are heard from again; returns as `add`."""
        if not self._expected & set(ranks):
            return []
        self._expected -= set(ranks)
        return self._whole()

    def _whole(self) -> list[Snapshot]:
        done = [s for s in sorted(self._parts) if self._expected <= self._parts[s].keys()]
        if not done and len(self._parts) > _PENDING_STEPS:
            done = [min(self._parts)]
            self._expected &= self._parts[done[0]].keys()  # nodes that are missing by now are lost
        if not done:
            return []
        self._shown = done[-1]
        whole = [Snapshot(self._parts[s], self._players, self._worker_player, s) for s in done]
        self._parts = {s: parts for s, parts in self._parts.items() if s > self._shown}
        return whole
