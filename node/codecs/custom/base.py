"""The base class of user-defined codecs; docs/own-codec.md walks through it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from gannet.node.codecs.finite import all_finite
from gannet.node.codecs.lazy import np, torch
from gannet.node.settings import NoSettings, Settings

if TYPE_CHECKING:
    from torch import Tensor


class Codec:
    """Packs a vector into bytes and back. Define at least `unbiased`, `wire_bytes`, `encode` and `decode`.

    Every node builds its own. The result of `decode` may depend on the payload and the settings alone: the receiver
    is not the node that encoded.
    """

    unbiased: bool
    """Whether the mean of the decoded values is the encoded value. Must be set: methods without an error memory
    refuse codecs that are biased."""

    casts: bool = False
    """Whether each value is rounded by itself, to nearest, so that parameters may be sent, not only gradients."""

    variance: float | None = None
    """ω where E‖Q(v) − v‖² ≤ ω ‖v‖² of an unbiased codec. Choco and deepsqueeze then multiply decoded values by
    1/(1 + ω), which makes a codec with ω ≥ 1 the contraction that they need."""

    grain: int = 1
    """A vector cut at multiples of this many values packs to as many bytes as in one segment, without headers."""

    raw_below: int = 10_000
    """Tensors of fewer values travel as float32, where a method knows tensors, and running statistics do; 0: none."""

    Settings: ClassVar[type[Settings]] = NoSettings
    """Fields that a spec may give as `settings`; read them as self.settings.<field>."""

    def __init__(self, settings: Mapping[str, Any], seed: int, rank: int) -> None:
        self.settings: Any = self.Settings.model_validate(dict(settings))
        state = np.random.SeedSequence([seed, rank, 0xC0DEC]).generate_state(2, np.uint32)
        self.generator: torch.Generator = torch.Generator().manual_seed(int(state[0]) << 32 | int(state[1]))
        """The only source of random numbers: the same for equal seeds, different on each rank."""

    def wire_bytes(self, count: int) -> int:
        """Length in bytes of the payload of `count` values, whatever they are."""
        raise NotImplementedError(f"{type(self).__name__} must say its size: define wire_bytes(self, count)")

    def encode(self, values: Tensor) -> bytes:
        """The payload of a flat float32 tensor on the CPU, which may be empty and must not be changed.

        NaN and infinity must not raise: the payload is then not `finite`.
        """
        raise NotImplementedError(f"{type(self).__name__} cannot pack: define encode(self, values)")

    def decode(self, payload: memoryview) -> Tensor:
        """The flat float32 tensor on the CPU, in memory of its own. ValueError for bytes that are no payload."""
        raise NotImplementedError(f"{type(self).__name__} cannot unpack: define decode(self, payload)")

    def finite(self, payload: memoryview) -> bool:
        """Whether the payload's values are all finite numbers; a payload with others is refused by its receiver."""
        return all_finite(self.decode(payload))

    def state(self) -> dict[str, Tensor]:
        """State that a resumed run needs; extend it if the codec remembers more than its generator."""
        return {"generator": self.generator.get_state()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from a `state`."""
        self.generator.set_state(state["generator"])
