"""Precision, recall, density and coverage: how two sets of points overlap, by their nearest neighbours.

The points are features of real images x_i and of generated ones y_j. B(x_i) is the ball around x_i whose radius
is the distance to its k-th nearest neighbour among the other x; likewise B(y_j) among the y. Then

    precision = share of the y_j in some B(x_i)      recall   = share of the x_i in some B(y_j)       k = 3
    density   = mean over j of #{i: y_j in B(x_i)}/k coverage = share of the x_i with some y_j in B(x_i)  k = 5

(Kynkäänniemi et al. 2019, "Improved precision and recall metric"; Naeem et al. 2020, "Reliable fidelity and
diversity metrics", k as each paper recommends). Balls are closed for precision and recall and open for density and
coverage, as in each paper's own code: the points themselves have a density of 1. All four depend on the number of
points.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

NEIGHBOURS = 3
NAEEM_NEIGHBOURS = 5
LEAST_POINTS = 1 + max(NEIGHBOURS, NAEEM_NEIGHBOURS)
"""Of each kind, so that every point has as many neighbours."""
ROWS = 1000
"""Rows of a distance matrix that are held in memory at a time."""


@dataclass(frozen=True)
class Overlap:
    """The four numbers; all but density are shares, 0 to 1."""

    precision: float
    recall: float
    density: float
    coverage: float


def overlap(
    real: Tensor, generated: Tensor, neighbours: int = NEIGHBOURS, naeem_neighbours: int = NAEEM_NEIGHBOURS
) -> Overlap:
    """real: (n, d); generated: (m, d), each with more points than neighbours; computed in double precision.

    Both sets are used whole: to compare runs, give equal numbers of both, as the papers do.
    """
    most = max(neighbours, naeem_neighbours)
    if min(len(real), len(generated)) <= most:
        raise ValueError(f"{most} nearest neighbours need at least {most + 1} points of each kind")
    x, y = real.double(), generated.double()
    near_x = _radii(x, (neighbours, naeem_neighbours))
    near_y = _radii(y, (neighbours,))
    in_real = torch.zeros(len(y), dtype=torch.bool, device=x.device)
    in_wide = torch.zeros(len(y), dtype=torch.long, device=x.device)
    in_generated, covered = [], []
    for start in range(0, len(x), ROWS):
        here = slice(start, start + ROWS)
        distance = torch.cdist(x[here], y)
        in_real |= (distance <= near_x[here, :1]).any(0)
        wide = distance < near_x[here, 1:]
        in_wide += wide.sum(0)
        covered.append(wide.any(1))
        in_generated.append((distance <= near_y.T).any(1))
    return Overlap(
        precision=_share(in_real),
        recall=_share(torch.cat(in_generated)),
        density=(in_wide.double().mean() / naeem_neighbours).item(),
        coverage=_share(torch.cat(covered)),
    )


def _radii(points: Tensor, neighbours: tuple[int, ...]) -> Tensor:
    """The distance of each point to its k-th nearest other point, (n, len(neighbours)), a column for each k."""
    found = []
    for start in range(0, len(points), ROWS):
        distance = torch.cdist(points[start : start + ROWS], points)
        # The nearest point is the point itself.
        nearest = distance.topk(max(neighbours) + 1, largest=False).values
        found.append(nearest[:, list(neighbours)])
    return torch.cat(found)


def _share(truths: Tensor) -> float:
    return truths.double().mean().item()
