"""Losses of a GAN's players, and their derivatives by each sample's score."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Loss = Literal["non-saturating", "wgan-gp", "hinge"]
SATURATED = 2.0**-40
"""Weight of a fake whose loss is saturated. Zero would also wipe out the generator's gradient, which flows
through the same backward pass; 2**-40 is lost in the rounding of the critic's sum and divides out exactly."""


class Verdict(NamedTuple):
    """The critic's loss without its penalty, and the losses' derivatives by the scores s of a minibatch of n samples.

    real: -n times the critic's by a real image's score; fake: n times the critic's by a fake's, above zero always;
    climb: -n times the generator's by a fake's. Each (n,).
    """

    loss: Tensor
    real: Tensor
    fake: Tensor
    climb: Tensor


def judge(loss: Loss, on_real: Tensor, on_fake: Tensor) -> Verdict:
    """wgan-gp: mean s_fake − mean s_real. hinge: mean max(0, 1 − s_real) + mean max(0, 1 + s_fake).

    non-saturating: −mean log σ(s_real) − mean log σ(−s_fake), the critic's score being the logit.
    """
    ones = torch.ones_like(on_fake)
    if loss == "hinge":
        value = (1 - on_real).relu().mean() + (1 + on_fake).relu().mean()
        return Verdict(value, (on_real < 1).float(), torch.where(on_fake > -1, 1.0, SATURATED), ones)
    if loss == "wgan-gp":
        return Verdict(on_fake.mean() - on_real.mean(), torch.ones_like(on_real), ones, ones)
    value = F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
    return Verdict(value, (-on_real).sigmoid(), on_fake.sigmoid().clamp(min=SATURATED), (-on_fake).sigmoid())


def generator_loss(loss: Loss, on_fake: Tensor) -> Tensor:
    """−mean s_fake; non-saturating: −mean log σ(s_fake)."""
    return F.softplus(-on_fake).mean() if loss == "non-saturating" else -on_fake.mean()
