"""Bounds proved in the QSGD paper, as functions to compare measurements with.

Alistarh et al., "QSGD: Communication-Efficient SGD via Gradient Quantization and Encoding" (NeurIPS 2017). n: values
that share an L2 scale; s: levels.
"""

from __future__ import annotations

from math import log2, sqrt


def variance_bound(n: int, s: int) -> float:
    """E‖Q(v) − v‖² ≤ this · ‖v‖²: min(n/s², √n/s) (Lemma 3.1)."""
    return min(n / s**2, sqrt(n) / s)


def sparsity_bound(n: int, s: int) -> float:
    """E‖Q(v)‖₀ ≤ s(s + √n) (Lemma 3.1)."""
    return s * (s + sqrt(n))


def length_bound(n: int, s: int) -> float:
    """Expected bits of the Elias code: (3 + 3/2 · log2(2(s² + n)/(s(s + √n)))) · s(s + √n) + 32 (Theorem 3.2).

    The theorem's o(1) next to 3/2 is left out, so for small n this is an estimate and no bound.
    """
    nonzero = sparsity_bound(n, s)
    return (3 + 1.5 * log2(2 * (s**2 + n) / nonzero)) * nonzero + 32


def packed_bits(bits: int, bucket: int) -> float:
    """Bits a value of the packed form: 4.0625 for 4 bits in buckets of 512."""
    return bits + 32 / bucket
