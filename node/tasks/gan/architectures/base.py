"""The interface that a task requires of a network, besides being a torch module."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Network(nn.Module, ABC):
    """A generator, or a critic: see the package for what they map to what."""

    mixes_samples = False
    """A sample's result depends on the others of its minibatch, as with BatchNorm; of interest in a critic."""

    @abstractmethod
    def initialise(self, name: str, tensor: Tensor, random: torch.Generator) -> None:
        """Fill a parameter's tensor, which is all zero, with its initial values."""
