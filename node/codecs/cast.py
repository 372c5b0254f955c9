"""Values cast to a floating-point dtype, little endian: fp32 is exact, fp16 and bf16 halve the bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from gannet.node.codecs.base import CodecConfig, Stateless
from gannet.node.codecs.finite import all_finite
from gannet.node.codecs.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

_DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


class CastConfig(CodecConfig):
    """Values cast to a shorter floating-point type, or sent unchanged."""

    casts: ClassVar[bool] = True
    forms: ClassVar[tuple[str, ...]] = tuple(_DTYPES)

    name: Literal["fp32", "fp16", "bf16"]

    @property
    def exact(self) -> bool:  # type: ignore[override]
        """Whether values are sent unchanged."""
        return self.name == "fp32"

    def build(self, seed: int, rank: int) -> CastCodec:
        return CastCodec(self.name)


class CastCodec(Stateless):
    """fp32, fp16 or bf16."""

    unbiased = True

    def __init__(self, name: str) -> None:
        self.name = name
        self._dtype: torch.dtype = getattr(torch, _DTYPES[name])

    def wire_bytes(self, count: int) -> int:
        return count * self._dtype.itemsize

    def encode(self, values: Tensor) -> memoryview:
        # A copy even for fp32: the sender continues to change its parameters while the message is in flight.
        if not len(values):
            return memoryview(b"")
        cast = values.detach().to("cpu", self._dtype, copy=True).contiguous()
        return cast.view(torch.uint8).numpy().data

    def decode(self, payload: memoryview) -> Tensor:
        return self._typed(payload).to(torch.float32, copy=True)

    def view(self, payload: memoryview) -> Tensor:
        """As `decode`, but float32 values stay in the payload's memory: they may be read, not changed."""
        return self._typed(payload).to(torch.float32)

    def finite(self, payload: memoryview) -> bool:
        return all_finite(self._typed(payload))

    def _typed(self, payload: memoryview) -> Tensor:
        if len(payload) % self._dtype.itemsize:
            raise ValueError(f"{len(payload)} bytes are no whole number of {self.name} values")
        if not len(payload):
            return torch.empty(0, dtype=self._dtype)
        raw = payload if not payload.readonly else bytearray(payload)
        return torch.frombuffer(raw, dtype=self._dtype)
