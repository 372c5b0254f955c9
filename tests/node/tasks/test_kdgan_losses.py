"""KDGAN's mathematics against the paper's theorems, by exact sums over a few labels."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gannet.node.tasks.kdgan.losses import (
    discriminator_loss,
    distillation,
    fooling_loss,
    gumbel_sample,
    optimal_discriminator,
    value,
)


def tables(seed: int = 0, images: int = 3, labels: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """p_u, p_c, p_t: a distribution over labels for each image."""
    random = torch.Generator().manual_seed(seed)
    draw = [torch.randn(images, labels, generator=random, dtype=torch.float64).softmax(-1) for _ in range(3)]
    return draw[0], draw[1], draw[2]


def uniform(shape: tuple[int, ...], seed: int = 1) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).clamp_min(1e-12)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.7, 1.0])
def test_the_discriminator_that_ascends_the_value_finds_the_formula(alpha: float) -> None:
    p_u, p_c, p_t = tables()
    scores = torch.zeros_like(p_u, requires_grad=True)
    climb = torch.optim.LBFGS(
        [scores], max_iter=200, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        climb.zero_grad()
        down = -value(scores, p_u, p_c, p_t, alpha)
        down.backward()
        return down

    climb.step(loss)
    found = torch.sigmoid(scores.detach())
    torch.testing.assert_close(found, optimal_discriminator(p_u, p_c, p_t, alpha), rtol=0, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.1, 0.5])
def test_the_equilibrium_is_minus_log_four_where_both_are_the_truth(alpha: float) -> None:
    """Free tables C and T against the best D, with the distillation that holds them together."""
    p_u, p_c, p_t = tables(3)
    c, t = p_c.log().requires_grad_(), p_t.log().requires_grad_()
    descend = torch.optim.LBFGS([c, t], max_iter=2000, tolerance_grad=1e-11, tolerance_change=0,
                                line_search_fn="strong_wolfe")  # fmt: skip

    def loss() -> Tensor:
        descend.zero_grad()
        classifier, teacher = c.softmax(-1), t.softmax(-1)
        best = torch.logit(optimal_discriminator(p_u, classifier, teacher, alpha))
        game = value(best, p_u, classifier, teacher, alpha)
        # of zero at the equilibrium, as in the paper's lemma 4.2; logits are compared, so centre them
        apart = F.mse_loss(c - c.mean(-1, keepdim=True), t - t.mean(-1, keepdim=True))
        total = game + apart
        total.backward()
        return total

    descend.step(loss)
    assert loss().item() == pytest.approx(-log(4), abs=1e-7)
    torch.testing.assert_close(c.detach().softmax(-1), p_u, rtol=0, atol=1e-3)
    torch.testing.assert_close(t.detach().softmax(-1), p_u, rtol=0, atol=1e-3)


def test_off_the_equilibrium_the_value_is_higher() -> None:
    p_u, p_c, p_t = tables(4)
    best = torch.logit(optimal_discriminator(p_u, p_c, p_t, 0.3))
    assert float(value(best, p_u, p_c, p_t, 0.3)) > -log(4) + 1e-3


def test_sampled_losses_are_on_average_the_value() -> None:
    """At τ → 0 samples are labels, and their mean is the exact sum."""
    alpha, n = 0.3, 40_000
    p_u, p_c, p_t = (table[:1] for table in tables(5))
    scores = torch.randn(1, 4, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    real = F.one_hot(torch.multinomial(p_u.expand(n, 4), 1, generator=torch.Generator().manual_seed(2))[:, 0], 4)
    fakes = [gumbel_sample(p.log().expand(n, 4), uniform((n, 4), s), 1e-3) for s, p in ((3, p_c), (4, p_t))]
    sampled = -discriminator_loss(scores.expand(n, 4), real.double(), fakes[0], fakes[1], alpha)
    exact = value(scores, p_u, p_c, p_t, alpha)
    assert float(sampled) == pytest.approx(float(exact), abs=5 / np.sqrt(n))


def test_gumbel_samples_have_the_classes_frequencies_and_become_one_hot() -> None:
    n = 40_000
    p = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    q = gumbel_sample(p.log().expand(n, 4), uniform((n, 4)), 0.01)
    often = q.argmax(1).bincount(minlength=4) / n
    assert (often - p).abs().max() < 4 * (0.25 / n) ** 0.5
    assert q.max(1).values.mean() > 0.99
    soft = gumbel_sample(p.log().expand(n, 4), uniform((n, 4)), 50.0)
    assert (soft - 0.25).abs().max() < 0.15
    torch.testing.assert_close(soft.sum(1), torch.ones(n, dtype=torch.float64))


def test_gumbel_gradient_varies_less_than_reinforce() -> None:
    """Of E_{y∼p_c} log(1 − p_d(y)) by the logits: the paper's reason to sample continuously."""
    n, logits = 4000, torch.tensor([0.5, -0.2, 0.1, 0.8], dtype=torch.float64)
    scores = torch.tensor([2.0, -1.0, 0.3, -2.5], dtype=torch.float64)
    h = logits.expand(n, 4).clone().requires_grad_()
    q = gumbel_sample(h, uniform((n, 4)), 0.5)
    (pathwise,) = torch.autograd.grad(fooling_loss(scores.expand(n, 4), q) * n, h)
    p = logits.softmax(0)
    labels = torch.multinomial(p.expand(n, 4), 1, generator=torch.Generator().manual_seed(1))[:, 0]
    score = F.one_hot(labels, 4) - p  # gradient of log p(y) by the logits
    reinforce = F.logsigmoid(-scores[labels]).unsqueeze(1) * score
    exact = torch.autograd.functional.jacobian(lambda h: (h.softmax(0) * F.logsigmoid(-scores)).sum(), logits)
    torch.testing.assert_close(reinforce.mean(0), exact, rtol=0, atol=0.1)
    assert float((pathwise.mean(0) * exact).sum()) > 0  # the same way down
    assert float(pathwise.var(0).sum()) < 0.5 * float(reinforce.var(0).sum())


def test_distillation_is_what_it_says_and_moves_the_student_only() -> None:
    random = torch.Generator().manual_seed(0)
    h = torch.randn(5, 4, generator=random, dtype=torch.float64, requires_grad=True)
    f = torch.randn(5, 4, generator=random, dtype=torch.float64, requires_grad=True)
    assert distillation(h, f, "l2").item() == pytest.approx(((h - f) ** 2).sum().item() / 20)
    soft, hard = (h / 3).softmax(1), (f / 3).softmax(1)
    assert distillation(h, f, "kl", 3.0).item() == pytest.approx(9 * (hard * (hard / soft).log()).sum().item() / 5)
    for kind in ("l2", "kl"):
        gradients = torch.autograd.grad(distillation(h, f, kind, 3.0), (h, f), allow_unused=True)  # type: ignore[arg-type]
        assert gradients[0].abs().sum() > 0
        assert gradients[1] is None


def test_kl_at_a_high_temperature_is_l2_on_centred_logits() -> None:
    """Hinton et al. 2015, section 2.1: for T → ∞, T² KL → |h − f|²/(2K) of zero-mean logits."""
    h, f = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    h, f = h - h.mean(1, keepdim=True), f - f.mean(1, keepdim=True)
    limit = ((h - f) ** 2).sum(1).mean() / (2 * 4)
    assert float(distillation(h, f, "kl", 1e3)) == pytest.approx(float(limit), rel=1e-2)
