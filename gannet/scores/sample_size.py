"""Whether there are enough images for a score to be meaningful. Each shortfall is one sentence for the user."""

from __future__ import annotations

from collections.abc import Collection

from gannet.scores.names import MetricName, title

KID_SUBSET_SIZE = 1000
IMAGES_A_CLASS = 10
IMAGES_A_NEIGHBOURHOOD = 1000


def shortfalls(
    network: str, size: int, classes: int, metrics: Collection[MetricName], real: int, generated: int
) -> tuple[str, ...]:
    """The shortfalls of scores of `generated` images against `real` ones.

    `network` is the feature network, `size` its number of features per image, `classes` its number of classes (0: it
    is not a classifier).
    """
    found = []
    for kind, count in (("generated", generated), ("real", real)):
        if count <= size:
            found.append(
                f"{title('frechet', network)}: {count:,} {kind} images for {size:,} features leave the covariance "
                f"rank-deficient and the distance too large: compare it only at equal numbers of images"
                + (f", or set score.samples above {size:,}" if kind == "generated" else "")
            )
    subset = min(real, generated)
    if "kid" in metrics and subset < KID_SUBSET_SIZE:
        found.append(
            f"{title('kid', network)}: subsets of {subset:,} images instead of {KID_SUBSET_SIZE:,}: still "
            f"unbiased, but with more variance than published figures"
        )
    if "inception-score" in metrics and generated < IMAGES_A_CLASS * classes:
        found.append(
            f"{title('inception-score', network)}: {generated:,} images for {classes:,} classes: the score is too low"
        )
    asked = [name for name in ("precision", "recall", "density", "coverage") if name in metrics]
    if asked and subset < IMAGES_A_NEIGHBOURHOOD:
        listed = ", ".join(asked)
        found.append(
            f"{listed} ({network} features): neighbourhoods among {subset:,} images of each kind instead of "
            f"{IMAGES_A_NEIGHBOURHOOD:,} or more are wide and give only coarse scores"
        )
    return tuple(found)
