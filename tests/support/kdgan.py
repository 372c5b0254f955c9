"""Small KDGAN tasks for tests."""

from __future__ import annotations

from typing import Any

import torch

from gannet.node.data.shard import Shard
from gannet.node.tasks.kdgan.config import KdganConfig
from gannet.node.tasks.kdgan.task import KdganTask

SHAPE = (1, 8, 8)


def shard(n: int = 60, classes: int = 4, shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> Shard:
    """Noise, each class a bit brighter than the last."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    noise = torch.randint(0, 120, (n, *shape), generator=random)
    return Shard((noise + labels.view(-1, 1, 1, 1) * 30).to(torch.uint8), labels)


def small_config(**settings: Any) -> KdganConfig:
    small = {
        "classes": 4,
        "hidden": 6,
        "filters": 2,
        "features": 5,
        "pretrain_steps": 3,
        "gumbel_steps": 10,
    }
    return KdganConfig(name="kdgan", **{**small, **settings})


def small_task(rank: int = 0, world: int = 1, seed: int = 5, batch: int = 7, **settings: Any) -> KdganTask:
    held = shard()
    return KdganTask(
        small_config(**settings), SHAPE, seed, rank=rank, world=world, shard=held, test=lambda: held, batch=batch
    )
