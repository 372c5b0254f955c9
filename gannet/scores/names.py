"""The scores by name: what each is called on which network's features, and which direction is better.

Importing this module does not import torch, so that a spec can be checked and a report written without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MetricName = Literal["frechet", "kid", "inception-score", "precision", "recall", "density", "coverage"]
Better = Literal["lower", "higher"]

CUSTOMARY: tuple[MetricName, ...] = ("frechet", "kid", "inception-score", "precision", "recall", "coverage")
"""Measured unless a spec says otherwise, as far as the feature network allows. With 1,000 images they double the time
of the Fréchet distance alone; density would take no longer, but says little that coverage does not."""

INCEPTION = "Inception"
"""The network on whose features the scores have the names known in the field: FID, KID, Inception score."""


@dataclass(frozen=True)
class Metric:
    """short: its name in a heading. better: which direction. source: where it is defined. what: a short
    explanation."""

    short: str
    better: Better
    source: str
    what: str


METRICS: dict[MetricName, Metric] = {
    "frechet": Metric(
        "Fréchet distance",
        "lower",
        "Heusel et al. 2017",
        "the distance between the images’ and the data’s means and covariances of features; the deciding score",
    ),
    "kid": Metric(
        "kernel distance",
        "lower",
        "Bińkowski et al. 2018",
        "the squared maximum mean discrepancy of the features under the kernel (x·y/d + 1)³; unbiased, so it "
        "can be slightly negative",
    ),
    "inception-score": Metric(
        "classifier score",
        "higher",
        "Salimans et al. 2016",
        "high if a classifier is certain of each image and all classes occur: from 1 to the number of classes",
    ),
    "precision": Metric(
        "precision",
        "higher",
        "Kynkäänniemi et al. 2019",
        "the share of generated images that lie among the real ones (closer to one than its 3rd nearest real "
        "neighbour); an outlier among few real images has a wide neighbourhood, which makes this too high",
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
        "the number of real images’ neighbourhoods that contain a generated image, divided by 5; 1 for the data "
        "itself, higher if the images cluster",
    ),
    "coverage": Metric(
        "coverage",
        "higher",
        "Naeem et al. 2020",
        "the share of real images with a generated one closer than their 5th nearest real neighbour",
    ),
}


def title(metric: MetricName, network: str) -> str:
    """A score's name on this network's features: "FID" only for Inception's, else with the network's name."""
    if network == INCEPTION and metric in ("frechet", "kid", "inception-score"):
        return {"frechet": "FID", "kid": "KID", "inception-score": "Inception score"}[metric]
    if metric == "inception-score":
        return f"{network} score"
    return f"{METRICS[metric].short} ({network} features)"
