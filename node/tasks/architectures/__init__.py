"""Architectures: what generator and critic of a GAN look like, one module each, chosen by `task.architecture`.

A generator maps noise (n, latent) to images (n, C, H, W) in [-1, 1], a critic images to scores (n,); where the GAN is
class-conditional both also take labels (n,). Networks are built on the "meta" device and get their storage from
FlatModel, so they must hold float32 tensors only: no counters, and no state that mixing between nodes would spoil.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from node.tasks.architectures.base import Network
    from node.tasks.config import TaskConfig


def build_networks(config: TaskConfig, shape: tuple[int, int, int]) -> tuple[Network, Network]:
    """(generator, critic) for images of `shape` (C, H, W), on torch's current default device."""
    match config.architecture:
        case "small":
            from node.tasks.architectures import small

            generator = small.Generator(
                config.latent,
                config.generator_features,
                shape,
                config.generator_norm,
                config.batch_norm_buffers,
            )
            return generator, small.Critic(config.width, shape, spectral=config.loss == "hinge")
        case "dcgan":
            from node.tasks.architectures import dcgan

            return dcgan.Generator(config, shape), dcgan.Critic(config, shape)
        case "resnet":
            from node.tasks.architectures import resnet

            return resnet.Generator(config, shape), resnet.Critic(config, shape)
        case "sagan":
            from node.tasks.architectures import sagan

            return sagan.Generator(config, shape), sagan.Critic(config, shape)
