"""The scores on given features, against formulas written out in NumPy, closed forms and another library."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch_fidelity.metric_prc import prc_features_to_metric

from gannet.scores.extract import FrechetToData, classifier_score, kernel_distance
from gannet.scores.manifold import overlap
from gannet.scores.names import METRICS, MetricName, title
from gannet.scores.sample_size import shortfalls


def gaussian(n: int, size: int, seed: int, mean: float = 0.0, scale: float = 1.0) -> Tensor:
    """Points whose sample mean and covariance are exactly `mean` and scale² times the identity."""
    x = torch.randn(n, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = x - x.mean(0)
    factor = torch.linalg.cholesky(x.T @ x / (n - 1))
    white: Tensor = torch.linalg.solve_triangular(factor, x.T, upper=False).T
    return white * scale + mean


@pytest.mark.parametrize("mean, scale", [(0.0, 1.0), (0.5, 1.0), (0.0, 3.0), (-1.5, 0.25)])
def test_the_frechet_distance_of_gaussians_has_a_closed_form(mean: float, scale: float) -> None:
    """|μ − μ'|² + d (σ − σ')², Dowson and Landau 1982 for isotropic Gaussians."""
    size = 6
    to_data = FrechetToData(gaussian(400, size, 1))
    expected = size * mean**2 + size * (1 - scale) ** 2
    assert to_data(gaussian(300, size, 2, mean, scale)) == pytest.approx(expected, abs=1e-6)


def literal_kernel_distance(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Gretton et al. 2012, eq. 3: sums over pairs, none of a point with itself in the first two."""

    def kernel(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
        return float((a @ b / len(a) + 1) ** 3)

    n, m = len(x), len(y)
    within_x = sum(kernel(x[i], x[j]) for i, j in product(range(n), repeat=2) if i != j) / (n * (n - 1))
    within_y = sum(kernel(y[i], y[j]) for i, j in product(range(m), repeat=2) if i != j) / (m * (m - 1))
    between = sum(kernel(a, b) for a, b in product(x, y)) / (n * m)
    return within_x + within_y - 2 * between


def test_the_kernel_distance_is_the_unbiased_estimator() -> None:
    x, y = gaussian(40, 5, 3), gaussian(40, 5, 4, mean=0.7)
    assert kernel_distance(x, y) == pytest.approx(literal_kernel_distance(x.numpy(), y.numpy()), rel=1e-9)


def test_the_kernel_distance_of_equal_distributions_is_zero_in_the_mean_and_falls_below_it() -> None:
    found = [kernel_distance(torch.randn(50, 4, generator=random(s)), torch.randn(50, 4, generator=random(s + 1)))
             for s in range(0, 200, 2)]  # fmt: skip
    assert abs(np.mean(found)) < 4 * np.std(found) / math.sqrt(len(found))
    assert min(found) < 0 < max(found)


def test_the_kernel_distance_draws_the_same_subsets_every_time_and_leaves_the_stream_alone() -> None:
    x, y = torch.randn(1300, 3, generator=random(1)), torch.randn(1200, 3, generator=random(2))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = kernel_distance(x, y)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert kernel_distance(x, y) == first


def random(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("classes", [2, 10])
def test_the_classifier_score_of_sure_and_unsure_predictions(classes: int) -> None:
    assert classifier_score(torch.zeros(60, classes)) == pytest.approx(1)  # it cannot tell any image
    everything = torch.eye(classes).repeat(30, 1) * 60
    assert classifier_score(everything) == pytest.approx(classes)  # sure, and all classes are there
    assert classifier_score(everything[:1].repeat(60, 1)) == pytest.approx(1)  # sure, and always of the same
    half = torch.cat([everything[:1], everything[1:2]]).repeat(30, 1)
    assert classifier_score(half) == pytest.approx(2)


def test_the_classifier_score_by_the_formula() -> None:
    logits = torch.randn(200, 7, generator=random(3)) * 2
    p = np.exp(logits.double().numpy())
    p /= p.sum(1, keepdims=True)
    expected = math.exp(float(np.mean(np.sum(p * (np.log(p) - np.log(p.mean(0))), axis=1))))
    assert classifier_score(logits) == pytest.approx(expected, rel=1e-9)


def literal_overlap(x: NDArray[np.float64], y: NDArray[np.float64], k: int, wide: int) -> list[float]:
    """The definitions of both papers, point by point."""

    def radius(points: NDArray[np.float64], i: int, neighbours: int) -> float:
        return sorted(math.dist(points[i], points[j]) for j in range(len(points)) if j != i)[neighbours - 1]

    near_x, near_y = [radius(x, i, k) for i in range(len(x))], [radius(y, j, k) for j in range(len(y))]
    wide_x = [radius(x, i, wide) for i in range(len(x))]
    precision = np.mean([any(math.dist(a, x[i]) <= near_x[i] for i in range(len(x))) for a in y])
    recall = np.mean([any(math.dist(a, y[j]) <= near_y[j] for j in range(len(y))) for a in x])
    density = np.mean([sum(math.dist(a, x[i]) < wide_x[i] for i in range(len(x))) for a in y]) / wide
    coverage = np.mean([any(math.dist(a, x[i]) < wide_x[i] for a in y) for i in range(len(x))])
    return [float(value) for value in (precision, recall, density, coverage)]


@pytest.mark.parametrize("apart", [0.0, 0.8, 2.0])
@pytest.mark.parametrize("k, wide", [(3, 5), (1, 2), (5, 3)])
def test_overlap_agrees_with_the_papers_point_by_point(apart: float, k: int, wide: int) -> None:
    x = torch.randn(60, 3, generator=random(7))
    y = torch.randn(45, 3, generator=random(8)) * 0.9 + apart
    found = overlap(x, y, k, wide)
    expected = literal_overlap(x.double().numpy(), y.double().numpy(), k, wide)
    assert [found.precision, found.recall, found.density, found.coverage] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("rows", [1, 50, 10_000])
def test_precision_and_recall_are_those_of_torch_fidelity(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gannet.scores.manifold.ROWS", rows)
    real, made = torch.randn(230, 16, generator=random(1)), torch.randn(170, 16, generator=random(2)) * 0.8 + 0.1
    theirs = prc_features_to_metric(
        made, real, prc_neighborhood=3, prc_batch_size=64, save_cpu_ram=True, verbose=False
    )
    found = overlap(real, made)
    assert 0 < theirs["recall"] < theirs["precision"] < 1
    assert found.precision == pytest.approx(theirs["precision"], abs=1e-6)
    assert found.recall == pytest.approx(theirs["recall"], abs=1e-6)


def test_overlap_of_the_same_points_of_far_ones_and_of_a_collapsed_generator() -> None:
    x = torch.randn(80, 4, generator=random(1))
    same = overlap(x, x)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    assert same.density == pytest.approx(1)  # each point lies in its own ball, and in those of 4 others on average
    far = overlap(x, x + 1000)
    assert (far.precision, far.recall, far.density, far.coverage) == (0, 0, 0, 0)
    one = overlap(x, x[:1].repeat(80, 1) + 1e-3)  # a single good image, again and again
    assert one.precision == 1 and one.recall == 0 and one.coverage < 0.3


def test_coverage_and_density_of_equal_distributions_are_as_naeem_et_al_derive() -> None:
    """E[coverage] = 1 − Π_{i=1..k} (n − i)/(m + n − i) and E[density] = 1 (their section 3.3)."""
    n, m, k = 300, 200, 5
    expected = 1 - math.prod((n - i) / (m + n - i) for i in range(1, k + 1))
    found = [overlap(torch.randn(n, 2, generator=random(s)), torch.randn(m, 2, generator=random(s + 50)))
             for s in range(40)]  # fmt: skip
    for values, mean in (([f.coverage for f in found], expected), ([f.density for f in found], 1.0)):
        assert abs(np.mean(values) - mean) < 4 * np.std(values) / math.sqrt(len(found))


def test_too_few_points_for_their_neighbours_are_an_error() -> None:
    with pytest.raises(ValueError, match="at least 6 points"):
        overlap(torch.randn(5, 2), torch.randn(50, 2))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(6, 40),
    m=st.integers(6, 40),
    size=st.integers(1, 6),
    scale=st.floats(0, 10),
    grain=st.sampled_from([0.0, 1.0]),
)
def test_every_score_stays_in_its_range(seed: int, n: int, m: int, size: int, scale: float, grain: float) -> None:
    """Also where points coincide: with grain 1 all lie on whole numbers."""
    random = torch.Generator().manual_seed(seed)
    x, y = torch.randn(n, size, generator=random), torch.randn(m, size, generator=random) * scale
    x, y = (x.round(), y.round()) if grain else (x, y)
    found = overlap(x, y)
    assert all(0 <= share <= 1 for share in (found.precision, found.recall, found.coverage))
    assert 0 <= found.density <= n / 5
    assert FrechetToData(x)(y) >= -1e-6 * (1 + scale**2)
    assert math.isfinite(kernel_distance(x, y))
    assert 1 - 1e-9 <= classifier_score(y) <= size + 1e-9


def test_only_inceptions_scores_have_the_names_of_the_field() -> None:
    assert [title(name, "Inception") for name in ("frechet", "kid", "inception-score")] == [
        "FID", "KID", "Inception score"
    ]  # fmt: skip
    for network, name in product(("FashionNet", "EfficientNet-Lite0"), METRICS):
        assert network in title(name, network) and not {"FID", "KID", "Inception"} & set(title(name, network).split())
    for name in ("precision", "recall", "density", "coverage"):
        assert "Inception" in title(name, "Inception")


def test_too_few_images_are_said_in_one_sentence_each() -> None:
    everything = tuple(METRICS)
    assert shortfalls("FashionNet", 128, 10, everything, real=5000, generated=1000) == ()
    assert shortfalls("FashionNet", 128, 10, everything, real=5000, generated=129) != ()
    fid, kid, score, among = shortfalls("Inception", 2048, 1008, everything, real=10_000, generated=500)
    assert fid.startswith("FID: 500 generated images for 2,048 features") and "above 2,048" in fid
    assert kid.startswith("KID: subsets of 500 images instead of 1,000")
    assert score.startswith("Inception score: 500 images for 1,008 classes")
    assert among.startswith("precision, recall, density, coverage (Inception features): neighbourhoods among 500")

    def of_fid(real: int, generated: int) -> tuple[str, ...]:
        only: tuple[MetricName, ...] = ("frechet",)
        return shortfalls("Inception", 2048, 1008, only, real, generated)

    assert of_fid(10_000, 2048) == (fid.replace("500", "2,048"),)
    assert of_fid(10_000, 2049) == ()
    (real,) = of_fid(2000, 5000)
    assert "2,000 real images" in real and "score.samples" not in real
