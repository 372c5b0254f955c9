"""Signs: one bit a value and a scale for each bucket, the mean magnitude (1-bit SGD; EF-signSGD).

The mean magnitude is the scale of the least error among ±c, and makes it a contraction: ‖Q(v) − v‖² =
(1 − ‖v‖₁²/(d‖v‖₂²)) ‖v‖² in a bucket of d. It is biased: only an error memory makes training with it converge
(Karimireddy et al. 2019). The payload: the count, a float32 scale for every bucket, then the bits, 1 for negative.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from gannet.node.codecs.base import Bucket, QuantizerConfig, Stateless
from gannet.node.codecs.dither import flat
from gannet.node.codecs.lazy import np, torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

_HEADER = 4


class SignConfig(QuantizerConfig):
    """Signs, and the mean magnitude of each bucket; biased: needs an error memory."""

    unbiased: ClassVar[bool] = False
    forms: ClassVar[tuple[str, ...]] = ("sign",)

    name: Literal["sign"]
    bucket: Bucket = 512

    def build(self, seed: int, rank: int) -> SignCodec:
        return SignCodec(self.text, self.bucket)


class SignCodec(Stateless):
    """One bit a value and 32 a bucket; a zero counts as positive."""

    unbiased = False

    def __init__(self, name: str, bucket: int) -> None:
        self.name, self.bucket, self.grain = name, bucket, bucket

    def wire_bytes(self, count: int) -> int:
        return _HEADER + 4 * -(-count // self.bucket) + -(-count // 8)

    def encode(self, values: Tensor) -> memoryview:
        x = flat(values)
        buckets, whole = -(-len(x) // self.bucket), len(x) // self.bucket * self.bucket
        payload = np.empty(self.wire_bytes(len(x)), np.uint8)
        payload[:_HEADER].view("<u4")[0] = len(x)
        scales = payload[_HEADER : _HEADER + 4 * buckets].view("<f4")
        scales[: whole // self.bucket] = _mean_magnitude(x[:whole].view(whole // self.bucket, self.bucket))
        if whole < len(x):
            scales[-1:] = _mean_magnitude(x[whole:][None])
        payload[_HEADER + 4 * buckets :] = np.packbits(np.signbit(x.numpy()))
        return payload.data

    def decode(self, payload: memoryview) -> Tensor:
        count, scales, bits = self._open(payload)
        if not np.isfinite(scales).all():
            raise ValueError("a bucket's scale is not finite")
        values = torch.zeros(len(scales) * self.bucket)
        signs = torch.from_numpy(np.unpackbits(bits, count=count).view(np.int8))
        values[:count] = signs
        values.mul_(-2).add_(1).view(len(scales), self.bucket).mul_(torch.from_numpy(scales)[:, None])
        return values[:count]

    def finite(self, payload: memoryview) -> bool:
        return bool(np.isfinite(self._open(payload)[1]).all())

    def _open(self, payload: memoryview) -> tuple[int, NDArray[np.float32], NDArray[np.uint8]]:
        count = int.from_bytes(payload[:_HEADER], "little")
        if len(payload) < _HEADER or len(payload) != self.wire_bytes(count):
            raise ValueError(f"{len(payload)} bytes are no whole number of {self.name} values")
        data, buckets = np.frombuffer(payload, np.uint8), -(-count // self.bucket)
        scales, bits = data[_HEADER : _HEADER + 4 * buckets].view("<f4"), data[_HEADER + 4 * buckets :]
        if (scales < 0).any():
            raise ValueError("a bucket's scale is negative")
        if count % 8 and bits[-1] & (0xFF >> count % 8):
            raise ValueError("bits behind the last value")
        return count, scales.astype(np.float32), bits


def _mean_magnitude(rows: Tensor) -> NDArray[np.float32]:
    # In double: a sum of finite values must not overflow.
    means = torch.linalg.vector_norm(rows, ord=1, dim=1, dtype=torch.float64).div_(rows.shape[1])
    return np.asarray(means.numpy(), np.float32)
