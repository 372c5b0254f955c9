"""What a run's summary needs of its steps, added up while they come: each step costs its node eight bytes here.

The steps themselves are in steps.jsonl.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field

from gannet.node.training.meter import LAYERS, StepStats

_SUMMED = ("compute_s", "wait_s", "other_s", *(f"{layer}_bytes" for layer in LAYERS))


@dataclass
class Missing:
    """Messages of one node that were missing from another's mixes: how many, and in which steps."""

    first_step: int
    first_s: float
    last_step: int
    count: int = 0


@dataclass
class NodeTotals:
    """One node's steps so far: `count` of them, the last one's number and end, and sums of StepStats' figures.

    `durations_s`: of every step. `missing`: by the node whose messages they were.
    """

    count: int = 0
    last_step: int = 0
    t_s: float = 0.0
    sums: dict[str, float] = field(default_factory=lambda: dict.fromkeys(_SUMMED, 0))
    durations_s: array[float] = field(default_factory=lambda: array("d"))
    missing: dict[int, Missing] = field(default_factory=dict)

    def add(self, stats: StepStats) -> None:
        """Take in the next step."""
        self.durations_s.append(stats.t_s - self.t_s)
        self.count, self.last_step, self.t_s = self.count + 1, stats.step, stats.t_s
        for name in _SUMMED:
            self.sums[name] += getattr(stats, name)
        for source in stats.missing:
            entry = self.missing.setdefault(source, Missing(stats.step, stats.t_s, stats.step))
            entry.count, entry.last_step = entry.count + 1, stats.step

    def mean(self, name: str) -> float:
        """A figure's mean over the steps."""
        return self.sums[name] / self.count
