"""Whether a codec's errors are what it declares: without bias, within its variance, smaller than the vector.

The mean error of N payloads is compared with the empirical Bernstein bound (Maurer and Pontil 2009, theorem 4): with
V the samples' variance, R their range and L = ln(3/δ),

    |mean − expectation| ≤ √(2 V L / N) + 3 R L / N    with probability 1 − δ,

which holds for any distribution, so a sparse codec is not reported for being skewed. δ is divided over all
comparisons so that an unbiased codec is reported with probability 10^-6 at most, where the samples' own range stands
for R, or the largest magnitude if that is more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import log, sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gannet.node.codecs.custom.load import GuardedCodec
from gannet.node.plugins import Finding

CONFIDENCE = 1e-6  # probability of a false report
REPEATS = 1000
_FLOAT32 = 1e-5  # relative rounding error of float32 arithmetic
_DIRECTIONS = 8

Floats = NDArray[np.float64]


def statistics(make: Callable[[int, int], GuardedCodec]) -> Iterator[Finding]:
    """Findings of bias, and of errors that are larger than declared."""
    codec = make(1, 0)
    if codec.casts:
        return
    cases = vectors()
    comparisons = sum(len(_projections(x)) for x in cases.values())
    for what, x in cases.items():
        exact = x.double().numpy()
        repeats = REPEATS if codec.unbiased else 20
        errors = np.stack([codec.decode(codec.encode(x)).double().numpy() - exact for _ in range(repeats)])
        relative = (errors**2).sum(axis=1) / max((exact**2).sum(), 1e-300)
        if codec.unbiased:
            findings = list(_biased(what, exact, errors, comparisons))
            if not findings and codec.codec.variance is not None:
                findings = list(_too_large(what, relative, codec.codec.variance))
            if findings:
                yield findings[0]
                return
        elif relative.mean() >= 1:
            yield Finding(
                "no-contraction",
                f"of {what} ‖Q(v) − v‖² is {relative.mean():.3g} ‖v‖² on average: an error memory would grow",
                "a biased codec must lose less than the vector itself: ‖Q(v) − v‖² ≤ (1 − δ) ‖v‖², δ > 0",
            )
            return


def vectors() -> dict[str, Tensor]:
    """Test vectors: short and long, even and with a spike."""
    draw = torch.Generator().manual_seed(7)
    normal = torch.randn(700, generator=draw)
    spike = 0.01 * torch.randn(64, generator=draw)
    spike[5] = 3.0
    return {
        "one value": torch.tensor([-0.7]),
        "7 normal values": normal[:7],
        "64 normal values": normal[7:71],
        "a spike among 64 values": spike,
        "700 normal values of many magnitudes": normal * torch.logspace(-2, 0, 700),
    }


def _projections(x: Tensor | Floats) -> Floats:
    """Directions in which the mean error is compared with 0, as rows: every axis of a short vector, and mixtures."""
    v = np.asarray(x, np.float64)
    signs = np.random.default_rng(3).choice([-1.0, 1.0], (_DIRECTIONS, len(v)))
    axes = np.eye(len(v)) if len(v) <= 64 else np.empty((0, len(v)))
    return np.concatenate([axes, v[None], np.sign(v)[None], np.ones((1, len(v))), signs])


def _biased(what: str, exact: Floats, errors: Floats, comparisons: int) -> Iterator[Finding]:
    directions = _projections(exact)
    samples = errors @ directions.T
    scale = np.abs(directions) @ np.abs(exact)
    mean = samples.mean(axis=0)
    # A value that is seldom rounded up may not have been once: its range is taken for the largest magnitude at least.
    spread = np.maximum(np.ptp(samples, axis=0), np.abs(directions).max(axis=1) * np.abs(exact).max())
    number = len(samples)
    confidence = log(3 * comparisons / CONFIDENCE)
    bound = np.sqrt(2 * samples.var(axis=0) * confidence / number) + 3 * spread * confidence / number
    excess = np.abs(mean) - bound - _FLOAT32 * scale
    if (excess <= 0).all():
        return
    worst = int(excess.argmax())
    axis = len(exact) <= 64 and worst < len(exact)
    where = f"value {worst} of {what}, {exact[worst]:.4g}, comes back" if axis else f"{what} come back"
    yield Finding(
        "biased",
        f"{where} with a mean error of {mean[worst]:.3g} over {number} payloads, where at most {bound[worst]:.3g} is "
        f"chance (confidence 1 − {CONFIDENCE:g})" + ("" if axis else ", summed along one direction"),
        "declare unbiased = False, or round at random so that the mean of what comes back is what went in",
    )


def _too_large(what: str, relative: Floats, variance: float) -> Iterator[Finding]:
    number, confidence = len(relative), log(3 * len(vectors()) / CONFIDENCE)
    chance = sqrt(2 * float(relative.var()) * confidence / number) + 3 * float(np.ptp(relative)) * confidence / number
    if (mean := float(relative.mean())) > variance + chance + _FLOAT32:
        yield Finding(
            "variance",
            f"of {what} E‖Q(v) − v‖² is {mean:.3g} ‖v‖² (± {chance:.2g}), and variance says {variance:g} at most",
            "declare the variance of the worst vector; choco and deepsqueeze diverge where it is too small",
        )
