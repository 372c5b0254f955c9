"""QSGD as the paper has it, value by value in plain Python and NumPy: nothing of Gannet's, nothing vectorised.

Alistarh, Grubic, Li, Tomioka, Vojnovic: "QSGD: Communication-Efficient SGD via Gradient Quantization and Encoding"
(NeurIPS 2017). The quantizer of section 3.1, the Elias code of section 3.1 and appendix A, and the packed form that
Gannet sends, read bit by bit.
"""

from __future__ import annotations

import math
import struct

import numpy as np


def quantize(v: np.ndarray, s: int, norm: float, rng: np.random.Generator) -> list[int]:
    """Signed levels sgn(v_i) · s ξ_i: ℓ + 1 with probability s|v_i|/norm − ℓ, else ℓ."""
    levels = []
    for value in v:
        if norm == 0:
            levels.append(0)
            continue
        scaled = s * abs(float(value)) / norm
        low = math.floor(scaled)
        level = low + (1 if rng.random() < scaled - low else 0)
        levels.append(int(math.copysign(level, value)))
    return levels


def dequantize(levels: list[int], s: int, norm: float) -> np.ndarray:
    """norm · sgn · ξ."""
    return np.array([norm * level / s for level in levels])


def qsgd(v: np.ndarray, s: int, bucket: int, scale: str, rng: np.random.Generator) -> np.ndarray:
    """Q_s of every bucket of v."""
    parts = []
    for begin in range(0, len(v), bucket):
        part = np.asarray(v[begin : begin + bucket], np.float64)
        norm = float(np.abs(part).max() if scale == "max" else np.sqrt((part**2).sum()))
        parts.append(dequantize(quantize(part, s, norm, rng), s, norm))
    return np.concatenate(parts) if parts else np.zeros(0)


def omega(k: int) -> str:
    """Elias' omega code of k ≥ 1 as text of zeros and ones."""
    code = "0"
    while k > 1:
        code = f"{k:b}{code}"
        k = len(f"{k:b}") - 1
    return code


def read_omega(bits: str, at: int) -> tuple[int, int]:
    """(number, place behind its code)."""
    number = 1
    while bits[at] == "1":
        end = at + number + 1
        number, at = int(bits[at:end], 2), end
    return number, at + 1


def encode(levels: list[int]) -> str:
    """omega(gap), sign, omega(|level|) for every level that is not zero."""
    code, before = "", -1
    for place, level in enumerate(levels):
        if level:
            code += omega(place - before) + ("1" if level < 0 else "0") + omega(abs(level))
            before = place
    return code


def decode(bits: str, count: int) -> list[int]:
    """The levels of a code, whose end is the text's."""
    levels, at, place = [0] * count, 0, -1
    while at < len(bits):
        gap, at = read_omega(bits, at)
        negative, at = bits[at] == "1", at + 1
        level, at = read_omega(bits, at)
        place += gap
        levels[place] = -level if negative else level
    return levels


def read_packed(payload: bytes, count: int, bits: int, bucket: int) -> list[tuple[float, list[int]]]:
    """(scale, levels) of every bucket of a packed payload of `count` values; see node/codecs/packing.py."""
    s, per, buckets = 2 ** (bits - 1) - 1, 8 // bits, -(-count // bucket)
    at, read = 4 * buckets, []
    for k in range(buckets):
        (scale,) = struct.unpack_from("<f", payload, 4 * k)
        size = min(bucket, count - k * bucket)
        packed = -(-size * bits // 8)
        places = [(j % packed, j // packed) for j in range(packed * per)]  # value j: its byte, its place in there
        codes = [(payload[at + byte] >> (bits * place)) & (2**bits - 1) for byte, place in places]
        assert all(codes[:size]) and not any(codes[size:])
        read.append((scale, [code - s - 1 for code in codes[:size]]))
        at += packed
    assert at == len(payload)
    return read
