"""Natural compression: every value rounded at random to one of the two neighbouring powers of two, unbiased.

Horváth et al., "Natural Compression for Distributed Deep Learning" (arXiv 1905.10988): variance at most ⅛ ‖v‖².
In IEEE 754 this is one addition: a random 23-bit number added to the significand carries into the exponent with
just the right probability, for subnormal numbers too. 9 bits: sign and exponent, 8 bytes of exponents then one of
signs. 8 bits: sign and an exponent of 7 bits below the largest one in the payload, which goes first; what is less
than 2^-126 of the largest becomes zero.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from gannet.node.codecs.base import QuantizerConfig
from gannet.node.codecs.dither import CHUNK, Dither, Dithered, flat
from gannet.node.codecs.lazy import np, torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

_NOT_FINITE = 255  # the exponent of NaN and infinity
_RANGE = 127  # exponents of the 8-bit form, and zero


class NaturalConfig(QuantizerConfig):
    """Natural compression (Horváth et al. 2019): powers of two, 9 bits a value, or 8 with a narrower exponent."""

    forms: ClassVar[tuple[str, ...]] = ("natural-8bit", "natural-9bit")

    name: Literal["natural"]
    bits: Literal[8, 9] = 8

    def build(self, seed: int, rank: int) -> NaturalCodec:
        return NaturalCodec(self.text, self.bits, Dither(seed, rank))


class NaturalCodec(Dithered):
    """9 bits a value, or 8 and one byte."""

    def __init__(self, name: str, bits: int, dither: Dither) -> None:
        super().__init__(name, dither)
        self.bits = bits

    def wire_bytes(self, count: int) -> int:
        if self.bits == 9:
            return count + -(-count // 8)
        return count + bool(count)

    def encode(self, values: Tensor) -> memoryview:
        x = flat(values)
        payload = np.empty(self.wire_bytes(len(x)), np.uint8)
        if not len(x):
            return payload.data
        exponents = np.empty(len(x), np.uint8)
        for begin in range(0, len(x), CHUNK):
            part = slice(begin, begin + CHUNK)
            torch.from_numpy(exponents)[part] = self._rounded(x[part])
        if self.bits == 9:
            payload[: len(x)], payload[len(x) :] = exponents, np.packbits(np.signbit(x.numpy()))
            return payload.data
        top = int(exponents.max())
        payload[0] = top
        # Modulo 256, where top < 127; zero stays zero, and so does what is too far below the top.
        lowest = top - _RANGE
        relative = exponents - np.uint8(lowest % 256)
        relative *= (exponents > max(0, lowest)).view(np.uint8)
        np.bitwise_or(relative, np.signbit(x.numpy()).view(np.uint8) << 7, out=payload[1:])
        return payload.data

    def _rounded(self, x: Tensor) -> Tensor:
        """Exponents after rounding, int32."""
        magnitude = x.view(torch.int32).bitwise_and(0x7FFFFFFF).clamp_(max=_NOT_FINITE << 23)
        noise = torch.from_numpy(self._dither.integers(len(x))).to(torch.int32)
        magnitude.add_(noise, alpha=1 << 7)  # 16 bits of 23, from −2^22; the chunk shares the 7 below
        return magnitude.add_((1 << 22) + (self._dither.word() >> 57)).bitwise_right_shift_(23)

    def decode(self, payload: memoryview) -> Tensor:
        exponents, signs, scale = self._open(payload)
        if self._top(exponents, payload) == _NOT_FINITE:
            raise ValueError("NaN or infinity among the values")
        values = torch.empty(len(exponents))
        for begin in range(0, len(values), CHUNK):
            part = slice(begin, begin + CHUNK)
            bits = torch.from_numpy(exponents[part].astype(np.int32)).bitwise_left_shift_(23)
            sign = torch.from_numpy(signs[part].astype(np.int32)).bitwise_left_shift_(31)
            torch.mul(bits.bitwise_or_(sign).view(torch.float32), scale, out=values[part])
        return values

    def finite(self, payload: memoryview) -> bool:
        return self._top(self._open(payload)[0], payload) != _NOT_FINITE

    def _top(self, exponents: NDArray[np.uint8], payload: memoryview) -> int:
        if not len(exponents):
            return 0
        return int(exponents.max()) if self.bits == 9 else payload[0]

    def _open(self, payload: memoryview) -> tuple[NDArray[np.uint8], NDArray[np.uint8], float]:
        """(exponents, 1 where negative, what to multiply with), or ValueError."""
        data = np.frombuffer(payload, np.uint8)
        if self.bits == 9:
            count = len(data) * 8 // 9
            if self.wire_bytes(count) != len(data):
                raise ValueError(f"{len(data)} bytes are no whole number of {self.name} values")
            if count % 8 and data[-1] & (0xFF >> count % 8):
                raise ValueError("bits behind the last value")
            return data[:count], np.unpackbits(data[count:], count=count), 1.0
        if len(data) == 1:
            raise ValueError(f"1 byte is no whole number of {self.name} values")
        if not len(data):
            return data, data, 1.0
        codes, lowest = data[1:] & np.uint8(0x7F), int(data[0]) - _RANGE
        if lowest < 0 and bool(((codes > 0) & (codes < 1 - lowest)).any()):
            raise ValueError("an exponent below those of float32")
        return codes, data[1:] >> np.uint8(7), 2.0**lowest
