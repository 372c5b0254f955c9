"""The mathematics of KDGAN. Shapes: n images, K labels; logits and label vectors are (n, K).

    min_{c,t} max_d  E_{p_u} log p_d + α E_{p_c} log(1 − p_d) + (1 − α) E_{p_t} log(1 − p_d)
                     + β L_DS(p_c, p_t) + γ L_DS(p_t, p_c)

p_c = softmax(C(x)), p_t = softmax(T(x)); the discriminator's score of an image with a label vector y is ⟨D(x), y⟩,
and p_d its sigmoid: one pass through D judges every label of the image. y is one-hot for a true label and lies
inside the simplex for a Gumbel-softmax sample.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def gumbel_sample(logits: Tensor, uniform: Tensor, tau: float) -> Tensor:
    """q = softmax((log p + g)/τ), g = −log(−log u): a continuous sample of p = softmax(logits); one-hot as τ → 0.

    uniform: u, independent and uniform on (0, 1), of the logits' shape.
    """
    noise = -torch.log(-torch.log(uniform))
    return F.softmax((F.log_softmax(logits, -1) + noise) / tau, -1)


def judge(scores: Tensor, labels: Tensor) -> Tensor:
    """The discriminator's logit of each image with its label vector, (n,)."""
    return (scores * labels).sum(-1)


def fooling_loss(
    scores: Tensor, fakes: Tensor, adversarial: Literal["minimax", "non-saturating"] = "minimax"
) -> Tensor:
    """The loss that C and T minimize: the mean of log(1 − p_d(x, fake)), or of −log p_d(x, fake).

    Both fall as p_d rises. The first is that of the game's value, and its slope vanishes where the discriminator is
    sure of a fake, which is where a player has most to learn; hence the second (Goodfellow et al. 2014, section 3).
    """
    logits = judge(scores, fakes)
    return F.logsigmoid(-logits).mean() if adversarial == "minimax" else -F.logsigmoid(logits).mean()


def discriminator_loss(
    scores: Tensor, real: Tensor, of_classifier: Tensor, of_teacher: Tensor | None, alpha: float
) -> Tensor:
    """−[log p_d(real) + α log(1 − p_d(C's)) + (1 − α) log(1 − p_d(T's))], a mean; without T, α is 1."""
    value = F.logsigmoid(judge(scores, real)).mean() + alpha * fooling_loss(scores, of_classifier)
    if of_teacher is not None:
        value = value + (1 - alpha) * fooling_loss(scores, of_teacher)
    return -value


def distillation(student: Tensor, source: Tensor, loss: Literal["l2", "kl"], temperature: float = 1.0) -> Tensor:
    """L_DS of the student's logits to the source's; the gradient goes to the student only.

    l2: mean over images and labels of (h − f)². kl: T² KL(softmax(f/T) ‖ softmax(h/T)), as Hinton et al. weigh it.
    """
    source = source.detach()
    if loss == "l2":
        return F.mse_loss(student, source)
    soft = F.log_softmax(student / temperature, -1)
    target = F.log_softmax(source / temperature, -1)
    return F.kl_div(soft, target, reduction="batchmean", log_target=True) * temperature**2


def supervised_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy to label vectors that sum to 1: one-hot, or even over an image's tags."""
    return F.cross_entropy(logits, labels)


def optimal_discriminator(p_u: Tensor, p_c: Tensor, p_t: Tensor, alpha: float) -> Tensor:
    """p_d = p_u / (p_u + α p_c + (1 − α) p_t), which maximises the value for fixed C and T."""
    return p_u / (p_u + alpha * p_c + (1 - alpha) * p_t)


def value(scores: Tensor, p_u: Tensor, p_c: Tensor, p_t: Tensor, alpha: float) -> Tensor:
    """The game's value without distillation, its expectations over labels taken exactly; a mean over images.

    scores: logits of p_d for each label. At the equilibrium p_c = p_t = p_u, p_d = ½, it is −log 4.
    """
    real = (p_u * F.logsigmoid(scores)).sum(-1)
    fake = ((alpha * p_c + (1 - alpha) * p_t) * F.logsigmoid(-scores)).sum(-1)
    return (real + fake).mean()
