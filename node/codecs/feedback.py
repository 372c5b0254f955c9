"""Error feedback: the error of one payload is added to the next, so that nothing is lost permanently.

    corrected = x + e,   payload = encode(corrected),   e ← corrected − decode(payload)

(Seide et al. 2014; Stich et al. 2018; Karimireddy et al. 2019.) It makes biased codecs, top-k and sign, converge.
An algorithm holds one for every stream of vectors that it sends; the memory belongs in its checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gannet.node.codecs.base import Codec
from gannet.node.codecs.dither import flat


class ErrorFeedback:
    """A codec with a memory e of `count` float32 values, zero at first."""

    def __init__(self, codec: Codec, count: int) -> None:
        self.codec = codec
        self.memory = torch.zeros(count)

    def encode(self, values: Tensor, start: int = 0) -> memoryview:
        """Payload of `values` plus the memory e; `start`: their position in the whole vector.

        Values that are not finite stay out of the memory: the payload is refused, and the next one must not be.
        """
        corrected = self.corrected(values, start)
        payload = self.codec.encode(corrected)
        if self.codec.finite(payload):
            self.remember(corrected, self.codec.decode(payload), start)
        return payload

    def corrected(self, values: Tensor, start: int = 0) -> Tensor:
        """x + e, for a caller that encodes and decodes by itself and then calls `remember`."""
        memory = self.memory[start : start + len(values)]
        if len(memory) != len(values):
            raise ValueError(f"values {start} to {start + len(values)} of a vector of {len(self.memory)}")
        return flat(values) + memory

    def remember(self, corrected: Tensor, decoded: Tensor, start: int = 0) -> None:
        """e ← corrected − decoded."""
        torch.sub(corrected, decoded, out=self.memory[start : start + len(corrected)])

    def state(self) -> dict[str, Tensor]:
        """The memory, and the codec's position in its random stream."""
        return {"memory": self.memory.clone(), **{f"codec.{k}": v for k, v in self.codec.state().items()}}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from a `state`. Raises ValueError when it is of another vector or another codec."""
        memory = state.get("memory")
        if memory is None or memory.shape != self.memory.shape:
            got = "none" if memory is None else f"{tuple(memory.shape)}"
            raise ValueError(f"an error memory of shape {got}, here {tuple(self.memory.shape)}")
        self.codec.load_state({k.removeprefix("codec."): v for k, v in state.items() if k != "memory"})
        self.memory.copy_(memory)
