"""The scores by name: which there are, what each is called on which network's features, and which way is better.

Importing this module does not import torch, so that a spec can be checked and a report written without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MetricName = Literal["frechet", "kid", "inception-score", "precision", "recall", "density", "coverage"]
Better = Literal["lower", "higher"]

CUSTOMARY: tuple[MetricName, ...] = ("frechet", "kid", "inception-score", "precision", "recall", "coverage")
"""What is measured unless a spec says otherwise, as far as the feature network can. With 1,000 images they cost
about as much again as the Fréchet distance alone; density costs no more, and says little that coverage does not."""

INCEPTION = "Inception"
"""The network on whose features the scores have the names that the field knows: FID, KID, Inception score."""


@dataclass(frozen=True)
class Metric:
    """short: its name in a heading. better: which way. source: where it is defined. what: in a few plain words."""

    short: str
    better: Better
    source: str
    what: str


METRICS: dict[MetricName, Metric] = {
    "frechet": Metric(
        "Fréchet distance",
        "lower",
        "Heusel et al. 2017",
        "how far mean and covariance of the generated images’ features are from the data’s; the score that decides",
    ),
    "kid": Metric(
        "kernel distance",
        "lower",
        "Bińkowski et al. 2018",
        "the squared maximum mean discrepancy of the features under the kernel (x·y/d + 1)³; unbiased, so that "
        "near 0 it may fall below 0",
    ),
    "inception-score": Metric(
        "classifier score",
        "higher",
        "Salimans et al. 2016",
        "how sure a classifier is of each image while all classes appear: from 1 to its number of classes",
    ),
    "precision": Metric(
        "precision",
        "higher",
        "Kynkäänniemi et al. 2019",
        "the share of generated images that lie among the real ones (closer to one than its 3rd nearest real "
        "neighbour); an outlier among the real ones has a wide neighbourhood, which flatters where there are few",
    ),
    "recall": Metric(
        "recall",
        "higher",
        "Kynkäänniemi et al. 2019",
        "the share of real images that lie among the generated ones",
    ),
    "density": Metric(
        "density",
        "higher",
        "Naeem et al. 2020",
        "in how many real images’ neighbourhoods a generated image lies, as a share of 5; 1 for the data itself, "
        "and more where images crowd together",
    ),
    "coverage": Metric(
        "coverage",
        "higher",
        "Naeem et al. 2020",
        "the share of real images with a generated one closer than their 5th nearest real neighbour",
    ),
}


def title(metric: MetricName, network: str) -> str:
    """What a score on this network's features may be called: "FID" only on Inception's, else with its network."""
    if network == INCEPTION and metric in ("frechet", "kid", "inception-score"):
        return {"frechet": "FID", "kid": "KID", "inception-score": "Inception score"}[metric]
    if metric == "inception-score":
        return f"{network} score"
    return f"{METRICS[metric].short} ({network} features)"
