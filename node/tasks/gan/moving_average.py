"""A moving average of a generator's weights, which generates better images than the weights of any one step.

It is a matter of the node, not of the network. The average is linear: the mean over nodes of their averages is the
average of the nodes' mean, which is what gets scored. So it need not travel, and as no part of x it is neither mixed
nor counted; it lives in the task's state, for checkpoints, and takes the generator's place in what leaves the node
as a result (`applied`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


class MovingAverage:
    """a ← d_t a + (1 − d_t) x over the given parts of x, d_t = min(decay, (1 + t) / (10 + t)) at the t-th update.

    The early updates count more, or the average would hold the initial weights for 1 / (1 − decay) steps. The decay's
    schedule is a function of t alone, so that it is the same on all nodes. decay: None averages nothing.
    """

    def __init__(self, decay: float | None, parts: Sequence[slice]) -> None:
        self._decay = decay
        self._parts = parts
        self._average: Tensor | None = None
        self._count = 0

    def update(self, x: Tensor) -> None:
        """Take in the x at which the generator's next step begins."""
        if self._decay is not None:
            self._average = self._with(x)
            self._count += 1

    def applied(self, x: Tensor) -> Tensor:
        """x with these parts averaged, x's own among them; x itself where nothing is averaged."""
        if self._average is None:
            return x
        averaged, begin = self._with(x), 0
        new = x.clone()
        for part in self._parts:
            end = begin + part.stop - part.start
            new[part] = averaged[begin:end]
            begin = end
        return new

    def state(self) -> dict[str, Tensor]:
        """For the task's state."""
        if self._average is None:
            return {}
        return {"average": self._average, "averaged": torch.tensor(self._count)}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go back to such a state; one without an average is that of the beginning."""
        self._average = state.get("average")
        self._count = int(state["averaged"]) if "averaged" in state else 0

    def _with(self, x: Tensor) -> Tensor:
        """The average with x taken in, as a new tensor."""
        assert self._decay is not None
        now = torch.cat([x[part] for part in self._parts])
        if self._average is None:
            return now
        decay = min(self._decay, (1 + self._count) / (10 + self._count))
        return torch.lerp(now, self._average.to(now.device), decay)
