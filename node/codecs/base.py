"""The interface of codecs: a few methods, so that any exchange can use any codec.

The exact size on the wire is known before anything is encoded, so that deadlines, byte counts, limits of the
mailbox and the virtual fabric's clock never depend on the values. A code whose length does depend on them
(Elias, entropy coders) has `fixed_size = False`, and `wire_bytes` is an upper bound; such a codec can be compared
and measured, but no exchange is given one (see gannet.node.codecs.elias).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar, Protocol

from pydantic import Field

from gannet.node.settings import Settings

if TYPE_CHECKING:
    from torch import Tensor


class Traits(Protocol):
    """Properties of a codec that methods and exchanges ask for before anything is encoded.

    `casts`: each value is rounded by itself, to nearest, so that even parameters may be sent this way. `exact`:
    decoding returns the encoded values. `unbiased`: the mean of the decoded values is the encoded value (casts count
    as unbiased). `damping`: the factor by which decoded values are multiplied to make the codec a contraction,
    1/(1 + ω) with its relative variance ω.
    """

    @property
    def casts(self) -> bool: ...

    @property
    def exact(self) -> bool: ...

    @property
    def unbiased(self) -> bool: ...

    @property
    def damping(self) -> float: ...

    def keeps_float32(self, values: int, statistics: bool) -> bool:
        """Whether a tensor of that many values, or of running statistics, travels as float32 next to the codec."""
        ...


class CodecConfig(Settings):
    """The base of a shipped codec's settings: the choices of a spec, the codec's properties, and how it is built.

    `forms`: ready-made names, as messages and measurements list them.
    """

    shipped: ClassVar[bool] = True
    casts: ClassVar[bool] = False
    exact: ClassVar[bool] = False
    unbiased: ClassVar[bool] = True
    forms: ClassVar[tuple[str, ...]]

    name: str

    @property
    def text(self) -> str:
        """The canonical text for these parameters; those with default values are left out."""
        bits = getattr(self, "bits", None)
        usual = type(self).model_validate({"name": self.name} | ({"bits": bits} if bits else {}))
        head = f"{self.name}-{bits}bit" if bits else self.name
        others = [key for key in type(self).model_fields if key not in ("name", "bits")]
        return ",".join([head, *(f"{k}={v}" for k in others if (v := getattr(self, k)) != getattr(usual, k))])

    @property
    def traits(self) -> Traits:
        """The codec's properties; for a user-defined codec, this runs the user's code."""
        return self

    @property
    def damping(self) -> float:
        """See Traits; 1 for a codec that is a contraction already, or nearly so in practice."""
        return 1.0

    def keeps_float32(self, values: int, statistics: bool) -> bool:
        """See Traits."""
        return False

    @abstractmethod
    def build(self, seed: int, rank: int) -> Codec:
        """The codec; `seed` and `rank` seed the stream of one that rounds or picks at random."""


class QuantizerConfig(CodecConfig):
    """`raw_below`: tensors of fewer elements travel as float32 where an exchange knows tensors (QSGD, section 5)."""

    raw_below: Annotated[int, Field(ge=0)] = 10_000

    def keeps_float32(self, values: int, statistics: bool) -> bool:
        return statistics or values < self.raw_below


Bucket = Annotated[int, Field(ge=8, le=1 << 20, multiple_of=8)]


class Codec(Protocol):
    """Packs a flat float32 tensor into bytes and back.

    `unbiased`: the mean of the decoded values is the encoded value (casts count as unbiased: they round to nearest).
    `grain`: a vector cut at multiples of this many values packs to as many bytes as in one segment, without headers.
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

        Never raises because of the values: a payload with NaN or infinity is not `finite`, so that a receiver
        refuses it whatever the codec.
        """
        ...

    def decode(self, payload: memoryview) -> Tensor:
        """Flat float32 tensor on the CPU from a payload. Raises ValueError when the payload cannot be one."""
        ...

    def finite(self, payload: memoryview) -> bool:
        """Whether every value in the payload is a finite number. Raises ValueError when the payload cannot be one.

        A payload for which this is true can be decoded.
        """
        ...

    def state(self) -> dict[str, Tensor]:
        """Position in the random stream, for a codec that rounds at random; else empty. Stored in checkpoints."""
        ...

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        ...


class Stateless:
    """A codec of fixed size that has no state and may be cut anywhere."""

    fixed_size = True
    grain = 1

    def state(self) -> dict[str, Tensor]:
        """Nothing to remember."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Nothing to remember."""
        if state:
            raise ValueError(f"a codec without a state cannot continue from {sorted(state)}")
