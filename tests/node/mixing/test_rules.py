"""Mixing rules against SciPy, NumPy and the papers' formulas, and what they promise against bad values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from scipy.stats import trim_mean

from gannet.node.mixing.base import MixingRule
from gannet.node.mixing.registry import NAMES, MixingConfig
from gannet.node.mixing.trimmed import trimmed_mean

RULES: TypeAdapter[MixingRule] = TypeAdapter(MixingConfig)


def mixed(rule: Any, own: np.ndarray, peers: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """What a node has after a mix; `weights`: its own and then its peers'."""
    mix = RULES.validate_python(rule).begin(torch.from_numpy(own), float(weights[0]))
    for values, weight in zip(peers, weights[1:], strict=True):
        mix.add(torch.from_numpy(values), float(weight))
    return mix.result().numpy()


def drawn(seed: int, count: int, size: int = 40, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """(values (count, size) in float32, weights that sum to 1)."""
    random = np.random.default_rng(seed)
    return (scale * random.standard_normal((count, size))).astype(np.float32), random.dirichlet(np.ones(count))


seeds = st.integers(0, 10**6)


@given(seeds, st.integers(1, 9), st.data())
def test_of_equal_weights_it_is_scipys_trimmed_mean(seed: int, count: int, data: st.DataObject) -> None:
    trim = data.draw(st.integers(0, (count - 1) // 2))
    x, _ = drawn(seed, count)
    ours = trimmed_mean([torch.from_numpy(row) for row in x], [1 / count] * count, trim).numpy()
    # SciPy cuts int(share · count) at each end: a little more than trim/count is surely trim of them.
    np.testing.assert_allclose(ours, trim_mean(x.astype(np.float64), (trim + 0.01) / count, axis=0), atol=1e-6)


@given(seeds, st.integers(1, 7), st.data())
def test_of_other_weights_it_is_the_mean_by_weight_of_what_is_left_of_each_coordinate(
    seed: int, count: int, data: st.DataObject
) -> None:
    trim = data.draw(st.integers(0, (count - 1) // 2))
    x, weights = drawn(seed, count)
    ours = trimmed_mean([torch.from_numpy(row) for row in x], list(weights), trim).numpy()
    for coordinate, got in zip(x.T.astype(np.float64), ours, strict=True):
        left = np.argsort(coordinate)[trim : count - trim]
        assert got == pytest.approx(np.average(coordinate[left], weights=weights[left]), abs=1e-5)


@given(seeds, st.integers(2, 9))
def test_the_median_is_numpys(seed: int, count: int) -> None:
    x, _ = drawn(seed, count)
    even = np.full(count, 1 / count)
    np.testing.assert_allclose(mixed("median", x[0], x[1:], even), np.median(x, axis=0), atol=1e-6)


def test_vectors_longer_than_what_is_sorted_at_once() -> None:
    x, weights = drawn(0, 5, size=100_001)
    for given_weights in (np.full(5, 0.2), weights):
        whole = mixed("trimmed-mean", x[0], x[1:], given_weights)
        short = mixed("trimmed-mean", x[0, -7:], x[1:, -7:], given_weights)
        np.testing.assert_array_equal(whole[-7:], short)


@given(seeds, st.integers(1, 3), st.integers(0, 3), st.sampled_from([1.0, 30.0, 1e30]), st.booleans())
def test_with_b_bad_values_a_trimmed_mean_lies_between_honest_ones(
    seed: int, byzantine: int, more: int, size: float, even: bool
) -> None:
    """Also where the weights differ, whichever peers lie; with b + 1 liars of one mind it does not."""
    count = 2 * byzantine + 1 + more
    x, weights = drawn(seed, count)
    weights = np.full(count, 1 / count) if even else weights
    random = np.random.default_rng(seed)
    liars = 1 + random.permutation(count - 1)[:byzantine]
    x[liars] = (size * random.standard_normal((byzantine, x.shape[1]))).astype(np.float32)
    honest = np.delete(x, liars, axis=0)
    got = mixed({"name": "trimmed-mean", "byzantine": byzantine}, x[0], x[1:], weights)
    assert (got >= honest.min(axis=0) - 1e-5).all() and (got <= honest.max(axis=0) + 1e-5).all()


def test_one_liar_too_many_spoils_a_trimmed_mean() -> None:
    x, _ = drawn(3, 5)
    x[3:] = 1e6
    assert (mixed({"name": "trimmed-mean", "byzantine": 1}, x[0], x[1:], np.full(5, 0.2)) > 1e5).all()


@given(seeds, st.integers(3, 7), st.booleans(), st.booleans())
def test_the_order_of_peers_changes_no_bit_of_a_trimmed_mean(seed: int, count: int, even: bool, ties: bool) -> None:
    x, weights = drawn(seed, count)
    x = np.round(x) if ties else x
    weights = np.full(count, 1 / count) if even else weights
    order = np.concatenate([[0], 1 + np.random.default_rng(seed).permutation(count - 1)])
    for rule in ("trimmed-mean", "median"):
        there = mixed(rule, x[0], x[1:], weights)
        np.testing.assert_array_equal(there, mixed(rule, x[0], x[order][1:], weights[order]))


@given(seeds, st.integers(1, 6))
def test_with_nothing_to_trim_or_to_clip_it_is_plain_gossip(seed: int, peers: int) -> None:
    x, weights = drawn(seed, peers + 1)
    mean = np.average(x.astype(np.float64), axis=0, weights=weights)
    rows = [torch.from_numpy(row) for row in x]
    np.testing.assert_allclose(mixed("mean", x[0], x[1:], weights), mean, atol=1e-5)
    np.testing.assert_allclose(trimmed_mean(rows, list(weights), 0).numpy(), mean, atol=1e-5)
    np.testing.assert_allclose(mixed({"name": "clip", "radius": 1e6}, x[0], x[1:], weights), mean, atol=1e-5)


def clipped(own: np.ndarray, peers: np.ndarray, weights: np.ndarray, radius: float) -> np.ndarray:
    """Algorithm 1 of ClippedGossip, in float64."""
    own, peers = own.astype(np.float64), peers.astype(np.float64)
    total = weights[0] * own
    for x, weight in zip(peers, weights[1:], strict=True):
        z = x - own
        total += weight * (own + min(1.0, radius / np.linalg.norm(z)) * z)
    return total


@given(seeds, st.integers(1, 6), st.floats(0.01, 20))
def test_clipping_is_the_papers_algorithm(seed: int, peers: int, radius: float) -> None:
    x, weights = drawn(seed, peers + 1)
    ours = mixed({"name": "clip", "radius": radius}, x[0], x[1:], weights)
    np.testing.assert_allclose(ours, clipped(x[0], x[1:], weights, radius), atol=1e-5)
    assert np.linalg.norm(ours - x[0]) <= (1 - weights[0]) * radius + 1e-5  # whatever the peers are


@given(seeds, st.integers(1, 2), st.integers(2, 6))
def test_the_radius_follows_from_the_peers_that_are_near(seed: int, byzantine: int, more: int) -> None:
    """τ is the (b+1)-th largest distance."""
    x, weights = drawn(seed, byzantine + more)
    distances = np.sort(np.linalg.norm(x[1:].astype(np.float64) - x[0], axis=1))
    ours = mixed({"name": "clip", "byzantine": byzantine}, x[0], x[1:], weights)
    np.testing.assert_allclose(ours, clipped(x[0], x[1:], weights, distances[-1 - byzantine]), atol=1e-5)


@pytest.mark.parametrize("size", [1e6, 1e30, 3e38])
def test_what_a_liar_sends_moves_a_clipped_mix_no_farther_the_larger_it_is(size: float) -> None:
    x, _ = drawn(1, 5)
    even = np.full(5, 0.2)
    x[4] = -size
    got = mixed("clip", x[0], x[1:], even)
    radius = np.linalg.norm(x[1:4].astype(np.float64) - x[0], axis=1).max()
    assert np.isfinite(got).all() and np.linalg.norm(got - x[0]) <= 0.8 * radius * (1 + 1e-5)


def test_where_all_are_one_or_none_is_near_nothing_moves() -> None:
    same = np.ones((4, 8), np.float32)
    alone = np.stack([np.zeros(8), np.full(8, 5.0)]).astype(np.float32)
    for name in NAMES:
        np.testing.assert_allclose(mixed(name, same[0], same[1:], np.full(4, 0.25)), same[0], rtol=1e-6)
    np.testing.assert_array_equal(mixed("clip", alone[0], alone[1:], np.full(2, 0.5)), alone[0])


@given(seeds, st.integers(0, 6))
def test_a_server_with_too_few_workers_puts_its_own_in_their_place(seed: int, workers: int) -> None:
    x, _ = drawn(seed, workers + 1)
    rule = RULES.validate_python({"name": "trimmed-mean", "byzantine": 2})
    rows = [torch.from_numpy(row) for row in x]
    whole = np.concatenate([x, np.repeat(x[:1], max(0, 4 - workers), axis=0)]).astype(np.float64)
    expected = trim_mean(whole, 2.01 / len(whole), axis=0)
    np.testing.assert_allclose(rule.equally(rows[0], rows[1:]).numpy(), expected, atol=1e-6)
    plain = RULES.validate_python("mean").equally(rows[0], rows[1:]).numpy()
    np.testing.assert_allclose(plain, x.mean(axis=0, dtype=np.float64), atol=1e-6)


def test_a_rule_is_written_as_it_is_read() -> None:
    for value in ("mean", "median", {"name": "trimmed-mean", "byzantine": 3}, {"name": "clip", "radius": 0.5}):
        rule = RULES.validate_python(value)
        assert RULES.validate_python(RULES.dump_python(rule)) == rule
    assert RULES.dump_python(RULES.validate_python({"name": "mean"})) == "mean"
