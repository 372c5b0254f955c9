"""Labels as vectors, and which images of a shard are labelled."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def choose_labelled(labels: Tensor, count: int, seed: int) -> Tensor:
    """Indices of `count` images, sorted: one of each label in turn, at random within a label.

    Equal counts a label where the shard has enough of each; the same for one (labels, count, seed). Raises ValueError
    when the shard has fewer images.
    """
    if count > len(labels):
        raise ValueError(
            f"task.labels: this node's part is {count} labelled images, and its shard has {len(labels)}: "
            "ask for fewer, or leave labels out to use all"
        )
    random = np.random.default_rng([seed, 7])
    kinds = labels.numpy()
    turns: NDArray[np.int64] = np.empty(len(kinds), np.int64)
    shuffled = random.permutation(len(kinds))
    for kind in np.unique(kinds):
        members = shuffled[kinds[shuffled] == kind]
        turns[members] = np.arange(len(members))
    order = np.argsort(turns[shuffled], kind="stable")
    return torch.from_numpy(np.sort(shuffled[order][:count]))


def tag_matrix(masks: Tensor, classes: int) -> Tensor:
    """Label sets, int64 (n,) with bit k for tag k, as booleans (n, classes)."""
    return (masks.unsqueeze(1) >> torch.arange(classes)) % 2 == 1


def label_vectors(labels: Tensor, classes: int, tagging: bool) -> Tensor:
    """Vectors that sum to 1, float32 (n, classes): one-hot, or even over an image's tags.

    Raises ValueError for a label that is outside, or an image without tags.
    """
    if tagging:
        tags = tag_matrix(labels, classes)
        if bool((labels < 1).any() | (labels >= 1 << classes).any()):
            raise ValueError(
                f"task.classes: {classes} tags, but the data has other labels: sets of 1 to {classes} tags"
            )
        return tags.float() / tags.sum(1, keepdim=True)
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(f"task.classes is {classes}, but a label is {int(labels.max())}: set it to the count")
    return torch.nn.functional.one_hot(labels, classes).float()
