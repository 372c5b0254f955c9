"""Are there enough images for a score to mean what it says? Each shortfall is one sentence for people."""

from __future__ import annotations

from collections.abc import Collection

from gannet.scores.names import MetricName, title

KID_SUBSET_SIZE = 1000
IMAGES_A_CLASS = 10
IMAGES_A_NEIGHBOURHOOD = 1000


def shortfalls(
    network: str, size: int, classes: int, metrics: Collection[MetricName], real: int, generated: int
) -> tuple[str, ...]:
    """What is too little in scores of `generated` images against `real` ones.

    network: of the features, `size` of them an image, and so many `classes` (0: it is no classifier).
    """
    found = []
    for kind, count in (("generated", generated), ("real", real)):
        if count <= size:
            found.append(
                f"{title('frechet', network)}: {count:,} {kind} images for {size:,} features leave the covariance "
                f"without full rank, and the distance too long: compare it at equal numbers of images only"
                + (f", or set score.samples above {size:,}" if kind == "generated" else "")
            )
    subset = min(real, generated)
    if "kid" in metrics and subset < KID_SUBSET_SIZE:
        found.append(
            f"{title('kid', network)}: subsets of {subset:,} images instead of {KID_SUBSET_SIZE:,}: it stays "
            f"unbiased, but varies more than published figures do"
        )
    if "inception-score" in metrics and generated < IMAGES_A_CLASS * classes:
        found.append(
            f"{title('inception-score', network)}: {generated:,} images for {classes:,} classes: it comes out too low"
        )
    asked = [name for name in ("precision", "recall", "density", "coverage") if name in metrics]
    if asked and subset < IMAGES_A_NEIGHBOURHOOD:
        listed = ", ".join(asked)
        found.append(
            f"{listed} ({network} features): neighbourhoods of {subset:,} images of either kind instead of "
            f"{IMAGES_A_NEIGHBOURHOOD:,} or more: wide, and coarse in what they tell"
        )
    return tuple(found)
