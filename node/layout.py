"""The layout of a flat parameter vector: which tensor lies where and whose it is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

BUFFERS = "buffers"


class TensorSpec(NamedTuple):
    """One tensor's place in the flat vector: x[start : start + numel], row-major."""

    name: str
    shape: tuple[int, ...]
    start: int
    player: str

    @property
    def place(self) -> slice:
        return slice(self.start, self.start + int(np.prod(self.shape)))
