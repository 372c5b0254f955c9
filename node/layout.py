"""The layout of a flat parameter vector: which tensor lies where and whose it is."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

BUFFERS = "buffers"


class TensorSpec(NamedTuple):
    """One tensor's place in the flat vector: x[start : start + numel], row-major."""

    name: str
    shape: tuple[int, ...]
    start: int
    player: str

    @property
    def place(self) -> slice:
        return slice(self.start, self.start + prod(self.shape))
