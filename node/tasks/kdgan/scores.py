"""How good a classifier is: accuracy, and for tagging precision at k and mean average precision."""

from __future__ import annotations

import torch
from torch import Tensor

from gannet.node.tasks.kdgan.config import KdganConfig
from gannet.node.tasks.kdgan.labels import tag_matrix

PRECISION_AT = (1, 3)


def scores_of(logits: Tensor, labels: Tensor, config: KdganConfig) -> dict[str, float]:
    """Percentages by name: accuracy, or of tags map and precision_at_k. labels: as a Shard has them."""
    if config.kind == "classification":
        return {"accuracy": accuracy_percent(logits, labels)}
    tags = tag_matrix(labels, config.classes)
    found = {"map": 100 * mean_average_precision(logits, tags)}
    return found | {
        f"precision_at_{k}": 100 * precision_at(logits, tags, k) for k in PRECISION_AT if k <= config.classes
    }


def accuracy_percent(logits: Tensor, labels: Tensor) -> float:
    """Images whose largest logit is the label's, percent. logits (n, K), labels int64 (n,)."""
    return 100 * (logits.argmax(1) == labels).double().mean().item()


def precision_at(logits: Tensor, tags: Tensor, k: int) -> float:
    """P@k: the part of an image's k best-ranked labels that are its tags, a mean over images. tags: bool (n, K)."""
    return torch.gather(tags, 1, logits.topk(k, dim=1).indices).double().mean().item()


def mean_average_precision(logits: Tensor, tags: Tensor) -> float:
    """MAP: over an image's tags the mean of P@(rank of that tag), then the mean over images. tags: bool (n, K)."""
    from torchmetrics.functional.classification import multilabel_ranking_average_precision  # slow to import

    return float(multilabel_ranking_average_precision(logits, tags.long(), num_labels=tags.shape[1]))
