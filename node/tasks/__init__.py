"""Tasks: what is trained. A task gives gradients for a flat parameter vector and knows nothing of peers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from node.data.datasets import Shard
    from node.tasks.base import Task
    from node.tasks.config import DataConfig, GameConfig, TaskConfig
    from node.tasks.game import GameTask
    from node.tasks.gan import GanTask


def build_task(
    config: TaskConfig,
    shard: Shard,
    rank: int,
    world: int,
    seed: int,
    batch: int,
    device: torch.device | str = "cpu",
) -> Task:
    """The task as node `rank` of `world` sees it: its own shard of the data, its own random stream.

    seed decides the initial parameters and, with rank, every minibatch of `batch` images. On CUDA, bit-equal
    gradients need torch.use_deterministic_algorithms(True).
    """
    from node.tasks.gan import GanTask

    if not 0 <= rank < world:
        raise ValueError(f"rank must be in 0 to {world - 1}, got {rank}")
    channels, height, width = shard.images.shape[1:]
    return GanTask(
        config, (channels, height, width), seed, rank=rank, images=shard.images, batch=batch, device=device
    )


def build_game(config: GameConfig, rank: int, world: int, seed: int) -> GameTask:
    """A min-max game as node `rank` of `world` sees it: with its own noise and its own part of the spread."""
    from node.tasks.game import GameTask

    return GameTask(config, rank, world, seed)


def build_sampler(config: TaskConfig, data: DataConfig, device: torch.device | str = "cpu") -> GanTask:
    """The same task without data: it can generate images, and its layout says what lies where in x."""
    from node.tasks.gan import GanTask

    return GanTask(config, data.image_shape, seed=0, device=device)
