"""Two clusters of nodes that average among themselves, and in every third round across: few long links are used.

The nodes 0 to world/2 - 1 are one cluster, the others the second. Look at it by
`gannet topology docs/examples/my_topology.py -n 8`; train on it by `gannet compare docs/examples/my_topology.yaml`.
"""

import numpy as np

from gannet import Graph, Settings


class Clusters(Graph):
    """Rounds 1 to every - 1: each node averages with all of its cluster. Round `every`: pairs across the clusters."""

    class Settings(Settings):
        every: int = 3

    def __init__(self, settings, world):
        super().__init__(settings, world)
        self.period = self.settings.every

    def matrix(self, number: int) -> np.ndarray:
        half = max(1, self.world // 2)
        weights = np.zeros((self.world, self.world))
        if number < self.period:
            weights[:half, :half] = 1 / half
            weights[half:, half:] = 1 / max(1, self.world - half)
            return weights
        np.fill_diagonal(weights, 1.0)
        for i in range(self.world // 2):  # of an odd number of nodes the last has no partner
            weights[np.ix_([i, half + i], [i, half + i])] = 0.5
        return weights
