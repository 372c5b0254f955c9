"""Tasks: what is trained. A task gives gradients for a flat parameter vector and knows nothing of peers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gannet.node.data.config import DataConfig
from gannet.node.tasks.config import (
    GameConfig,
    KdganConfig,
    MintyConfig,
    MixtureConfig,
    PythonTaskConfig,
    TaskConfig,
    TaskSetting,
)

if TYPE_CHECKING:
    import torch

    from gannet.node.data.shard import Shard
    from gannet.node.tasks.base import AnyTask
    from gannet.node.tasks.custom.base import Context


def needs_data(config: TaskSetting) -> bool:
    """Whether the task trains on a data set; a custom task may."""
    return not isinstance(config, (GameConfig, MintyConfig, MixtureConfig))


def build_task(
    config: TaskSetting,
    shard: Shard | None,
    rank: int,
    world: int,
    seed: int,
    batch: int,
    device: torch.device | str = "cpu",
) -> AnyTask:
    """The task as node `rank` of `world` sees it: its own shard of the data, its own random stream.

    shard: None where the task needs no data. seed decides the initial parameters and, with rank, every minibatch of
    `batch` samples. On CUDA, bit-equal gradients need torch.use_deterministic_algorithms(True).
    """
    if not 0 <= rank < world:
        raise ValueError(f"rank must be in 0 to {world - 1}, got {rank}")
    if needs_data(config) and shard is None:
        raise ValueError(f"task {config.name} trains on data: give it a shard")
    match config:
        case GameConfig():
            from gannet.node.tasks.games.game import GameTask

            return GameTask(config, rank, world, seed)
        case MintyConfig():
            from gannet.node.tasks.games.minty import minty_task

            return minty_task(config, rank, seed, batch)
        case MixtureConfig():
            from gannet.node.tasks.games.mixture import MixtureTask

            return MixtureTask(config, _context(rank, world, seed, batch, device))
        case PythonTaskConfig():
            from gannet.node.tasks.custom.load import build_custom

            return build_custom(config, _context(rank, world, seed, batch, device, shard))
        case TaskConfig():
            from gannet.node.tasks.gan.task import GanTask

            assert shard is not None
            channels, height, width = shard.images.shape[1:]
            return GanTask(
                config,
                (channels, height, width),
                seed,
                rank=rank,
                images=shard.images,
                labels=shard.labels,
                batch=batch,
                device=device,
            )
        case KdganConfig():
            from gannet.node.tasks.kdgan.task import KdganTask

            assert shard is not None
            shape = (shard.images.shape[1], shard.images.shape[2], shard.images.shape[3])
            return KdganTask(config, shape, seed, rank=rank, world=world, shard=shard, batch=batch, device=device)


def build_sampler(config: TaskSetting, data: DataConfig, device: torch.device | str = "cpu") -> AnyTask:
    """The same task without training data: its layout says what lies where in x, and it generates or evaluates."""
    match config:
        case GameConfig():
            from gannet.node.tasks.games.game import GameTask

            return GameTask(config, rank=0, world=1, seed=0)
        case MintyConfig():
            from gannet.node.tasks.games.minty import minty_task

            return minty_task(config, rank=0, seed=0, batch=1)
        case MixtureConfig():
            from gannet.node.tasks.games.mixture import MixtureTask

            return MixtureTask(config, _context(0, 1, 0, 1, device))
        case PythonTaskConfig():
            from gannet.node.tasks.custom.load import build_custom

            return build_custom(config, _context(0, 1, 0, 1, device, data=data))
        case TaskConfig():
            from gannet.node.tasks.gan.task import GanTask

            return GanTask(config, data.image_shape, seed=0, device=device)
        case KdganConfig():
            from gannet.node.data.datasets import load_split
            from gannet.node.tasks.kdgan.task import KdganTask

            return KdganTask(
                config, data.image_shape, seed=0, test=lambda: load_split(data, train=False), device=device
            )


def _context(
    rank: int,
    world: int,
    seed: int,
    batch: int,
    device: torch.device | str,
    shard: Shard | None = None,
    data: DataConfig | None = None,
) -> Context:
    import torch

    from gannet.node.tasks.custom.base import Context

    return Context(rank, world, seed, batch, torch.device(device), shard, data)
