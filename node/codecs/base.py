"""What a codec is: a few methods, so that any exchange can use any codec.

The exact size on the wire is known before anything is encoded, so that deadlines, byte counts, limits of the
mailbox and the virtual fabric's clock never depend on the values. A code whose length does depend on them
(Elias, entropy coders) has `fixed_size = False`, and `wire_bytes` is an upper bound; such a codec can be compared
and measured, but no exchange is given one (see gannet.node.codecs.elias).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Codec(Protocol):
    """Packs a flat float32 tensor into bytes and back.

    `unbiased`: the mean of what comes back is what went in (casts count as such: they round to nearest).
    `grain`: a vector cut at multiples of so many values packs to as many bytes as in one segment, headers apart.
    """

    name: str
    fixed_size: bool
    unbiased: bool
    grain: int

    def wire_bytes(self, count: int) -> int:
        """Exact length in bytes of the payload for `count` values."""
        ...

    def encode(self, values: Tensor) -> memoryview:
        """Body for a flat float32 tensor. The payload does not alias `values`.

        Never raises for what the values are: a payload with NaN or infinity is one that is not `finite`, so that
        a receiver refuses it whatever the codec.
        """
        ...

    def decode(self, payload: memoryview) -> Tensor:
        """Flat float32 tensor on the CPU from a payload. Raises ValueError when the payload cannot be one."""
        ...

    def finite(self, payload: memoryview) -> bool:
        """Whether every value in the payload is a finite number. Raises ValueError when the payload cannot be one.

        A payload of which this is true can be decoded.
        """
        ...

    def state(self) -> dict[str, Tensor]:
        """Where a codec that rounds at random is in its stream; empty for others. Goes into checkpoints."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        ...


class Stateless:
    """A codec of fixed size that remembers nothing and may be cut anywhere."""

    fixed_size = True
    grain = 1

    def state(self) -> dict[str, Tensor]:
        """Nothing to remember."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Nothing to remember."""
        if state:
            raise ValueError(f"a codec without a state cannot continue from {sorted(state)}")
