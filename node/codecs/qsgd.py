"""QSGD: stochastic quantization to s levels of a bucket's scale (Alistarh et al. 2017), packed.

    Q_s(v_i) = ‖v‖ · sgn(v_i) · ξ_i,   ξ_i = (ℓ + 1)/s with probability s|v_i|/‖v‖ − ℓ, else ℓ/s,  ℓ = ⌊s|v_i|/‖v‖⌋

‖v‖ is the bucket's L2 norm (the theorem) or its largest magnitude (the paper's practice). Rounding s v_i/‖v‖ to
⌊· + u⌋ with u uniform in [0, 1) is the same law, signs included. The payload: a float32 scale for every bucket, then
every bucket's levels at `bits` a value with the sign, s = 2^(bits−1) − 1: "4 bits" are s = 7.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import model_validator

from gannet.node.codecs.base import Bucket, QuantizerConfig
from gannet.node.codecs.dither import CHUNK, Dither, Dithered, flat
from gannet.node.codecs.lazy import np, torch
from gannet.node.codecs.packing import has_unused, pack, pack_last, packed_bytes, unpack, unpack_last
from gannet.node.codecs.theory import variance_bound

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

# A bucket whose scale is less counts as zeros: s ÷ scale would be no finite float32.
SMALLEST_SCALE = 2.0**-100


class QsgdConfig(QuantizerConfig):
    """QSGD (Alistarh et al. 2017) packed to `bits` a value with the sign: s = 1, 7 or 127 levels.

    `bucket`: values that share a scale, 128 for 2 bits and 512 else, as in the paper. `scale`: their largest
    magnitude or their L2 norm.
    """

    forms: ClassVar[tuple[str, ...]] = ("qsgd-2bit", "qsgd-4bit", "qsgd-8bit")

    name: Literal["qsgd"]
    bits: Literal[2, 4, 8] = 4
    bucket: Bucket = 512
    scale: Literal["max", "l2"] = "max"

    @model_validator(mode="before")
    @classmethod
    def _bucket_of_two_bits(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("bits") == 2:
            return {"bucket": 128} | values
        return values

    @property
    def damping(self) -> float:
        """1/(1 + ω) for the worst vector, where it is needed.

        Scaled by the largest magnitude of a bucket of d values, ω is at most (√d + 1)/2 − 1 with one level; with more
        levels ω is far below 1 but on vectors that are a spike over many small values, and they are not damped.
        """
        if self.scale == "l2":
            return 1 / (1 + variance_bound(self.bucket, 2 ** (self.bits - 1) - 1))
        return 2 / (sqrt(self.bucket) + 1) if self.bits == 2 else 1.0

    def build(self, seed: int, rank: int) -> QsgdCodec:
        return QsgdCodec(self.text, self.bits, self.bucket, self.scale, Dither(seed, rank))


def quantize(rows: Tensor, s: int, scale: str, dither: Dither) -> tuple[Tensor, Tensor]:
    """(scales, codes) of buckets that are the rows of `rows`; shapes (rows,), float32, and that of `rows`.

    `scale`: "max" or "l2". A code, from 1 to 2s + 1, is the level + s + 1: uint8 where that fits, else int64. A row
    that has NaN or infinity has such a scale, and codes that mean nothing.
    """
    dtype: type[np.uint8] | type[np.int64] = np.uint8 if s < 128 else np.int64
    step = max(1, CHUNK // rows.shape[1])
    scales, codes = torch.empty(len(rows)), np.empty(rows.shape, dtype)
    for begin in range(0, len(rows), step):
        scales[begin : begin + step] = _scales(rows[begin : begin + step], scale)
    whole = bool(torch.isfinite(scales).all())
    factors = torch.where(scales > 0, (s * 2.0**16) / scales, 0.0)[:, None]
    for begin in range(0, len(rows), step):
        chunk = rows[begin : begin + step]
        noise, low = dither.noise(chunk.numel())
        # In units of 2^-16 levels first: three passes over the chunk instead of five.
        scaled = torch.addcmul(noise.view_as(chunk), chunk, factors[begin : begin + step])
        torch.add(torch.tensor(s + 1.5 + low * 2.0**-16), scaled, alpha=2.0**-16, out=scaled)
        scaled.clamp_(1, 2 * s + 1.5)
        if not whole:
            scaled.nan_to_num_(1.0)
        # NumPy's cast to a byte: torch's takes four times as long.
        np.copyto(codes[begin : begin + step], scaled.numpy(), casting="unsafe")
    return scales, torch.from_numpy(codes)


def _scales(rows: Tensor, scale: str) -> Tensor:
    if scale == "max":
        scales = rows.abs().amax(dim=1)
    else:  # in double: squares of finite values must not overflow
        scales = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64).to(torch.float32)
    return torch.where(scales < SMALLEST_SCALE, 0.0, scales)


class QsgdCodec(Dithered):
    """QSGD packed to 2, 4 or 8 bits a value: 2.25 bits with buckets of 128, 4.06 and 8.06 with 512."""

    def __init__(self, name: str, bits: int, bucket: int, scale: str, dither: Dither) -> None:
        super().__init__(name, dither)
        self.s = 2 ** (bits - 1) - 1
        self.bits, self.bucket, self.scale = bits, bucket, scale
        self.grain = bucket
        self._row_bytes = bucket * bits // 8

    def wire_bytes(self, count: int) -> int:
        whole, rest = divmod(count, self.bucket)
        return 4 * (whole + bool(rest)) + whole * self._row_bytes + packed_bytes(rest, self.bits)

    def encode(self, values: Tensor) -> memoryview:
        x = flat(values)
        payload = np.empty(self.wire_bytes(len(x)), np.uint8)
        whole, buckets = len(x) // self.bucket, -(-len(x) // self.bucket)
        scales, packed = payload[: 4 * buckets].view("<f4"), payload[4 * buckets :]
        if whole:
            rows = x[: whole * self.bucket].view(whole, self.bucket)
            found, codes = quantize(rows, self.s, self.scale, self._dither)
            scales[:whole] = found.numpy()
            lines, step = packed[: whole * self._row_bytes].reshape(whole, self._row_bytes), CHUNK // self.bucket + 1
            for begin in range(0, whole, step):
                lines[begin : begin + step] = pack(codes[begin : begin + step], self.bits)
        if len(rest := x[whole * self.bucket :]):
            found, codes = quantize(rest[None], self.s, self.scale, self._dither)
            scales[whole:] = found.numpy()
            packed[whole * self._row_bytes :] = pack_last(codes[0], self.bits)
        return payload.data

    def decode(self, payload: memoryview) -> Tensor:
        scales, packed, last = self._open(payload)
        if not np.isfinite(scales).all():
            raise ValueError("a bucket's scale is not finite")
        whole = len(packed) // self._row_bytes
        values = torch.empty(whole * self.bucket + len(last))
        rows, codes = values[: whole * self.bucket].view(whole, self.bucket), packed.reshape(whole, self._row_bytes)
        units = torch.from_numpy(scales / np.float32(self.s))
        step = max(1, CHUNK // self.bucket)
        for begin in range(0, whole, step):
            part = slice(begin, begin + step)
            chunk = rows[part]
            chunk.copy_(torch.from_numpy(unpack(codes[part], self.bits)))
            chunk.sub_(self.s + 1).mul_(units[:whole, None][part])
        if len(last):
            values[whole * self.bucket :] = (torch.from_numpy(last).to(torch.float32) - (self.s + 1)) * units[-1]
        return values

    def finite(self, payload: memoryview) -> bool:
        return bool(np.isfinite(self._open(payload)[0]).all())

    def _open(self, payload: memoryview) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint8]]:
        """(scales, whole buckets' bytes, the last bucket's codes) of a payload that is one, or ValueError."""
        buckets = -(-len(payload) // (4 + self._row_bytes))
        last = len(payload) - 4 * buckets - max(0, buckets - 1) * self._row_bytes
        if not buckets:
            return np.empty(0, np.float32), np.empty(0, np.uint8), np.empty(0, np.uint8)
        if last < 1:
            raise ValueError(f"{len(payload)} bytes are no whole number of {self.name} values")
        data = np.frombuffer(payload, np.uint8)
        scales, packed = data[: 4 * buckets].view("<f4"), data[4 * buckets :]
        if (scales < 0).any():
            raise ValueError("a bucket's scale is negative")
        if has_unused(packed[:-last], self.bits):
            raise ValueError("an unused code among the values")
        return scales.astype(np.float32), packed[:-last], unpack_last(packed[-last:], self.bits)
