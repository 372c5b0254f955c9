"""QSGD against the paper: its quantizer value by value, its bounds and its code lengths."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gannet.node.codecs import build_codec
from gannet.node.codecs.dither import Dither
from gannet.node.codecs.elias import (
    EliasQsgd,
    code_bits,
    decode_levels,
    encode_levels,
    omega_codes,
    omega_lengths,
    write_bits,
)
from gannet.node.codecs.qsgd import QsgdCodec, quantize
from gannet.node.codecs.theory import length_bound, packed_bits, sparsity_bound, variance_bound
from tests.reference import qsgd_reference as reference

gaussian = np.random.default_rng(11).standard_normal


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("scale", ["max", "l2"])
@pytest.mark.parametrize("count", [1, 7, 16, 17, 64, 79, 200])
def test_bodies_are_what_the_format_says(bits: int, scale: str, count: int) -> None:
    """Read bit by bit: the scales are the buckets', the levels neighbours of the scaled values, the values theirs."""
    v = gaussian(count).astype(np.float32)
    codec = QsgdCodec("qsgd", bits, 16, scale, Dither(1, 2))
    payload, s = codec.encode(torch.from_numpy(v)), 2 ** (bits - 1) - 1
    decoded = codec.decode(payload).numpy()
    buckets = reference.read_packed(bytes(payload), count, bits, 16)
    assert sum(len(levels) for _, levels in buckets) == count
    for k, (norm, levels) in enumerate(buckets):
        part = v[16 * k : 16 * k + 16]
        assert norm == pytest.approx(np.abs(part).max() if scale == "max" else np.linalg.norm(part), rel=1e-6)
        for value, level in zip(part, levels, strict=True):
            scaled = s * abs(float(value)) / norm
            assert level * float(value) >= 0 and scaled - 1 - 1e-4 < abs(level) < scaled + 1 + 1e-4
        np.testing.assert_allclose(decoded[16 * k : 16 * k + 16], reference.dequantize(levels, s, norm), rtol=1e-6)


@pytest.mark.parametrize(("bits", "bucket", "size"), [(2, 128, 2.25), (4, 512, 4.0625), (8, 512, 8.0625)])
def test_packed_sizes_of_the_paper(bits: int, bucket: int, size: float) -> None:
    assert packed_bits(bits, bucket) == size
    assert 8 * build_codec(f"qsgd-{bits}bit").wire_bytes(512 * 1000) == size * 512 * 1000


@pytest.mark.parametrize(("scale", "expected"), [("l2", 1.60), ("max", 0.0362)])
def test_relative_variance_of_four_bits(scale: str, expected: float) -> None:
    """Of a Gaussian vector in buckets of 512 with s = 7; the literal quantizer says the same."""
    v = gaussian(512 * 400).astype(np.float32)
    codec = build_codec(f"qsgd-4bit,scale={scale}")
    error = codec.decode(codec.encode(torch.from_numpy(v))).numpy() - v
    assert (error**2).sum() / (v**2).sum() == pytest.approx(expected, rel=0.02)
    few = v[: 512 * 20]
    literal = reference.qsgd(few, 7, 512, scale, np.random.default_rng(1)) - few
    assert (literal**2).sum() / (few**2).sum() == pytest.approx(expected, rel=0.1)


def levels_of(rows: torch.Tensor, s: int, seed: int = 0, scale: str = "l2") -> tuple[np.ndarray, np.ndarray]:
    scales, codes = quantize(rows, s, scale, Dither(seed))
    return scales.numpy().astype(np.float64), codes.numpy().astype(np.int64) - (s + 1)


@pytest.mark.parametrize(("n", "s"), [(64, 1), (64, 8), (1024, 1), (1024, 7), (1024, 32), (4096, 64)])
def test_lemma_3_1(n: int, s: int) -> None:
    """E‖Q(v) − v‖² ≤ min(n/s², √n/s)‖v‖² and E‖Q(v)‖₀ ≤ s(s + √n), on dense and on peaked vectors."""
    rows = torch.from_numpy(gaussian((200, n)).astype(np.float32))
    for shaped in (rows, rows.pow(5), torch.ones(200, n), torch.eye(n)[:200].repeat(200 // min(200, n) + 1, 1)[:200]):
        norms, levels = levels_of(shaped, s)
        v = shaped.numpy().astype(np.float64)
        np.testing.assert_allclose(norms, np.linalg.norm(v, axis=1), rtol=1e-5)
        relative = ((norms[:, None] * levels / s - v) ** 2).sum(axis=1) / (v**2).sum(axis=1)
        nonzero = (levels != 0).sum(axis=1)
        margin = 1 + 5 / math.sqrt(200)  # of a mean of 200 draws
        assert relative.mean() <= variance_bound(n, s) * margin
        assert nonzero.mean() <= sparsity_bound(n, s) * margin


def test_the_law_is_the_literal_one() -> None:
    """How often each level comes, of the vectorised and of the literal quantizer, from the same vector."""
    v, s, draws = np.array([0.9, -0.5, 0.31, -0.02, 0.0], np.float32), 3, 6000
    norm = float(np.linalg.norm(v.astype(np.float64)))
    _, levels = levels_of(torch.from_numpy(v).repeat(draws, 1), s)
    rng = np.random.default_rng(5)
    literal = np.array([reference.quantize(v, s, norm, rng) for _ in range(draws)])
    for place in range(5):
        for level in range(-s, s + 1):
            ours, theirs = (levels[:, place] == level).mean(), (literal[:, place] == level).mean()
            assert ours == pytest.approx(theirs, abs=5 * math.sqrt(0.5 / draws))


def test_elias_omega_lengths() -> None:
    lengths = [1, 3, 3, 6, 6, 6, 6, *[7] * 8, 11]
    assert omega_lengths(np.arange(1, 17)).tolist() == lengths
    assert [len(reference.omega(k)) for k in range(1, 17)] == lengths


@given(st.lists(st.one_of(st.integers(1, 40), st.integers(1, 2**32 - 1)), max_size=60))
def test_elias_omega_codes_are_the_literal_ones(numbers: list[int]) -> None:
    codes, lengths = omega_codes(np.array(numbers, np.int64))
    text = "".join(reference.omega(k) for k in numbers)
    stream = "".join(f"{byte:08b}" for byte in write_bits(codes, lengths))
    assert stream == text + "1" * (-len(text) % 8) and lengths.sum() == len(text)


@given(st.integers(1, 500), st.floats(0, 1), st.integers(0, 1500), st.integers(0, 2**31))
def test_sparse_code_round_trip(s: int, density: float, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    levels = rng.integers(-s, s + 1, count) * (rng.random(count) < density)
    data = encode_levels(levels)
    text = reference.encode(levels.tolist())
    assert "".join(f"{byte:08b}" for byte in data) == text + "1" * (-len(text) % 8)
    assert code_bits(levels) == 32 + len(text)
    assert reference.decode(text, count) == levels.tolist() == decode_levels(data, count, s).tolist()


@given(st.binary(max_size=40), st.integers(0, 400))
def test_bits_that_are_no_sparse_code_are_refused(data: bytes, count: int) -> None:
    """What is read is what writes the same bits; all else is a ValueError."""
    raw = np.frombuffer(data, np.uint8)
    try:
        levels = decode_levels(raw, count, 7)
    except ValueError:
        return
    assert encode_levels(levels).tobytes() == data


@given(st.integers(0, 700), st.sampled_from([1, 7, 30]), st.sampled_from([64, 1000]), st.integers(0, 1000))
def test_elias_bodies_come_back_within_their_bound(count: int, s: int, bucket: int, seed: int) -> None:
    x = torch.from_numpy(np.random.default_rng(seed).standard_normal(count).astype(np.float32))
    codec = EliasQsgd(s, bucket, "max", Dither(seed))
    payload = codec.encode(x)
    back = codec.decode(memoryview(bytes(payload)))
    assert len(payload) <= codec.wire_bytes(count) and codec.finite(payload) and len(back) == count
    for begin in range(0, count, bucket):
        part = slice(begin, begin + bucket)
        assert (back[part] - x[part]).abs().max() <= x[part].abs().max() / s * 1.001


@pytest.mark.parametrize(("n", "s"), [(4096, 1), (65536, 1), (65536, 4), (65536, 16)])
def test_code_lengths_stay_under_the_theorem(n: int, s: int) -> None:
    """Theorem 3.2 without its o(1), for s well below √n."""
    _, levels = levels_of(torch.from_numpy(gaussian((4, n)).astype(np.float32)), s)
    assert np.mean([code_bits(row) for row in levels]) <= length_bound(n, s)


def test_code_length_at_sqrt_n_levels() -> None:
    """s = √n on Gaussian data: 3.26 bits a coordinate at n = 64, 2.76 at n = 65,536, as the literal code has it."""
    for n, s, rows in ((64, 8, 100), (65536, 256, 1)):
        v = gaussian((rows, n)).astype(np.float32)
        _, levels = levels_of(torch.from_numpy(v), s)
        ours = np.mean([code_bits(row) for row in levels]) / n
        rng = np.random.default_rng(3)
        literal = [reference.quantize(row, s, float(np.linalg.norm(row)), rng) for row in v]
        theirs = np.mean([32 + len(reference.encode(row)) for row in literal]) / n
        assert ours == pytest.approx(theirs, rel=0.02) and 2.7 < ours < 3.35
