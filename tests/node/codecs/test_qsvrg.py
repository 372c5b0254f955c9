"""QSVRG on convex sums: the paper's rate and bits, the reference's trajectory, and the sums themselves."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize

from gannet.node.codecs.dither import Dither
from gannet.node.codecs.qsvrg import epoch_bits, qsvrg, sqrt_levels
from gannet.node.codecs.theory import variance_bound
from gannet.node.tasks.games.convex import LogisticRegression, Ridge
from tests.reference.qsvrg_reference import qsvrg as reference

SUMS: list[Any] = [Ridge, LogisticRegression]


@pytest.mark.parametrize("make", SUMS)
def test_sums_are_what_they_say(make: Any) -> None:
    """Gradients against differences, the minimum against SciPy's, L and ℓ against the eigenvalues on the way."""
    problem = make(6, 40, condition=30.0, seed=1)
    rng = np.random.default_rng(2)
    assert problem.smoothness / problem.convexity == pytest.approx(30)
    for x in rng.standard_normal((5, 6)):
        each = problem.gradient(x, np.arange(40))
        np.testing.assert_allclose(each.mean(axis=0), problem.gradient(x), atol=1e-14)
        np.testing.assert_allclose(approx_fprime(x, problem.value), problem.gradient(x), atol=1e-6)
        other = rng.standard_normal(6)
        apart = x - other
        slopes = (each - problem.gradient(other, np.arange(40))) @ apart / (apart @ apart)
        assert slopes.min() >= problem.convexity * (1 - 1e-9) and slopes.max() <= problem.smoothness * (1 + 1e-9)
    found = minimize(problem.value, np.zeros(6), jac=problem.gradient, tol=1e-12)
    np.testing.assert_allclose(problem.minimum(), found.x, atol=1e-6)
    assert np.linalg.norm(problem.gradient(problem.minimum())) < 1e-12


@pytest.mark.parametrize("make", SUMS)
def test_a_condition_must_be_above_one(make: Any) -> None:
    with pytest.raises(ValueError, match="above 1, got 1"):
        make(4, 10, condition=1)


@pytest.mark.parametrize("make", SUMS)
def test_qsvrg_contracts_as_the_theorem_says(make: Any) -> None:
    """E[f(y)] − f* ≤ 0.9^p (f(y_1) − f*), the mean over seeds, and no floor of quantization."""
    problem, seeds, epochs = make(64, 200, condition=3.0), 3, 5
    least, start = problem.value(problem.minimum()), np.zeros(64)
    gaps = np.array([
        [problem.value(epoch.y) - least for epoch in islice(qsvrg(problem, start, workers=4, seed=seed), epochs)]
        for seed in range(seeds)
    ])  # fmt: skip
    begin = problem.value(start) - least
    assert (gaps.mean(axis=0) <= begin * 0.9 ** np.arange(1, epochs + 1)).all()
    assert (gaps[:, 1:] < 0.9 * gaps[:, :-1]).mean() > 0.95  # each epoch by itself
    assert gaps[:, -1].max() < 1e-3 * begin


def test_bits_an_epoch_beside_the_papers() -> None:
    """(F + 2.8n) T + Fn is met within a few percent in either code, and a tenth of what float32 takes."""
    n, steps = 1024, 12
    problem = Ridge(n, 300, condition=10.0)
    epoch = next(qsvrg(problem, np.zeros(n), workers=2, steps=steps))
    for bits in (epoch.sparse_bits, epoch.dense_bits):
        assert 0.85 * epoch_bits(n, steps) < bits < 1.06 * epoch_bits(n, steps)
        assert bits - 32 * n < 0.11 * 32 * n * steps
    assert variance_bound(n, sqrt_levels(n)) == 1  # E‖Q(v)‖² ≤ 2‖v‖²


def uniforms_of(dither: Dither, at_a_time: int) -> Iterator[float]:
    """The numbers in [0, 1) that a codec's stream rounds with, so many drawn at a time."""
    while True:
        noise, low = dither.noise(at_a_time)
        yield from ((noise.numpy().astype(np.float64) + 2**15 + low) / 2**16).tolist()


@pytest.mark.parametrize(("make", "size", "workers"), [(Ridge, 16, 3), (LogisticRegression, 20, 2), (Ridge, 7, 1)])
def test_the_same_draws_give_the_references_trajectory(make: Any, size: int, workers: int) -> None:
    problem, steps, epochs = make(size, 30, condition=4.0, seed=3), 15, 4
    ours = list(islice(qsvrg(problem, np.ones(size), workers, 0.1, steps, seed=5, dither=Dither(6)), epochs))
    draw = np.random.default_rng(5)
    samples = (int(j) for _ in iter(int, 1) for j in draw.integers(0, problem.count, workers))
    theirs = reference(
        np.ones(size), lambda x, j: problem.gradient(x, np.array([j]))[0], problem.count, workers, 0.1, steps, epochs,
        samples, uniforms_of(Dither(6), size * workers),
    )  # fmt: skip
    for epoch, (y, sparse, dense) in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(epoch.y, y, atol=1e-6)
        assert (epoch.sparse_bits, epoch.dense_bits) == (sparse / workers, dense / workers)
