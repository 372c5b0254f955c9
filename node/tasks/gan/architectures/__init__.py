"""Architectures: what generator and critic of a GAN look like, one module each, chosen by `task.architecture`.

A generator maps noise (n, latent) to images (n, C, H, W) in [-1, 1], a critic images to scores (n,); where the GAN is
class-conditional both also take labels (n,). Networks are built on the "meta" device and get their storage from
FlatModel, so they must hold float32 tensors only: no counters, and no state that mixing between nodes would spoil.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gannet.node.tasks.config import TaskConfig
    from gannet.node.tasks.gan.architectures.base import Network


def build_networks(config: TaskConfig, shape: tuple[int, int, int]) -> tuple[Network, Network]:
    """(generator, critic) for images of `shape` (C, H, W), on torch's current default device."""
    match config.architecture:
        case "small":
            from gannet.node.tasks.gan.architectures import small

            generator = small.Generator(
                config.latent,
                config.generator_features,
                shape,
                config.generator_norm,
                config.batch_norm_buffers,
            )
            return generator, small.Critic(config.width, shape, spectral=config.loss == "hinge")
        case "dcgan":
            from gannet.node.tasks.gan.architectures import dcgan

            return dcgan.Generator(config, shape), dcgan.Critic(config, shape)
        case "resnet":
            from gannet.node.tasks.gan.architectures import resnet

            return resnet.Generator(config, shape), resnet.Critic(config, shape)
        case "sagan":
            from gannet.node.tasks.gan.architectures import sagan

            return sagan.Generator(config, shape), sagan.Critic(config, shape)
