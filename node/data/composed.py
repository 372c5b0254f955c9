"""Images with several tags, composed from those of a data set: a canvas of four places, some of them filled.

No set of tagged photographs can be shipped; here the tags of an image are the labels of the items on it.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from gannet.node.data.shard import Shard

PLACES = 4


def compose(shard: Shard, items: int, seed: int) -> Shard:
    """As many canvases as the shard has images, of the same size, each with 1 to `items` of the images in its
    quarters.

    Labels become sets, int64 with bit k for label k. The result depends only on (shard, items, seed) and uses only
    this shard's images. Raises ValueError for labels above 61 or items outside 1 to 4.
    """
    if not 1 <= items <= PLACES:
        raise ValueError(f"data.compose: 1 to {PLACES} items fit on a canvas, got {items}")
    if len(shard) and int(shard.labels.max()) > 61:
        raise ValueError(f"data.compose: labels must be below 62, got {int(shard.labels.max())}")
    random = np.random.default_rng([seed, 11])
    n, (channels, height, width) = len(shard), shard.images.shape[1:]
    shown = torch.from_numpy(random.integers(0, n, (n, items)))
    count = random.integers(1, items + 1, n)
    place = torch.from_numpy(random.permuted(np.tile(np.arange(PLACES), (n, 1)), axis=1)[:, :items].copy())
    taken = torch.from_numpy(np.arange(items) < count[:, None])
    small = F.avg_pool2d(shard.images.float(), 2).round_().byte()
    canvas = torch.zeros(n, PLACES, channels, height // 2, width // 2, dtype=torch.uint8)
    masks = torch.zeros(n, dtype=torch.int64)
    for item in range(items):
        rows = taken[:, item].nonzero().squeeze(1)
        which = shown[rows, item]
        canvas[rows, place[rows, item]] = small[which]
        masks[rows] |= 1 << shard.labels[which]
    quarters = canvas.view(n, 2, 2, channels, height // 2, width // 2)
    images = quarters.permute(0, 3, 1, 4, 2, 5).reshape(n, channels, height, width)
    return Shard(images.contiguous(), masks)
