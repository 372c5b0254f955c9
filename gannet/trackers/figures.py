"""A run's records as a tracker's figures: of a step over all nodes, of its consensus distances, of a score."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from gannet.ledger.records import Score
from gannet.node.training.meter import LAYERS, StepStats

_LATE = 64  # steps by which a node may be behind the first; after that a step is taken without it


class Figures(NamedTuple):
    """Values by name at a step, and the training clock."""

    step: int
    t_s: float
    values: dict[str, float]


class StepFigures:
    """Gathers the nodes' figures step by step.

    `loss/PLAYER`: the mean over nodes; `seconds/…`: the mean of a step's parts; `sent_bytes/LAYER`: of all nodes
    until then; `t_s`: when the last node had made the step. Nodes of an asynchronous method differ in their steps,
    and a lost one makes no more: those that are too late are left out of a step.
    """

    def __init__(self, nodes: int) -> None:
        self._nodes = nodes
        self._pending: dict[int, dict[int, StepStats]] = {}
        self._sent = dict.fromkeys(LAYERS, 0)
        self._last = 0

    def add(self, rank: int, stats: StepStats) -> Iterator[Figures]:
        """Add a node's step; yields the steps that are complete, in order."""
        for layer in LAYERS:
            self._sent[layer] += getattr(stats, f"{layer}_bytes")
        if stats.step <= self._last:
            return  # its bytes count from the next step on
        self._pending.setdefault(stats.step, {})[rank] = stats
        newest = max(self._pending)
        while self._pending:
            first = min(self._pending)
            if len(self._pending[first]) < self._nodes and first > newest - _LATE:
                return
            yield self._take(first)

    def rest(self) -> Iterator[Figures]:
        """The steps that not all nodes made."""
        for step in sorted(self._pending):
            yield self._take(step)

    def _take(self, step: int) -> Figures:
        each = list(self._pending.pop(step).values())
        self._last = step
        players = dict.fromkeys(player for stats in each for player in stats.loss)
        values = {
            f"loss/{player}": fmean(stats.loss[player] for stats in each if player in stats.loss)
            for player in players
        }
        values |= {f"seconds/{part}": fmean(getattr(stats, f"{part}_s") for stats in each)
                   for part in ("compute", "wait", "other")}  # fmt: skip
        ahead = {layer: sum(getattr(stats, f"{layer}_bytes") for later in self._pending.values()
                            for stats in later.values()) for layer in LAYERS}  # fmt: skip
        values |= {f"sent_bytes/{layer}": float(self._sent[layer] - ahead[layer]) for layer in LAYERS}
        t_s = max(stats.t_s for stats in each)
        return Figures(step, t_s, {**values, "t_s": t_s})


def consensus_figures(distances: Mapping[str, float | None]) -> dict[str, float]:
    """Consensus distances by player, without those that are not finite."""
    return {f"consensus/{player}": value for player, value in distances.items() if value is not None}


def score_figures(scores: Sequence[Score], consensus: bool) -> Iterator[Figures]:
    """The deciding score as `score`, the others as `score/NAME`, each node's own as `score/node-RANK`.

    `consensus`: the distances that were recorded with them too.
    """
    for score in scores:
        found = {"score": score.score, "score/classes_found": score.classes_found}
        found |= {f"score/{name}": value for name, value in score.more.items()}
        found |= {f"score/node-{own.node}": own.score for own in score.node_models}
        values = {name: value for name, value in found.items() if value is not None}
        yield Figures(score.step, score.t_s, values | (consensus_figures(score.consensus) if consensus else {}))
