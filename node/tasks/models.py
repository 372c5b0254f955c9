"""The small GAN under the address it had when it was the only one; see node.tasks.architectures.small."""

from node.tasks.architectures.small import Critic, Generator
from node.tasks.architectures.spectral import spectral_norm

__all__ = ["Critic", "Generator", "spectral_norm"]
